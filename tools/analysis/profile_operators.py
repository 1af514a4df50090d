"""Where the time of a network goes on a CPU, by families of operators.

Takes the options of tools/benchmark.py.

Example:
    python tools/analysis/profile_operators.py --rows blvnet_tam
"""
import sys
from collections import defaultdict
from typing import Callable, Dict, List

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
    interleave({0: run}, 2, 0)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        interleave({0: run}, 0, rounds)
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
    convolution.to(memory_format=torch.channels_last)
    maps = torch.randn(16, 256, 28, 28).to(memory_format=torch.channels_last)
    runs = [lambda: matrix @ matrix, lambda: convolution(maps)]
    times = interleave(dict(enumerate(runs)), 1, rounds)
    return max(count_flops(run) / min(times[i]) for i, run in enumerate(runs))


def main(argv: List[str]) -> None:
    args = benchmark.parse_args(['--rows', 'blvnet_tam', *argv])
    set_up(args.threads)
    for key in args.rows:
        network = benchmark.Network(key, args, args.clips)
        for mode in benchmark.row_of(key).modes:
            run = getattr(network, mode)
            seconds = profile_families(run, args.rounds)
            total = sum(seconds.values())
            print(f'\n{benchmark.row_of(key).name}, {mode}: {total:.3f} s per '
                  'run\n')
            print(table(['operators', 'share'],
                        [[name, f'{100 * taken / total:.1f} %']
                         for name, taken in seconds.items()]))
            flops = count_flops(run, 'convolution') / seconds['convolution']
            # Measured each time, as it moves with what else the machine does.
            peak = peak_flops_per_second()
            print(f'Convolutions reach {flops / 1e9:.0f} GFLOP/s, '
                  f'{100 * flops / peak:.0f} % of the {peak / 1e9:.0f} '
                  'GFLOP/s of the fastest large product or convolution')


if __name__ == '__main__':
    main(sys.argv[1:])
