"""What the benchmarks share: rounds, memory, processes and tables."""

import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Hashable, Iterable, List, Sequence
from unittest import mock

import mmblvnet  # noqa: F401
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope


def set_up(threads: int) -> None:
    """Set the number of threads, find MMAction2's modules, and be quiet."""
    torch.set_num_threads(threads)
    init_default_scope('mmaction')
    # Some backbones tell at length how they are initialized.
    MMLogger.get_current_instance().setLevel(logging.WARNING)


def interleave(
    runs: Dict[Hashable, Callable[[], Any]], warm_up: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Dict[Hashable, List[float]]:
    """Seconds of each run, once per round, so that all meet the same machine.

    The rounds of warm-up come first and do not count.
    """
    times = {key: [] for key in runs}
    for number in range(warm_up + rounds):
        for key, run in runs.items():
            start = clock()
            run()
            taken = clock() - start
            if number >= warm_up:
                times[key].append(taken)
    return times


def peak_memory(run: Callable[[], Any] = lambda: None) -> float:
    """The peak of this process in MiB while something runs."""
    Path('/proc/self/clear_refs').write_text('5')
    run()
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) / 2**10


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """What a function returns in a process of its own, as many threads."""
    # Or glibc keeps what was freed, as much as it likes.
    with mock.patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_='131072'):
        with ProcessPoolExecutor(1, get_context('spawn'), set_up, (torch.get_num_threads(),)) as pool:
            return pool.submit(function, *args).result()


def spread(values: Sequence[float], form: str = '.2f', middle: Callable = median) -> str:
    """The middle, the lowest and the highest value."""
    return f'{middle(values):{form}} ({min(values):{form}} to {max(values):{form}})'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ['---'] * len(columns), *rows]
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    return text.replace('|  |', '| |')
