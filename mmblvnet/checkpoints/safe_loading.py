"""Loading checkpoints of strangers."""

import os
from functools import partial
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

from mmblvnet.checkpoints import unpickling

# What interpreting a small file may take beyond a multiple of its size.
HEADROOM = 256 * 2**20
# The names of models in MMEngine's lists of URLs.
MODEL_ZOOS = {
    ('torchvision://', 'modelzoo://'): get_torchvision_models,
    ('open-mmlab://', 'openmmlab://'): get_external_models,
}
REMEDY = 'Copy or download it again; if it is whole, ask whoever made it for its state dict alone.'


def load_checkpoint(name: str, map_location: Any = 'cpu') -> dict:
    """:func:`load_safely`, with its errors, by a name for MMEngine's loader.

    That is a file, a URL, which is downloaded once, as by ``torch.hub``, or
    what else MMEngine has a loader for; ``map_location`` is ``torch.load``'s.
    """
    for prefixes, urls in MODEL_ZOOS.items():
        if name.startswith(prefixes):
            name = urls().get(name.partition('://')[2], name)
    if name.startswith(('http://', 'https://')):
        return load_safely(_download(name), map_location)
    if '://' not in name:
        return load_safely(Path(name).expanduser(), map_location)

    return _checked(name, partial(CheckpointLoader.load_checkpoint, name, map_location))


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

        return _checked(str(file), partial(unpickling.load, stream, map_location, limit))


def _checked(name: str, load: Callable) -> dict:
    """What a function loads, if it is a dict."""
    try:
        content = load()
    except Exception as error:
        reason = ' '.join(str(error).split())[:999] or 'it ends too early'
        raise ValueError(
            f'{name} is no checkpoint that can be loaded safely ({type(error).__name__}): {reason}\n{REMEDY}'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{name} holds a {type(content).__name__} instead of a state dict. {REMEDY}')
    return content
