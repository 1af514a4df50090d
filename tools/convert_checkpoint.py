"""Turn a published checkpoint into one for this package.

The layout is told by the keys. An ImageNet bLResNet becomes a backbone file
for ``init_cfg=dict(type='Pretrained', checkpoint=...)``, a bLVNet-TAM the
checkpoint of a recognizer for ``mim test`` and ``load_from``.
"""
import argparse
import os
import sys
import tempfile
from pathlib import Path

import mmblvnet
import torch
from mmblvnet.utils.checkpoint import convert_published


def convert(source: Path, destination: Path) -> dict:
    """Convert a file.

    Args:
        source (Path): The published file.
        destination (Path): The file to write, as a whole or not at all.

    Returns:
        dict: What was found in the file.

    Raises:
        ValueError: If the source cannot be converted.
        FileNotFoundError: If there is no source.
    """
    if destination.exists() and destination.samefile(source):
        raise ValueError(f'{destination} is the source itself; give another '
                         'name for the converted file')
    content = load_safely(source)
    try:
        state_dict, found = convert_published(content)
    except ValueError as error:
        raise ValueError(f'{source} cannot be converted: {error}') from error
    destination.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(mmblvnet_version=mmblvnet.__version__, converted_from=found)
    save_whole(dict(meta=meta, state_dict=state_dict), destination)
    return found


def load_safely(source: Path) -> dict:
    """Load a checkpoint without running any code in it.

    Args:
        source (Path): The file.

    Returns:
        dict: Its content.

    Raises:
        ValueError: If it is no checkpoint, or holds more than data.
        FileNotFoundError: If there is no such file.
    """
    try:
        content = torch.load(source, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f'{source} is no checkpoint that can be loaded '
                         f'safely: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{source} holds a {type(content).__name__} instead '
                         'of a state dict')
    return content


def save_whole(content: dict, destination: Path) -> None:
    """Write a checkpoint so that it never exists in part.

    Args:
        content (dict): What to write.
        destination (Path): The file.
    """
    handle, name = tempfile.mkstemp(
        dir=destination.parent, prefix=f'.{destination.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(content, file)
        os.chmod(name, 0o644)
        os.replace(name, destination)
    except BaseException:
        os.unlink(name)
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', type=Path, help='the published file')
    parser.add_argument('destination', type=Path, help='the file to write')
    args = parser.parse_args()
    try:
        found = convert(args.source, args.destination)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f'{args.source}: ' + ', '.join(f'{k} {v}'
                                         for k, v in found.items()))
    print(f'written: {args.destination}')


if __name__ == '__main__':
    main()
