"""Where the time of a network goes on a CPU, by families of operators.

Example:
    python tools/analysis/profile_operators.py --row blvnet_tam
"""
import argparse
from collections import defaultdict
from typing import Callable, Dict

import _tools  # noqa: F401
import benchmark
import torch
from benchmark_harness import interleave, set_up, table
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
    """Seconds per run of each family of operators, the longest first."""
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


def count_flops(run: Callable[[], None], operators: str = '') -> int:
    """Floating point operations of those operators whose names have this."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()['Global']
    return sum(n for op, n in counts.items() if operators in str(op))


@torch.inference_mode()
def peak_flops_per_second(rounds: int = 5) -> float:
    """What the machine reaches in a large product or convolution."""
    matrix = torch.randn(2048, 2048)
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1, bias=False)
    convolution = convolution.to(memory_format=torch.channels_last)
    maps = torch.randn(16, 256, 28, 28)
    maps = maps.to(memory_format=torch.channels_last)
    runs = [lambda: matrix @ matrix, lambda: convolution(maps)]
    times = interleave(dict(enumerate(runs)), 1, rounds)
    return max(count_flops(run) / min(times[i]) for i, run in enumerate(runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--row', choices=benchmark.ROWS, default='blvnet_tam')
    parser.add_argument('--rounds', type=int, default=5)
    args, rest = parser.parse_known_args()
    options = benchmark.parse_args(['--rows', args.row, *rest])
    set_up(options.threads)
    network = benchmark.Network(args.row, options, options.clips)
    peaks, reached = [], {}
    for mode in benchmark.row_of(args.row).modes:
        run = getattr(network, mode)
        seconds = profile_families(run, args.rounds)
        total = sum(seconds.values())
        print(f'\n{benchmark.ROWS[args.row].name}, {mode}: {total:.3f} s per '
              'run\n')
        print(table(['operators', 'share'],
                    [[name, f'{100 * taken / total:.1f} %']
                     for name, taken in seconds.items()]))
        flops = count_flops(run, 'convolution')
        reached[mode] = flops / seconds['convolution']
        # It moves with what else the machine does.
        peaks.append(peak_flops_per_second())
    peak = max(peaks)
    for mode, flops in reached.items():
        print(f'\nConvolutions reach {flops / 1e9:.0f} GFLOP/s in {mode}, '
              f'{100 * flops / peak:.0f} % of the {peak / 1e9:.0f} GFLOP/s of '
              'the fastest large product or convolution')


if __name__ == '__main__':
    main()
