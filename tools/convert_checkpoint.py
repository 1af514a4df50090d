"""Turn a published checkpoint into one for this package, or back.

The script recognises the network by the keys. An ImageNet bLResNet becomes a
backbone file for ``init_cfg=dict(type='Pretrained', checkpoint=...)``; a
bLVNet-TAM or TAM-ResNet becomes a recognizer's checkpoint for ``mim test`` and
``load_from``. A plain ResNet of torchvision, timm, MMPretrain or MMAction2
becomes a backbone file as well, a warm start for a bLResNet; the script then
prints the source of its weights.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Callable, Optional, Tuple

import mmblvnet
import torch
from mmblvnet.checkpoints.atomic_file import atomic_file
from mmblvnet.checkpoints.safe_loading import load_safely
from mmblvnet.conversion.published import convert_published, to_published
from mmblvnet.conversion.warm_start import resnet_weights, warm_start

CLASSIFIER = 'classifier.'


def convert(source: Path, destination: Path, flow_channels: Optional[int] = None) -> dict:
    """Convert a published file; with ``flow_channels`` its network takes optical flow.

    The destination is written atomically. Returns a description of the network
    found in the source. Raises a ValueError if the source cannot be converted,
    an OSError if a file cannot be read or written.
    """

    def change(content: dict) -> Tuple[dict, dict]:
        resnet = resnet_weights(content)
        weights, found = warm_start(resnet, flow_channels) if resnet else convert_published(content, flow_channels)
        if isinstance(content.get('arch'), str):
            found['arch'] = content['arch']
        converted = dict(meta=dict(mmblvnet_version=mmblvnet.__version__, converted_from=found), state_dict=weights)
        # Kept beside the state dict that MMEngine loads: a backbone has no classifier.
        classifier = [name for name in weights if name.startswith(CLASSIFIER)]
        if classifier:
            converted['classifier'] = {name.removeprefix(CLASSIFIER): weights.pop(name) for name in classifier}
        return converted, found

    return _rewrite(source, destination, change)


def publish(source: Path, destination: Path) -> dict:
    """Convert a file of this package back into the published key format.

    The source may be a training checkpoint, too; otherwise as :func:`convert`.
    """

    def change(content: dict) -> Tuple[dict, dict]:
        weights = content.get('state_dict', content)
        classifier, found = content.get('classifier'), content
        if isinstance(weights, dict) and isinstance(classifier, dict):
            weights = weights | {f'{CLASSIFIER}{name}': value for name, value in classifier.items()}
        for key in ('meta', 'converted_from', 'key_format'):
            found = found.get(key) if isinstance(found, dict) else None
        return to_published(weights, found)

    return _rewrite(source, destination, change)


def _rewrite(source: Path, destination: Path, change: Callable[[dict], Tuple[dict, dict]]) -> dict:
    """Load a file, change its content and write it; return the description of the network."""
    if destination.exists() and destination.samefile(source):
        raise ValueError(f'{destination} is the source itself; give another name for the converted file')
    content = load_safely(source)
    try:
        content, found = change(content)
    except ValueError as error:
        raise ValueError(f'{source} cannot be converted: {error}') from error
    # PyTorch's writer would hide why a file cannot be written.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_file(destination, 'wb') as file:
        file.write(buffer.getbuffer())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('source', type=Path, help='the published file')
    add('destination', type=Path, help='the file to write')
    add = parser.add_mutually_exclusive_group().add_argument
    add('--flow', type=int, metavar='N', help='turn an RGB network into one for N channels of optical flow')
    add('--to-published', action='store_true', help='turn a file of this package back into the published key format')
    args = parser.parse_args()
    try:
        files = args.source, args.destination
        found = publish(*files) if args.to_published else convert(*files, args.flow)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    for line in found.pop('sources', ()):
        print(line)
    print(f'{args.source}: ' + ', '.join(f'{name} {value!s:.99}' for name, value in found.items()))
    if found['type'] != 'BLResNet':
        print('The weights do not contain the number of frames per clip: set num_segments as in training')
    print(f'written: {args.destination}')


if __name__ == '__main__':
    main()
