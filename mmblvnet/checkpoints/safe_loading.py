"""Loading checkpoints of strangers."""
import math
import os
import re
import tarfile
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, Callable, Dict
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (get_external_models,
                                        get_torchvision_models)
from torch import Tensor, nn

from mmblvnet.checkpoints import unpickling

TENSORS = (Tensor, nn.Parameter)
VALUES = (str, bytes, bytearray, bool, int, float, complex, type(None),
          torch.Size, torch.dtype, torch.device)

# What interpreting a small file may take beyond a multiple of its size.
HEADROOM = 256 * 2**20
# The names of models in MMEngine's lists of URLs.
MODEL_ZOOS = {
    ('torchvision://', 'modelzoo://'): get_torchvision_models,
    ('open-mmlab://', 'openmmlab://'): get_external_models,
}
ADVICE = re.compile(
    r'In PyTorch 2\.6, we changed.*?trusted source\.|'
    r'Please file an issue.*?WeightsUnpickler error: |'
    r'Please use `torch\.serialization.*|'
    r'Check the documentation of torch\.load.*', re.DOTALL)
REMEDY = ('Copy or download it again; if it is whole, ask whoever made it for '
          'its state dict alone.')


def load_checkpoint(name: str, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint by the name that MMEngine's loader would take.

    Args:
        name (str): A file, a URL, which is downloaded once, as by
            ``torch.hub``, or what else MMEngine has a loader for.
        map_location: As for ``torch.load``. Defaults to ``'cpu'``.

    Returns:
        dict: Its content.

    Raises:
        ValueError: As :func:`load_safely`.
        OSError: As :func:`load_safely`.
    """
    for prefixes, urls in MODEL_ZOOS.items():
        model = name.removeprefix(prefixes[0]).removeprefix(prefixes[1])
        if model != name:
            name = urls().get(model, name)
    if name.startswith(('http://', 'https://')):
        return load_safely(_download(name), map_location)
    if '://' not in name:
        return load_safely(Path(name).expanduser(), map_location)
    return _checked(
        name, lambda: CheckpointLoader.load_checkpoint(name, map_location))


def _download(url: str) -> Path:
    """Download a file that is not there yet, in one process."""
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    file = folder / Path(urlparse(url).path).name
    try:
        if get_rank() == 0 and not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file))
    finally:
        barrier()
    return file


def load_safely(file: Path, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint without running any code in it.

    What the user has declared safe for PyTorch, by ``add_safe_globals`` or
    ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``, is loaded as well.

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
    if not file.exists():
        raise FileNotFoundError(f'{file} can not be found.')
    if not file.is_file():
        raise ValueError(f'{file} is no file: give the checkpoint itself, '
                         'such as epoch_50.pth')
    limit = 4 * file.stat().st_size + HEADROOM
    with file.open('rb') as stream:
        if _all_is_trusted():
            return torch.load(stream, map_location)

        def load() -> Any:
            _check_archive(stream)
            return unpickling.load(stream, map_location, limit)

        return _checked(str(file), load, limit)


def _all_is_trusted() -> bool:
    """Whether the user has PyTorch load whatever a file holds."""
    value = os.getenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0')
    return value.lower() in ('1', 'y', 'yes', 'true')


def _checked(name: str,
             load: Callable[[], Any],
             limit: float = math.inf) -> dict:
    """What a function loads, if it is plain data."""
    try:
        content = load()
        _check_data(content, limit)
    except Exception as error:
        raise ValueError(
            f'{name} is no checkpoint that can be loaded safely '
            f'({type(error).__name__}): {_reason(error)}\n{REMEDY}'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{name} holds a {type(content).__name__} instead '
                         f'of a state dict. {REMEDY}')
    return content


def _check_archive(stream: IO[bytes]) -> None:
    """Refuse files that are larger in memory than on disk."""
    if tarfile.is_tarfile(stream):
        raise UnpicklingError('it is a tar file')
    stream.seek(0)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            records = archive.infolist()
            # PyTorch could read another list of records than Python then.
            if archive.comment or min(r.header_offset for r in records):
                raise UnpicklingError('it does not begin or end with what '
                                      'PyTorch writes')
            size = stream.seek(0, os.SEEK_END)
            if sum(record.file_size for record in records) > size:
                raise MemoryError('its records would take more memory than '
                                  f'its {size} bytes')
    stream.seek(0)


def _reason(error: Exception) -> str:
    """What PyTorch says, without its advice to load the file unsafely."""
    text = ADVICE.sub('', str(error)).strip()
    return ' '.join(text.split())[:999] or 'it ends too early'


def _check_data(content: Any, limit: float) -> None:
    """Refuse what is not plain data of bounded size.

    PyTorch gives whoever wrote the file a say in the attributes of objects,
    which shadow the methods that later look at them, and in the indices of
    sparse tensors, which it does not check.
    """
    declared = [entry[0] if isinstance(entry, tuple) else entry
                for entry in torch.serialization.get_safe_globals()]
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
                _refuse(f'gives a {kind.__name__} the methods '
                        f'{[*attributes]}')
            pending += dict.keys(item)
            pending += dict.values(item)
            pending += attributes.values()
        elif kind in (list, tuple, set):
            pending += item
        elif kind in (HistoryBuffer, Namespace):
            pending += vars(item).values()
        elif kind in TENSORS:
            if vars(item) or item._backward_hooks or item.grad is not None:
                _refuse('gives a tensor attributes or hooks')
            if not _is_dense(item):
                _refuse('holds a tensor that has not all the values that its '
                        'shape says')
            num_bytes += math.prod(item.shape) * item.itemsize
            if num_bytes > limit:
                raise MemoryError(
                    'it holds tensors that would take more than the '
                    f'{limit} bytes of memory that its size admits')
        elif not (kind in VALUES or kind in declared
                  or isinstance(item, (np.generic, np.ndarray))):
            _refuse(f'holds a {kind.__module__}.{kind.__qualname__}')


def _refuse(what: str) -> None:
    raise UnpicklingError(f'it {what}, which no checkpoint of MMEngine does')


def _is_dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not (
        value.is_meta or value.is_quantized or value.is_nested)


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
