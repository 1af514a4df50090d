"""Checkpoints in the layouts that were published with the paper."""
from typing import Dict, Tuple

import torch
from mmaction.registry import MODELS
from torch import Tensor

from mmblvnet.models import BLResNet

StateDict = Dict[str, Tensor]

VIDEO_PREFIX = 'baseline_model.'
CLASSIFIERS = ('new_fc.', f'{VIDEO_PREFIX}fc.', 'fc.')


def published_weights(content: dict) -> StateDict:
    """The weights in a published file or in one of its training script.

    Args:
        content (dict): What the file holds: a state dict, or a dict that has
            one as ``state_dict``.

    Returns:
        dict: The weights without the prefix of data parallelism.

    Raises:
        ValueError: If there are no weights.
    """
    weights = content.get('state_dict', content)
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(value, Tensor) for value in weights.values()):
        raise ValueError('it holds no state dict, neither by itself nor as '
                         f"'state_dict'; its keys are {list(content)[:5]}")
    return {k.removeprefix('module.'): v for k, v in weights.items()}


def split_classifier(weights: StateDict) -> Tuple[StateDict, StateDict]:
    """Tell the backbone's weights from the classifier's.

    Args:
        weights (dict): Published weights.

    Returns:
        tuple[dict]: The backbone's, named as in this package, and the
        classifier's, as ``weight`` and ``bias``.
    """
    backbone, classifier = {}, {}
    for name, value in weights.items():
        if name.startswith(CLASSIFIERS):
            classifier[name.rpartition('.')[2]] = value
        else:
            backbone[name.removeprefix(VIDEO_PREFIX)] = value
    return backbone, classifier


def backbone_config(weights: StateDict, backbone: StateDict) -> dict:
    """The config of the backbone that published weights belong to.

    Args:
        weights (dict): Published weights.
        backbone (dict): The backbone's among them.

    Returns:
        dict: The config. The number of frames cannot be told from weights.

    Raises:
        ValueError: If the weights are none of a Big-Little network.
    """
    if not {'conv1.weight', 'b_conv0.weight', 'l_conv0.weight'} <= set(
            backbone):
        raise ValueError('it is no Big-Little network: conv1, b_conv0 and '
                         f'l_conv0 are not all among {list(weights)[:5]} ..')
    config = dict(
        depth=_depth(backbone),
        alpha=64 // len(backbone['l_conv0.weight']),
        in_channels=backbone['conv1.weight'].size(1))
    config['beta'] = _beta(backbone, config['depth'])
    if not any(name.startswith(VIDEO_PREFIX) for name in weights):
        return dict(type='BLResNet', **config)
    if 'tam.curr.weight' in backbone:
        return dict(type='BLVNet', blend_frames=3, **config)
    blended = _count(backbone, 'tam.blending_layers.')
    if blended:
        return dict(type='BLVNet', blend_frames=blended, **config)
    return dict(type='BLVNet', temporal_module=None, **config)


def _count(backbone: StateDict, prefix: str) -> int:
    """How many numbered modules there are under a prefix."""
    return len({
        name[len(prefix):].split('.')[0]
        for name in backbone if name.startswith(prefix)
    })


def _depth(backbone: StateDict) -> int:
    blocks = 1 + _count(backbone, 'layer3.big.')
    for depth, blocks_of_depth in BLResNet.arch_settings.items():
        if blocks_of_depth[2] == blocks:
            return depth
    raise ValueError(f'its layer3 has {blocks - 1} big blocks, which no depth '
                     f'among {tuple(BLResNet.arch_settings)} has')


def _beta(backbone: StateDict, depth: int) -> int:
    """The largest beta up to the paper's that gives the Little branches."""
    blocks = BLResNet.arch_settings[depth][:3]
    little = [_count(backbone, f'layer{i}.little.') for i in (1, 2, 3)]
    for beta in (4, 3, 2, 1, *range(5, 31)):
        if little == [max(1, n // beta - 1) for n in blocks]:
            return beta
    raise ValueError(f'its little branches have {little} blocks, which no '
                     f'beta gives at depth {depth}')


def convert_published(content: dict) -> Tuple[StateDict, dict]:
    """Turn published weights into those of this package's models.

    Args:
        content (dict): What a published file holds.

    Returns:
        tuple: The state dict, of a backbone for image networks and of a
        recognizer for video networks; and what was found: the backbone's
        config with ``num_classes``.

    Raises:
        ValueError: If the layout is not known, or a weight is missing, left
            over or of another shape, with the reason.
    """
    weights = published_weights(content)
    backbone, classifier = split_classifier(weights)
    config = backbone_config(weights, backbone)
    with torch.device('meta'):
        wanted = MODELS.build(config).state_dict()
    problems = [f'{name} is missing' for name in wanted.keys() - backbone]
    problems += [f'{name} is left over' for name in backbone.keys() - wanted]
    problems += [
        f'{name} is {tuple(value.shape)} instead of '
        f'{tuple(wanted[name].shape)}' for name, value in backbone.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    if classifier.keys() != {'weight', 'bias'}:
        problems.append(f'the classifier has {sorted(classifier)} instead of '
                        'a weight and a bias')
    if problems:
        raise ValueError(f'it is almost {config}, but\n' +
                         '\n'.join(sorted(problems)))
    found = dict(config, num_classes=len(classifier['bias']))
    if config['type'] == 'BLResNet':
        return backbone, found
    converted = {f'backbone.{k}': v for k, v in backbone.items()}
    converted.update(
        {f'cls_head.fc_cls.{k}': v for k, v in classifier.items()})
    return converted, found
