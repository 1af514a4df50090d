"""Warm start of a bLResNet from the weights of a plain ResNet."""

import re
from typing import Dict, List, Optional, Tuple

import torch
from mmaction.models.backbones import ResNet
from mmengine.model import initialize
from torch import nn

from mmblvnet.checkpoints.pretrained import CLASSIFIERS, DEFAULT_INIT
from mmblvnet.checkpoints.validation import weights_in
from mmblvnet.conversion.published import StateDict, check_weights, for_flow, resnet_config
from mmblvnet.models import BLResNet
from mmblvnet.models.backbones.resnet_tam import torchvision_name

BLOCK = re.compile(r'(layer\d)\.(?:(big|little|fusion)\.)?(\d+)')


def resnet_weights(content: dict) -> StateDict:
    """Return the backbone's weights of a plain ResNet under torchvision's names.

    ``content`` is that of a file of torchvision, timm, MMPretrain or MMAction2.
    ``num_batches_tracked`` is left out. Other networks give an empty dict.
    """
    weights = weights_in(content)
    start = 'backbone.' if any(name.startswith('backbone.') for name in weights) else ''
    weights = {
        torchvision_name(name.removeprefix(start)): value
        for name, value in weights.items()
        if name.startswith(start) and not name.startswith(CLASSIFIERS) and not name.endswith('.num_batches_tracked')
    }
    if 'layer1.0.conv1.weight' not in weights or any('.tam.' in name for name in weights):
        return {}
    return weights


def warm_start(weights: StateDict, flow_channels: Optional[int] = None) -> Tuple[StateDict, dict]:
    """Initialize a bLResNet with the weights of the ResNet of the same depth.

    In each stage, the Big branch takes all blocks of the ResNet's stage but the
    last, which the fusion block takes. The Little branch's thin blocks take the
    first channels. Layers that a ResNet does not have start as the identity
    or, where they would add to the Big branch, with an output of zero.

    Args:
        weights (dict): What :func:`resnet_weights` returns.
        flow_channels (int, optional): Channels of optical flow that the
            network is to take instead of RGB. Defaults to None.

    Returns:
        tuple: All weights of the bLResNet; and a dict as of
        ``convert_published``, with ``sources``: lines on each block's origin.

    Raises:
        ValueError: If weights are missing, unexpected, of another shape or not
            finite, or no bLResNet has this depth.
    """
    config = resnet_config(weights)
    with torch.device('meta'):
        plain = ResNet(**config)
    check_weights(weights, {torchvision_name(name): value for name, value in plain.state_dict().items()}, 'ResNet')
    weights, config = for_flow(weights, config, flow_channels)
    started = _fresh_weights(config)
    sources: Dict[str, Optional[str]] = {_block_of(name): None for name in started}
    for name, value in started.items():
        source = _source_of(name, plain.stage_blocks)
        if source in weights:
            value.copy_(_first_channels(weights[source], value.shape))
            sources[_block_of(name)] = _block_of(source)
    return started, dict(key_format='ResNet', type='BLResNet', **config, sources=_describe_sources(sources, weights))


def _fresh_weights(config: dict) -> StateDict:
    """Return the initial weights of a bLResNet, the same each time, without any of the ResNet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BLResNet(**config)
        initialize(network, DEFAULT_INIT)
    nn.init.dirac_(network.b_conv0.weight)
    nn.init.dirac_(network.bl_init.weight)
    weights = network.state_dict()
    for name, value in weights.items():
        if re.search(r'\b(bn3|bn_l2|little_e\.1)\.weight$', name):
            value.zero_()
    return weights


def _source_of(name: str, blocks: Tuple[int, ...]) -> Optional[str]:
    """Return the name of the ResNet's weight that a bLResNet's weight starts from, if any."""
    match = BLOCK.match(name)
    if not match:
        return name if name.startswith(('conv1.', 'bn1.')) else None
    stage, branch, block = match[1], match[2], int(match[3])
    last = blocks[int(stage[-1]) - 1] - 1
    if branch == 'fusion':
        block = last
    elif branch and block >= last:
        return None
    rest = name[match.end() :]
    if branch != 'little':
        # Unlike a ResNet's, this shortcut begins with a pool.
        rest = re.sub(r'(?<=downsample\.)\d', lambda index: str(int(index[0]) - 1), rest)
    return f'{stage}.{block}{rest}'


def _first_channels(value: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the first channels of a weight, scaled so that sums over fewer inputs stay as large."""
    thin = value[tuple(map(slice, shape))]
    return thin * (value[0].numel() / thin[0].numel())


def _block_of(name: str) -> str:
    """Return the name of the block that a weight belongs to, or else of its layer."""
    block = BLOCK.match(name)
    return block[0] if block else name.rpartition('.')[0]


def _describe_sources(sources: Dict[str, Optional[str]], weights: StateDict) -> List[str]:
    """Return lines that say where each block comes from, and what is new or unused."""
    taken = [f'{block} from {source}' for block, source in sources.items() if source]
    fresh = ', '.join(block for block, source in sources.items() if not source)
    unused = ', '.join(sorted({_block_of(name) for name in weights} - {*sources.values()}) + ['its classifier'])
    # The Little branch's blocks have fewer channels than the ResNet's.
    lines = [line + ', its first channels' if '.little.' in line else line for line in taken]
    return [*lines, f'not from the ResNet: {fresh}', f'not used of the ResNet: {unused}']
