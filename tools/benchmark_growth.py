"""How time and memory grow with frames, input size and views.

For one network, by one variable at a time: the frames of a clip, the height
and width of the input, and the views of a video in test, with and without a
bound on the views that are computed at a time (``max_testing_views``).

Example:
    python tools/benchmark_growth.py --out work_dirs/growth
"""
import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List, Optional

import benchmark
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmblvnet.models.common.folding import fold_norms

FRAMES = (8, 16, 32, 64)
SIZES = (112, 160, 224, 288, 320)
VIEWS = (1, 3, 9, 30)


def measure_clip(args: argparse.Namespace, frames: int, size: int) -> dict:
    """Seconds and MiB per clip.

    Args:
        args (Namespace): The options of the command.
        frames (int): Frames of the clip.
        size (int): Its height and width.

    Returns:
        dict: Seconds and MiB, of inference and training.
    """
    argv = [
        '--rows', args.row, '--frames', str(frames), '--size', str(size),
        '--rounds', str(args.rounds), '--warm-up', '1', '--threads',
        str(args.threads)
    ]
    options = benchmark.parse_args(argv)
    speeds = benchmark.measure_speeds(options)[args.row]
    memory = benchmark.measure_memory(options, argv)[args.row]
    result = {}
    for mode in ('inference', 'training'):
        result[f'{mode}, s'] = 1 / speeds[mode][0]
        result[f'{mode}, MiB'] = memory[mode]
    return result


def measure_views(args: argparse.Namespace) -> List[float]:
    """Seconds and MiB of a test of one video. For a fresh process.

    Args:
        args (Namespace): The options, with the number of views and the bound.

    Returns:
        list[float]: Seconds, and the growth of the peak in MiB.
    """
    views, bound = args.views_of
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(
                type='BLVNet', depth=50, frame_output='pair'),
            cls_head=dict(
                type='TSMHead',
                num_classes=174,
                in_channels=2048,
                num_segments=8,
                average_clips='score'),
            # This counts frames.
            test_cfg=dict(max_testing_views=16 * bound) if bound else None))
    model = fold_norms(model)
    clips = torch.randn(1, views * 16, 3, args.size, args.size)

    def test() -> None:
        with torch.inference_mode():
            model(clips, [ActionDataSample()], mode='predict')

    benchmark.forget_peak()
    before = benchmark.peak_memory()
    test()
    peak = benchmark.peak_memory()
    times = [benchmark.seconds(test) for _ in range(args.rounds)]
    return [median(times), peak - before]


def views_in_fresh_process(argv: List[str], views: int,
                           bound: Optional[int]) -> dict:
    result = subprocess.run(
        [sys.executable, __file__, *argv, '--views-of', str(views),
         str(bound or 0)],
        env=dict(os.environ, MALLOC_MMAP_THRESHOLD_='131072'),
        check=True,
        stdout=subprocess.PIPE,
        text=True)
    seconds, memory = map(float, result.stdout.split()[-2:])
    name = f'at most {bound} at a time' if bound else 'all at a time'
    return {f'{name}, s': seconds, f'{name}, MiB': memory}


def table(variable: str, results: Dict[int, dict]) -> str:
    """Results as a Markdown table, each with its growth since the first."""
    columns = list(next(iter(results.values())))
    lines = [f'| {variable} | ' + ' | '.join(columns) + ' |',
             '| --- ' * (1 + len(columns)) + '|']
    first = next(iter(results.values()))
    for value, result in results.items():
        cells = [f'{result[c]:.3g} (x {result[c] / first[c]:.2f})'
                 for c in columns]
        lines.append(f'| {value} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def plot(all_results: Dict[str, Dict[int, dict]], file: Path) -> None:
    """Draw seconds and MiB over each variable."""
    from matplotlib.figure import Figure
    figure = Figure((12, 6.5), layout='constrained')
    panels = figure.subplots(2, len(all_results), squeeze=False)
    for column, (variable, results) in zip(panels.T, all_results.items()):
        # Pixels, not sides, are what the cost should be linear in.
        position: Callable[[int], int] = lambda v: v
        if variable == 'size':
            position = lambda v: v * v  # noqa: E731
        for panel, unit in zip(column, ('s', 'MiB')):
            for name in next(iter(results.values())):
                if name.endswith(f', {unit}'):
                    panel.plot([position(v) for v in results],
                               [r[name] for r in results.values()],
                               marker='o', label=name.rpartition(',')[0])
            panel.set_xticks([position(v) for v in results],
                             [str(v) for v in results])
            panel.set_xlim(0)
            panel.set_ylim(0)
            panel.set_xlabel(variable)
            panel.set_ylabel(unit)
            panel.legend()
    figure.savefig(file, dpi=120)


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--row', choices=benchmark.ROWS, default='blvnet_tam')
    parser.add_argument('--frames', type=int, nargs='*', default=FRAMES)
    parser.add_argument('--size', type=int, default=224,
                        help='height and width where they are not varied')
    parser.add_argument('--sizes', type=int, nargs='*', default=SIZES)
    parser.add_argument('--views', type=int, nargs='*', default=VIEWS)
    parser.add_argument('--bound', type=int, default=3,
                        help='max_testing_views of the bounded tests')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', type=Path, help='folder for tables and plot')
    # What the command calls itself with in a fresh process.
    parser.add_argument('--views-of', type=int, nargs=2,
                        help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    if args.views_of:
        print(*measure_views(args))
        return
    results = {
        'frames': {n: measure_clip(args, n, args.size) for n in args.frames},
        'size': {n: measure_clip(args, 16, n) for n in args.sizes},
        'views': {
            n: {
                **views_in_fresh_process(argv, n, None),
                **views_in_fresh_process(argv, n, args.bound)
            }
            for n in args.views
        }
    }
    results = {k: v for k, v in results.items() if v}
    tables = '\n'.join(table(*item) for item in results.items())
    print(tables)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / 'growth.md').write_text(tables, 'utf-8')
        (args.out / 'growth.json').write_text(json.dumps(results, indent=2))
        plot(results, args.out / 'growth.png')


if __name__ == '__main__':
    main(sys.argv[1:])
