"""Where the time of a network goes on a CPU, by families of operators.

Example:
    python tools/profile_operators.py --row blvnet_tam
"""
import argparse
import logging
from collections import defaultdict
from typing import Callable, Dict

import benchmark
import torch
from mmengine.logging import MMLogger
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

FAMILIES = {
    'convolution': ('conv', ),
    'norm': ('batch_norm', ),
    'temporal module': ('Blend', 'addcmul', 'aten::mul', 'aten::sum'),
    'ReLU and sums of branches':
    ('clamp_min', 'relu', 'threshold', 'aten::add'),
    'pooling and resizing': ('pool', 'upsample'),
    'new memory': ('fill', 'zero', 'copy', 'empty', 'clone'),
}


def family(operator: str) -> str:
    """The family that an operator belongs to."""
    for name, parts in FAMILIES.items():
        if any(part in operator for part in parts):
            return name
    return 'others'


def profile_families(run: Callable[[], None],
                     rounds: int) -> Dict[str, float]:
    """Seconds per run that each family of operators takes itself.

    Args:
        run (Callable): What to run.
        rounds (int): How often, after two runs that do not count.

    Returns:
        dict[str, float]: Seconds, the longest first.
    """
    for _ in range(2):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(rounds):
            run()
    seconds = defaultdict(float)
    for event in profiler.key_averages():
        taken = event.self_cpu_time_total / 1e6 / rounds
        seconds[family(event.key)] += taken
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def convolution_flops(run: Callable[[], None]) -> int:
    """Floating point operations of the convolutions of a run."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()['Global']
    return sum(n for op, n in counts.items() if 'convolution' in str(op))


def peak_flops_per_second(rounds: int = 5) -> float:
    """What the machine reaches in a large product or convolution."""
    matrix = torch.randn(2048, 2048)
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1, bias=False)
    convolution = convolution.to(memory_format=torch.channels_last)
    maps = torch.randn(16, 256, 28, 28)
    maps = maps.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return max(
            _best_flops_per_second(lambda: matrix @ matrix, rounds),
            _best_flops_per_second(lambda: convolution(maps), rounds))


def _best_flops_per_second(run: Callable[[], None], rounds: int) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    times = [benchmark.seconds(run) for _ in range(rounds)]
    return counter.get_total_flops() / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--row', choices=benchmark.ROWS, default='blvnet_tam')
    parser.add_argument('--rounds', type=int, default=5)
    args, rest = parser.parse_known_args()
    options = benchmark.parse_args(['--rows', args.row, *rest])
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    torch.set_num_threads(options.threads)
    row = benchmark.ROWS[args.row]
    network = benchmark.Network(row, options, options.clips)
    peaks, reached = [], {}
    for mode, run in (('inference', network.infer),
                      ('training', network.train)):
        seconds = profile_families(run, args.rounds)
        total = sum(seconds.values())
        print(f'\n{row.name}, {mode}: {total:.3f} s per run\n\n'
              '| operators | share |\n| --- | --- |')
        for name, taken in seconds.items():
            print(f'| {name} | {100 * taken / total:.1f} % |')
        reached[mode] = convolution_flops(run) / seconds['convolution']
        # It moves with what else the machine does.
        peaks.append(peak_flops_per_second())
    peak = max(peaks)
    for mode, flops in reached.items():
        print(f'\nConvolutions reach {flops / 1e9:.0f} GFLOP/s in {mode}, '
              f'{100 * flops / peak:.0f} % of the {peak / 1e9:.0f} GFLOP/s of '
              'the fastest large product or convolution')


if __name__ == '__main__':
    main()
