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
from typing import IO, Any, Callable
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models
from torch import Tensor, nn

from mmblvnet.checkpoints import unpickling

TENSORS = (Tensor, nn.Parameter)
DICTS = (dict, OrderedDict, Counter)
DATA = (
    list,
    tuple,
    set,
    str,
    bytes,
    bytearray,
    bool,
    int,
    float,
    complex,
    type(None),
    torch.Size,
    torch.dtype,
    torch.device,
    HistoryBuffer,
    Namespace,
)
# What interpreting a small file may take beyond a multiple of its size.
HEADROOM = 256 * 2**20
# The names of models in MMEngine's lists of URLs.
MODEL_ZOOS = {
    ('torchvision://', 'modelzoo://'): get_torchvision_models,
    ('open-mmlab://', 'openmmlab://'): get_external_models,
}
REMEDY = 'Copy or download it again; if it is whole, ask whoever made it for its state dict alone.'


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
        if name.startswith(prefixes):
            name = urls().get(name.partition('://')[2], name)
    if name.startswith(('http://', 'https://')):
        return load_safely(_download(name), map_location)
    if '://' not in name:
        return load_safely(Path(name).expanduser(), map_location)

    def load(visit: Callable) -> Any:
        content = CheckpointLoader.load_checkpoint(name, map_location)
        return unpickling.walk(content, visit)

    return _checked(name, load, math.inf)


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
        raise ValueError(f'{file} is no file: give the checkpoint itself, such as epoch_50.pth')
    limit = 4 * file.stat().st_size + HEADROOM
    with file.open('rb') as stream:
        trusted = os.getenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0')
        if trusted.lower() in ('1', 'y', 'yes', 'true'):
            return torch.load(stream, map_location)

        def load(visit: Callable) -> Any:
            _check_archive(stream)
            return unpickling.load(stream, map_location, limit, visit)

        return _checked(str(file), load, limit)


def _checked(name: str, load: Callable, limit: float) -> dict:
    """What a function loads, if it is plain data of bounded size."""
    try:
        content = load(_check_of_objects(limit))
    except Exception as error:
        raise ValueError(
            f'{name} is no checkpoint that can be loaded safely ({type(error).__name__}): {_reason(error)}\n{REMEDY}'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{name} holds a {type(content).__name__} instead of a state dict. {REMEDY}')
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
                raise UnpicklingError('it does not begin or end with what PyTorch writes')
            size = stream.seek(0, os.SEEK_END)
            if sum(record.file_size for record in records) > size:
                raise MemoryError(f'its records would take more memory than its {size} bytes')
    stream.seek(0)


def _reason(error: Exception) -> str:
    """What the unpickler says, without advice to load the file unsafely."""
    if isinstance(error.__context__, UnpicklingError):
        error = error.__context__
    text = re.split('Please use|In PyTorch 2.6', str(error))[0]
    return ' '.join(text.split())[:999] or 'it ends too early'


def _check_of_objects(limit: float) -> Callable[[Any], None]:
    """What refuses an object that is no plain data of bounded size.

    PyTorch gives whoever wrote the file a say in the attributes of objects,
    which shadow the methods that later look at them, and in the indices of
    sparse tensors, which it does not check.
    """
    declared = [entry[0] if isinstance(entry, tuple) else entry for entry in torch.serialization.get_safe_globals()]
    num_bytes = 0

    def check(item: Any) -> None:
        nonlocal num_bytes
        kind = type(item)
        if kind in DICTS:
            attributes = set(getattr(item, '__dict__', ())) - {'_metadata'}
            if attributes:
                _refuse(f'gives a {kind.__name__} the methods {attributes}')
        elif kind in TENSORS:
            if vars(item) or item._backward_hooks or item.grad is not None:
                _refuse('gives a tensor attributes or hooks')
            if not is_dense(item):
                _refuse('holds a tensor that has not all the values that its shape says')
            num_bytes += math.prod(item.shape) * item.itemsize
            if num_bytes > limit:
                raise MemoryError(
                    f'it holds tensors that would take more than the {limit} bytes of memory that its size admits'
                )
        elif not (kind in DATA or kind in declared or isinstance(item, (np.generic, np.ndarray))):
            _refuse(f'holds a {kind.__module__}.{kind.__qualname__}')

    return check


def _refuse(what: str) -> None:
    raise UnpicklingError(f'it {what}, which no checkpoint of MMEngine does')


def is_dense(value: Tensor) -> bool:
    """Whether a tensor is one of plain numbers in memory."""
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)
