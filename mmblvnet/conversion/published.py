"""Conversion from and to the key formats of published checkpoints."""

import re
from typing import Callable, Dict, Iterable, NamedTuple, Optional, Tuple

import torch
from mmaction.models.backbones import ResNet
from mmaction.registry import MODELS
from torch import Tensor, nn

from mmblvnet.checkpoints.validation import mismatches, report, weights_in
from mmblvnet.models import BLResNet
from mmblvnet.models.backbones.resnet_tam import torchvision_name

StateDict = Dict[str, Tensor]


class KeyFormat(NamedTuple):
    """The names of weights in one kind of published checkpoint."""

    name: str
    # Pattern of the backbone's names by which the format is recognized.
    marker: str
    # Returns the backbone's config, read from its weights by published names.
    read_config: Callable[[StateDict], dict]
    # Prefixes of the backbone's and of the classifier's names in the file, and
    # of both in this package.
    backbone: str = ''
    classifier: str = 'fc.'
    ours: Tuple[str, str] = ('backbone.', 'cls_head.fc_cls.')
    # Maps a name in this package's backbone to the name in the file.
    rename: Callable[[str], str] = str
    # Whether a published file holds the state dict under 'state_dict'.
    nested: bool = False
    # Prefix of all names in the file, from data parallelism.
    wrapper: str = ''

    def published_name(self, name: str) -> str:
        """Return the name in the file of a weight of this package."""
        backbone, classifier = self.ours
        if name.startswith(classifier):
            return self.classifier + name.removeprefix(classifier)
        return self.backbone + self.rename(name.removeprefix(backbone))

    def network_of(self, weights: StateDict) -> Tuple[dict, StateDict]:
        """Return the backbone's config with ``num_classes``, and the :meth:`weights_of` that network."""
        backbone = {
            name.removeprefix(self.backbone): value for name, value in weights.items() if name.startswith(self.backbone)
        }
        try:
            config = self.read_config(backbone)
            num_classes = _size(weights, f'{self.classifier}bias', 0)
            return dict(config, num_classes=num_classes), self.weights_of(config, num_classes)
        except ValueError as error:
            raise ValueError(f'its key format is {self.name}, but {error}') from error

    def weights_of(self, config: dict, num_classes: int) -> StateDict:
        """Return all weights of a network as meta tensors, by their names in this package."""
        with torch.device('meta'):
            backbone = MODELS.build(dict(config))
            channels = backbone.feat_dim if isinstance(backbone, ResNet) else backbone.stage_channels[-1]
            parts = (backbone, nn.Linear(channels, num_classes))
        return {
            prefix + name: value for prefix, part in zip(self.ours, parts) for name, value in part.state_dict().items()
        }


def _size(weights: StateDict, name: str, dim: int) -> int:
    """Return a weight's size in a dimension, or raise a ValueError if it has none."""
    if name not in weights:
        raise ValueError(f'{name} is missing')
    if weights[name].dim() <= dim or not weights[name].size(dim):
        raise ValueError(f'{name} has shape {tuple(weights[name].shape)}')
    return weights[name].size(dim)


def _count(names: Iterable[str], prefix: str) -> int:
    """Return the number of numbered modules, such as blocks, under a prefix."""
    return len({name[len(prefix) :].split('.')[0] for name in names if name.startswith(prefix)})


def _num_blended_frames(names: Iterable[str], tam: str) -> int:
    """Return the number of frames that a TAM blends, or 0 if there is no TAM."""
    if any(name.startswith(f'{tam}.curr') for name in names):
        return 3
    return _count(names, f'{tam}.blending_layers.')


def _big_little_config(backbone: StateDict) -> dict:
    big = _count(backbone, 'layer3.big.')
    depths = {blocks[2] - 1: depth for depth, blocks in BLResNet.arch_settings.items()}
    if big not in depths:
        raise ValueError(f'its layer3 has {big} big blocks, which no depth among {tuple(depths.values())} has')
    depth = depths[big]
    alpha = BLResNet.stem_channels // _size(backbone, 'l_conv0.weight', 0)
    little = [_count(backbone, f'layer{i}.little.') for i in (1, 2, 3)]
    # Several betas may fit: the paper's 4 comes first, then smaller ones.
    for beta in (4, 3, 2, 1, *range(5, 31)):
        if little == [max(1, n // beta - 1) for n in BLResNet.arch_settings[depth][:3]]:
            in_channels = _size(backbone, 'conv1.weight', 1)
            return dict(type='BLResNet', depth=depth, alpha=alpha, beta=beta, in_channels=in_channels)
    raise ValueError(f'its little branches have {little} blocks, which no beta gives at depth {depth}')


def _video_config(backbone: StateDict) -> dict:
    config = dict(_big_little_config(backbone), type='BLVNet')
    num_frames = _num_blended_frames(backbone, 'tam')
    return dict(config, blend_frames=num_frames) if num_frames else dict(config, temporal_module=None)


def _tam_resnet_config(backbone: StateDict) -> dict:
    num_frames = _num_blended_frames(backbone, 'layer1.0.tam')
    if not num_frames:
        raise ValueError('layer1.0.tam is missing')
    return dict(type='ResNetTAM', **resnet_config(backbone), blend_frames=num_frames)


def _tam_resnet_name(name: str) -> str:
    name = re.sub(r'\.tam\.(prev|curr|next)\.', r'.tam.\1_se.fc1.', name)
    name = re.sub(r'(\.tam\.blending_layers\.\d+)\.', r'\1.fc1.', name)
    return torchvision_name(name)


def resnet_config(backbone: StateDict) -> dict:
    """Return the config of a ResNet, read from its weights under torchvision's names."""
    convs = 3 if 'layer1.0.conv3.weight' in backbone else 2
    blocks = tuple(_count(backbone, f'layer{i}.') for i in (1, 2, 3, 4))
    # The depth counts the blocks' convolutions, the stem's and the classifier.
    depth = convs * sum(blocks) + 2
    if ResNet.arch_settings.get(depth, (None, None))[1] != blocks:
        raise ValueError(
            f'its stages have {blocks} blocks of {convs} convolutions, '
            f'which no depth among {tuple(ResNet.arch_settings)} has'
        )
    return dict(depth=depth, in_channels=_size(backbone, 'conv1.weight', 1))


BIG_LITTLE = r'layer\d\.little\.'
# In order of precedence: a file may match two formats.
KEY_FORMATS = (
    KeyFormat(
        'ImageNet bLResNet', BIG_LITTLE, _big_little_config, ours=('', 'classifier.'), nested=True, wrapper='module.'
    ),
    KeyFormat('bLVNet-TAM without dropout', r'fc\.', _video_config, 'baseline_model.', 'baseline_model.fc.'),
    KeyFormat('bLVNet-TAM', BIG_LITTLE, _video_config, 'baseline_model.', 'new_fc.'),
    KeyFormat(
        'TAM-ResNet of action-recognition-pytorch',
        r'layer\d\.\d+\.tam\.',
        _tam_resnet_config,
        rename=_tam_resnet_name,
        nested=True,
    ),
)


def _key_format_of(names: Iterable[str], published: bool) -> KeyFormat:
    """Return the format that ``names`` belong to: those of a published file, or of this package."""
    for key_format in KEY_FORMATS:
        start = key_format.backbone if published else key_format.ours[0]
        marker = re.compile(re.escape(start) + key_format.marker)
        if any(marker.match(name) for name in names):
            return key_format
    raise ValueError(
        f'none of its weights has a name of a known key format ({", ".join(known.name for known in KEY_FORMATS)})'
    )


def check_weights(weights: StateDict, wanted: StateDict, key_format: str) -> None:
    """Raise a ValueError that lists the weights that do not fit the ``wanted`` ones of a network."""
    problems = mismatches(wanted, weights)
    if problems:
        raise ValueError(
            f'its key format is {key_format}, but {len(problems)} weights do not fit the network:\n{report(problems)}'
        )


def convert_published(content: dict, flow_channels: Optional[int] = None) -> Tuple[StateDict, dict]:
    """Convert a published checkpoint to weights of this package's models.

    Args:
        content (dict): The content of a published file.
        flow_channels (int, optional): Input channels of optical flow, if the
            RGB network is to become a flow network. Defaults to None.

    Returns:
        tuple: The weights, named as in a recognizer (video networks) or as in
        a backbone and a ``classifier`` (image networks); and a dict with the
        name of the ``key_format``, the backbone's config and ``num_classes``.

    Raises:
        ValueError: If the format is unknown, or weights are missing,
            unexpected, of another shape or not finite.
    """
    weights = weights_in(content)
    key_format = _key_format_of(weights, published=True)
    config, wanted = key_format.network_of(weights)
    names = {key_format.published_name(name): name for name in wanted}
    check_weights(weights, {k: wanted[name] for k, name in names.items()}, key_format.name)
    weights, config = for_flow(weights, config, flow_channels, f'{key_format.backbone}conv1.weight')
    converted = {names[name]: value for name, value in weights.items()}
    return converted, dict(key_format=key_format.name, **config)


def to_published(weights: StateDict, key_format_name: Optional[str] = None) -> Tuple[dict, dict]:
    """Convert weights of this package's models to the content of a published file.

    Args:
        weights (dict): The weights, named as by :func:`convert_published`.
        key_format_name (str, optional): The format that they came from.
            Defaults to None: of the two bLVNet-TAM formats, which only this
            tells apart, the one with dropout.

    Returns:
        tuple[dict]: The content, and the dict of :func:`convert_published`.

    Raises:
        ValueError: If the weights are not those of a published model.
    """
    weights = weights_in(weights)
    key_format = _key_format_of(weights, published=False)
    for other in KEY_FORMATS:
        if (other.name, other.read_config) == (key_format_name, key_format.read_config):
            key_format = other
    published = {key_format.published_name(k): v for k, v in weights.items()}
    config, wanted = key_format.network_of(published)
    check_weights(weights, wanted, key_format.name)
    content = {key_format.wrapper + k: v for k, v in published.items()}
    if key_format.nested:
        content = dict(state_dict=content)
    return content, dict(key_format=key_format.name, **config)


def for_flow(
    weights: StateDict, config: dict, channels: Optional[int], first: str = 'conv1.weight'
) -> Tuple[StateDict, dict]:
    """Convert RGB weights to flow: the first convolution's mean over RGB for each of ``channels``."""
    if channels is None:
        return weights, config
    weight = weights[first]
    if weight.size(1) != 3:
        raise ValueError(f'its first convolution takes {weight.size(1)} channels instead of the 3 of RGB')
    if channels < 1:
        raise ValueError(f'{channels} channels of flow are less than 1')
    flow = weight.mean(1, keepdim=True).repeat(1, channels, 1, 1)
    return {**weights, first: flow}, dict(config, in_channels=channels)
