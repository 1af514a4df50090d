"""Loading checkpoints of strangers."""
import contextlib
import re
from pathlib import Path
from typing import Any, Dict, Iterator

import torch
from torch import Tensor

# What interpreting a small file may take beyond a multiple of its size.
HEADROOM = 256 * 2**20
# The driver of a GPU takes memory when it likes.
GPU_HEADROOM = 4 * 2**30


def load_safely(file: Path, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint without running any code in it.

    Args:
        file (Path): The file.
        map_location: As for ``torch.load``. Defaults to ``'cpu'``.

    Returns:
        dict: Its content.

    Raises:
        ValueError: If it is no checkpoint, holds more than data, or takes
            much more memory than its size.
        OSError: If there is no such file, or it cannot be read.
    """
    with file.open('rb') as stream:
        try:
            with memory_limit(4 * file.stat().st_size + _headroom()):
                content = torch.load(
                    stream, map_location=map_location, weights_only=True)
        except Exception as error:
            raise ValueError(
                f'{file} is no checkpoint that can be loaded safely '
                f'({type(error).__name__}): {str(error)[:999]}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} holds a {type(content).__name__} instead '
                         'of a state dict')
    return content


def _headroom() -> int:
    return GPU_HEADROOM if torch.cuda.is_initialized() else HEADROOM


def data_only(weights: dict) -> Dict[str, Tensor]:
    """Refuse what only looks like weights.

    Args:
        weights (dict): A state dict from a file.

    Returns:
        dict: Its tensors, detached.

    Raises:
        ValueError: If it is no state dict, or has a tensor with fewer values
            than its shape says.
    """
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in weights.items()):
        raise ValueError('it holds no state dict, neither by itself nor as '
                         "'state_dict'")
    for name, value in weights.items():
        # Only then is the memory for work on it bounded by the file's size.
        if (value.layout != torch.strided or value.is_meta
                or value.is_quantized or value.numel() * value.itemsize >
                value.untyped_storage().nbytes()):
            raise ValueError(f'{name!r:.99} has not all the values that its '
                             'shape says')
    return {name: value.detach() for name, value in weights.items()}


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
