"""Loading checkpoints of strangers."""
import contextlib
import re
from pathlib import Path
from typing import Iterator

import torch

# What interpreting a small file may take beyond a multiple of its size.
HEADROOM = 256 * 2**20


def load_safely(file: Path) -> dict:
    """Load a checkpoint without running any code in it.

    Args:
        file (Path): The file.

    Returns:
        dict: Its content.

    Raises:
        ValueError: If it is no checkpoint, holds more than data, or takes
            much more memory than its size.
        OSError: If there is no such file, or it cannot be read.
    """
    with file.open('rb') as stream:
        try:
            with memory_limit(4 * file.stat().st_size + HEADROOM):
                content = torch.load(
                    stream, map_location='cpu', weights_only=True)
        except Exception as error:
            raise ValueError(
                f'{file} is no checkpoint that can be loaded safely '
                f'({type(error).__name__}): {str(error)[:999]}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} holds a {type(content).__name__} instead '
                         'of a state dict')
    return content


@contextlib.contextmanager
def memory_limit(extra: int) -> Iterator[None]:
    """Bound the memory that this process may take in addition.

    Compressed records and a few bytes that ask for a large object both make
    a small file large in memory. Only Linux can bound that.

    Args:
        extra (int): Bytes.
    """
    status = Path('/proc/self/status')
    if not status.exists():
        yield
        return
    import resource
    used = int(re.search(r'VmData:\s+(\d+) kB', status.read_text())[1]) * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [n for n in (soft, hard) if n != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(
        [used + extra, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
