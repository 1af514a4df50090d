"""Safe loading of untrusted checkpoints."""

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

# Bytes of memory that loading a file may take beyond 4 times its size.
HEADROOM = 256 * 2**20
# Functions that return the URLs of named models, by MMEngine's prefixes.
MODEL_ZOOS = {
    ('torchvision://', 'modelzoo://'): get_torchvision_models,
    ('open-mmlab://', 'openmmlab://'): get_external_models,
}
REMEDY = 'Copy or download it again; if it is complete, ask its author for a file of the state dict alone.'


def load_checkpoint(name: str, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint safely, by any name that MMEngine's loader accepts.

    A file, a URL (downloaded once, to the cache of ``torch.hub``) or a name
    with another prefix of MMEngine's. The rest is as in :func:`load_safely`.
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
    """Return the cached file of a URL, which the process of rank 0 downloads if it is missing."""
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

    Types on the user's allow-list (``torch.serialization.add_safe_globals``)
    are loaded too. ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` trusts every file.

    Args:
        file (Path): The checkpoint file.
        map_location: As for ``torch.load``. Defaults to ``'cpu'``.

    Returns:
        dict: The content of the file.

    Raises:
        ValueError: If the file is no checkpoint, holds more than data, or
            would take much more memory than its size.
        OSError: If the file does not exist or cannot be read.
    """
    if not file.exists():
        raise FileNotFoundError(f'{file} can not be found.')
    if not file.is_file():
        raise ValueError(f'{file} is a folder or device, not a file: give the checkpoint itself, such as epoch_50.pth')
    limit = 4 * file.stat().st_size + HEADROOM
    with file.open('rb') as stream:
        trusted = os.getenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0')
        if trusted.lower() in ('1', 'y', 'yes', 'true'):
            return torch.load(stream, map_location)

        return _checked(str(file), partial(unpickling.load, stream, map_location, limit))


def _checked(name: str, load: Callable) -> dict:
    """Return the dict that ``load`` returns; turn failures and other results into a ValueError."""
    try:
        content = load()
    except Exception as error:
        reason = ' '.join(str(error).split())[:999] or 'it ends too early'
        raise ValueError(
            f'{name} cannot be loaded safely as a checkpoint ({type(error).__name__}): {reason}\n{REMEDY}'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{name} holds a {type(content).__name__} instead of a state dict. {REMEDY}')
    return content
