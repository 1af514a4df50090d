"""How time and memory grow with frames, input size and views.

For one network, by one variable at a time: the frames of a clip, the height
and width of the input, and the views of a video in test, with and without a
bound on the views that are computed at a time (``max_testing_views``).

Example:
    python tools/analysis/benchmark_growth.py --out work_dirs/growth
"""
import sys
from argparse import Namespace
from pathlib import Path
from typing import Dict, List

import _tools  # noqa: F401
import benchmark
import torch
from benchmark_harness import (in_fresh_process, interleave, make_parser,
                               median, peak_memory, set_up, table, write)
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmblvnet.apis import accelerate

# Views at a time (max_testing_views) of the bounded tests.
BOUND = 3


def measure_clip(frames: int, size: int, rounds: int) -> dict:
    """Seconds and MiB per clip, of inference and training."""
    measured, = benchmark.measure(benchmark.parse_args([
        '--rows', 'blvnet_tam', '--frames', str(frames), '--size', str(size),
        '--rounds', str(rounds), '--warm-up', '1'])).values()
    result = {}
    for mode in benchmark.MODES:
        result[f'{mode}, s'] = 1 / measured[mode][0]
        result[f'{mode}, MiB'] = measured['memory'][mode]
    return result


def measure_views(views: int, bound: int, args: Namespace) -> dict:
    """Seconds and MiB of a test of one video. For a fresh process.

    At most ``bound`` views are computed at a time; 0 is for all.
    """
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(type='BLVNet', depth=50, frame_output='pair'),
            cls_head=dict(
                type='TSMHead', num_classes=174, in_channels=2048,
                num_segments=8, average_clips='score'),
            # This counts frames.
            test_cfg=dict(max_testing_views=16 * bound) if bound else None))
    model.eval()
    accelerate(model.backbone)
    clips = torch.randn(1, views * 16, 3, args.size, args.size)

    def test() -> None:
        with torch.inference_mode():
            model(clips, [ActionDataSample()], mode='predict')

    grown = -peak_memory() + peak_memory(test)
    times = interleave({views: test}, 0, args.rounds)[views]
    name = f'at most {bound} at a time' if bound else 'all at a time'
    return {f'{name}, s': median(times), f'{name}, MiB': grown}


def growth_table(variable: str, results: Dict[int, dict]) -> str:
    """Results as a Markdown table, each with its growth since the first."""
    first = next(iter(results.values()))
    return table([variable, *first], [[
        str(value), *(f'{result[c]:.3g} (x {result[c] / first[c]:.2f})'
                      for c in first)] for value, result in results.items()])


def plot(all_results: Dict[str, Dict[int, dict]], file: Path) -> None:
    """Draw seconds and MiB over each variable."""
    from matplotlib.figure import Figure
    figure = Figure((12, 6.5), layout='constrained')
    panels = figure.subplots(2, len(all_results), squeeze=False)
    for column, (variable, results) in zip(panels.T, all_results.items()):
        # Pixels, not sides, are what the cost should be linear in.
        positions = [n * n if variable == 'size' else n for n in results]
        for name in next(iter(results.values())):
            column[int(name.endswith('MiB'))].plot(
                positions, [r[name] for r in results.values()], marker='o',
                label=name.rpartition(',')[0])
        for panel, unit in zip(column, ('s', 'MiB')):
            panel.set_xticks(positions, results)
            panel.set(xlim=(0, None), ylim=(0, None), xlabel=variable,
                      ylabel=unit)
            panel.legend()
    figure.savefig(file, dpi=120)


def main(argv: List[str]) -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument(
        '--frames', type=int, nargs='*', default=[8, 16, 32, 64])
    parser.add_argument('--size', type=int, default=224,
                        help='height and width where they are not varied')
    parser.add_argument(
        '--sizes', type=int, nargs='*', default=[112, 160, 224, 288, 320])
    parser.add_argument('--views', type=int, nargs='*', default=[1, 3, 9, 30])
    parser.add_argument('--out', type=Path, help='folder for tables and plot')
    args = parser.parse_args(argv)
    set_up(args.threads)
    results = {
        'frames': {n: measure_clip(n, args.size, args.rounds)
                   for n in args.frames},
        'size': {n: measure_clip(16, n, args.rounds) for n in args.sizes},
        'views': {
            n: {**in_fresh_process(measure_views, n, 0, args),
                **in_fresh_process(measure_views, n, BOUND, args)}
            for n in args.views
        }
    }
    results = {k: v for k, v in results.items() if v}
    text = '\n'.join(growth_table(*item) for item in results.items())
    print(text)
    if args.out:
        write(args.out, 'growth', results, text)
        plot(results, args.out / 'growth.png')


if __name__ == '__main__':
    main(sys.argv[1:])
