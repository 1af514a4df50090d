"""Loading checkpoints of strangers."""
import contextlib
import math
import re
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

TENSORS = (Tensor, nn.Parameter)
VALUES = (str, bytes, bytearray, bool, int, float, complex, type(None),
          torch.Size, torch.dtype, torch.device)

# What interpreting a small file may take beyond a multiple of its size.
HEADROOM = 256 * 2**20
# The driver of a GPU takes memory when it likes.
GPU_HEADROOM = 4 * 2**30
ADVICE = re.compile(
    r'In PyTorch 2\.6, we changed.*?trusted source\.|'
    r'Please file an issue.*?WeightsUnpickler error: |'
    r'Please use `torch\.serialization.*|'
    r'Check the documentation of torch\.load.*', re.DOTALL)
REMEDY = ('Copy or download it again; if it is whole, ask whoever made it for '
          'its state dict alone.')


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
    if file.exists() and not file.is_file():
        raise ValueError(f'{file} is no file: give the checkpoint itself, '
                         'such as epoch_50.pth')
    limit = 4 * file.stat().st_size + _headroom()
    with file.open('rb') as stream:
        try:
            with memory_limit(limit):
                content = torch.load(
                    stream, map_location=map_location, weights_only=True)
        except Exception as error:
            raise ValueError(
                f'{file} is no checkpoint that can be loaded safely '
                f'({type(error).__name__}): {_reason(error)}\n{REMEDY}'
            ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} holds a {type(content).__name__} instead '
                         f'of a state dict. {REMEDY}')
    problem = _more_than_data(content, limit)
    if problem:
        raise ValueError(
            f'{file} is no checkpoint that can be loaded safely: it {problem}'
            f', which no checkpoint of MMEngine does. {REMEDY}')
    return content


def _reason(error: Exception) -> str:
    """What PyTorch says, without its advice to load the file unsafely."""
    text = ADVICE.sub('', str(error)).strip()
    return ' '.join(text.split())[:999] or 'it ends too early'


def _more_than_data(content: dict, limit: int) -> Optional[str]:
    """What keeps a content from being plain data of bounded size.

    PyTorch gives whoever wrote the file a say in the attributes of objects,
    which shadow the methods that later look at them, and in the indices of
    sparse tensors, which it does not check.
    """
    num_bytes = 0
    pending, seen = [content], set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        kind = type(item)
        if kind in (dict, OrderedDict, Counter):
            attributes = getattr(item, '__dict__', {})
            if set(attributes) - {'_metadata'}:
                return f'gives a {kind.__name__} the methods {[*attributes]}'
            pending += dict.keys(item)
            pending += dict.values(item)
            pending += attributes.values()
        elif kind in (list, tuple, set):
            pending += item
        elif kind is HistoryBuffer:
            pending += vars(item).values()
        elif kind in TENSORS:
            if vars(item) or item._backward_hooks or item.grad is not None:
                return 'gives a tensor attributes or hooks'
            if not _is_dense(item):
                return 'holds a tensor that has not all the values that its shape says'
            num_bytes += math.prod(item.shape) * item.itemsize
            if num_bytes > limit:
                return ('holds tensors that would take more than the '
                        f'{limit} bytes of memory that its size admits')
        elif isinstance(item, np.ndarray):
            num_bytes += item.nbytes
        elif kind not in VALUES and not isinstance(item, np.generic):
            return f'holds a {kind.__module__}.{kind.__qualname__}'
    return None


def _is_dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not (
        value.is_meta or value.is_quantized or value.is_nested)


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
            isinstance(name, str) and type(value) in TENSORS
            for name, value in weights.items()):
        raise ValueError('it holds no state dict, neither by itself nor as '
                         "'state_dict'")
    # An attribute of a tensor could stand in for any of its methods.
    weights = {name: Tensor.detach(value) for name, value in weights.items()}
    for name, value in weights.items():
        # Only then is the memory for work on it bounded by the file's size.
        if not _is_dense(value) or (
                math.prod(value.shape) * value.itemsize >
                value.untyped_storage().nbytes()):
            raise ValueError(f'{name!r:.99} has not all the values that its '
                             'shape says')
    return weights


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
