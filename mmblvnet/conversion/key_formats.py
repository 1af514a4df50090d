"""How published checkpoints name their weights, and of which networks."""
import functools
import re
from typing import Callable, Dict, Iterable, NamedTuple, Tuple

import torch
from mmaction.models.backbones import ResNet
from mmaction.registry import MODELS
from torch import Tensor, nn

from mmblvnet.models import BLResNet

StateDict = Dict[str, Tensor]


class KeyFormat(NamedTuple):
    """The keys of a kind of published file.

    Args:
        name (str): What the format is called.
        network (str): Type of the backbone.
        read_config (Callable): Tells the config of the backbone from the
            backbone's weights under their published names.
        backbone (str): Start of the backbone's names in the file.
        classifier (str): Start of the classifier's names in the file.
        ours (tuple[str]): Start of the names of both in this package.
        renamings (tuple): Patterns of the backbone's names in this package,
            and what stands in their place in the file.
        nested (bool): Whether a published file has the state dict as
            ``state_dict``; otherwise it is the state dict.
        wrapper (str): What data parallelism put in front of every name.
    """

    name: str
    network: str
    read_config: Callable[[StateDict], dict]
    backbone: str
    classifier: str
    ours: Tuple[str, str] = ('backbone.', 'cls_head.fc_cls.')
    renamings: Tuple[Tuple[str, str], ...] = ()
    nested: bool = False
    wrapper: str = ''

    def published_name(self, name: str) -> str:
        """The name in the file of a weight of this package."""
        backbone, classifier = self.ours
        if name.startswith(classifier):
            return self.classifier + name.removeprefix(classifier)
        name = name.removeprefix(backbone)
        for pattern, replacement in self.renamings:
            name = re.sub(pattern, replacement, name)
        return self.backbone + name

    def config_of(self, weights: StateDict) -> dict:
        """The backbone's config, and ``num_classes``, from published weights.

        Raises:
            ValueError: If they belong to no network of this format.
        """
        backbone = {
            name.removeprefix(self.backbone): value
            for name, value in weights.items()
            if name.startswith(self.backbone)
            and not name.startswith(self.classifier)
        }
        return dict(
            type=self.network,
            **self.read_config(backbone),
            num_classes=_size(weights, f'{self.classifier}bias', 0))

    def weights_of(self, config: dict) -> StateDict:
        """Tensors without values, by their names in this package.

        Raises:
            ValueError: If there is no network of this config.
        """
        config = dict(config)
        num_classes = config.pop('num_classes')
        with torch.device('meta'):
            backbone = MODELS.build(config)
            channels = (backbone.feat_dim if isinstance(backbone, ResNet) else
                        backbone.stage_channels[-1])
            parts = (backbone, nn.Linear(channels, num_classes))
        return {
            prefix + name: value
            for prefix, part in zip(self.ours, parts)
            for name, value in part.state_dict().items()
        }


def _size(weights: StateDict, name: str, dim: int) -> int:
    """The size of a weight that tells something about the network."""
    if name not in weights:
        raise ValueError(f'{name} is missing')
    if weights[name].dim() <= dim or not weights[name].size(dim):
        raise ValueError(f'{name} is {tuple(weights[name].shape)}')
    return weights[name].size(dim)


def _count(names: Iterable[str], prefix: str) -> int:
    """How many numbered modules there are under a prefix."""
    return len({
        name[len(prefix):].split('.')[0]
        for name in names if name.startswith(prefix)
    })


def _blended(names: Iterable[str], tam: str) -> int:
    """How many frames a TAM blends; 0 if there is none."""
    if any(name.startswith(f'{tam}.curr') for name in names):
        return 3
    return _count(names, f'{tam}.blending_layers.')


def _big_little_config(backbone: StateDict) -> dict:
    blocks = 1 + _count(backbone, 'layer3.big.')
    depths = {
        blocks_of_depth[2]: depth
        for depth, blocks_of_depth in BLResNet.arch_settings.items()
    }
    if blocks not in depths:
        raise ValueError(f'its layer3 has {blocks - 1} big blocks, which no '
                         f'depth among {tuple(depths.values())} has')
    return dict(
        depth=depths[blocks],
        alpha=BLResNet.stem_channels // _size(backbone, 'l_conv0.weight', 0),
        beta=_beta(backbone, depths[blocks]),
        in_channels=_size(backbone, 'conv1.weight', 1))


def _beta(backbone: StateDict, depth: int) -> int:
    """The largest beta up to the paper's that gives the Little branches."""
    blocks = BLResNet.arch_settings[depth][:3]
    little = [_count(backbone, f'layer{i}.little.') for i in (1, 2, 3)]
    for beta in (4, 3, 2, 1, *range(5, 31)):
        if little == [max(1, n // beta - 1) for n in blocks]:
            return beta
    raise ValueError(f'its little branches have {little} blocks, which no '
                     f'beta gives at depth {depth}')


def _video_config(backbone: StateDict) -> dict:
    config = _big_little_config(backbone)
    blended = _blended(backbone, 'tam')
    if blended:
        return dict(config, blend_frames=blended)
    return dict(config, temporal_module=None)


def _tam_resnet_config(backbone: StateDict) -> dict:
    blended = _blended(backbone, 'layer1.0.tam')
    if not blended:
        raise ValueError('layer1.0.tam is missing')
    return dict(resnet_config(backbone), blend_frames=blended)


def resnet_config(backbone: StateDict) -> dict:
    """The config of a ResNet from weights under torchvision's names.

    Raises:
        ValueError: If they belong to no ResNet.
    """
    convs = 3 if 'layer1.0.conv3.weight' in backbone else 2
    blocks = tuple(_count(backbone, f'layer{i}.') for i in (1, 2, 3, 4))
    # A network's depth counts its convolutions and the classifier.
    depth = convs * sum(blocks) + 2
    if ResNet.arch_settings.get(depth, (None, None))[1] != blocks:
        raise ValueError(f'its stages have {blocks} blocks of {convs} '
                         'convolutions, which no depth among '
                         f'{tuple(ResNet.arch_settings)} has')
    return dict(depth=depth, in_channels=_size(backbone, 'conv1.weight', 1))


IMAGENET = KeyFormat(
    'ImageNet bLResNet',
    'BLResNet',
    _big_little_config,
    backbone='',
    classifier='fc.',
    ours=('', 'classifier.'),
    nested=True,
    wrapper='module.')
VIDEO = KeyFormat(
    'bLVNet-TAM',
    'BLVNet',
    _video_config,
    backbone='baseline_model.',
    classifier='new_fc.')
VIDEO_WITHOUT_DROPOUT = VIDEO._replace(
    name='bLVNet-TAM without dropout', classifier='baseline_model.fc.')
TAM_RESNET = KeyFormat(
    'TAM-ResNet of action-recognition-pytorch',
    'ResNetTAM',
    _tam_resnet_config,
    backbone='',
    classifier='fc.',
    renamings=(
        (r'\.tam\.(prev|curr|next)\.', r'.tam.\1_se.fc1.'),
        (r'\.tam\.(blending_layers\.\d+)\.', r'.tam.\1.fc1.'),
        (r'\.downsample\.conv\.', '.downsample.0.'),
        (r'\.downsample\.bn\.', '.downsample.1.'),
        (r'\bconv(\d)\.conv\.', r'conv\1.'),
        (r'\bconv(\d)\.bn\.', r'bn\1.'),
    ),
    nested=True)
# A plain one, as torchvision and timm name its weights.
RESNET = TAM_RESNET._replace(
    name='ResNet', network='ResNet', renamings=TAM_RESNET.renamings[2:])
KEY_FORMATS = (IMAGENET, VIDEO, VIDEO_WITHOUT_DROPOUT, TAM_RESNET)


@functools.lru_cache(maxsize=None)
def _typical_names(key_format: KeyFormat, published: bool) -> frozenset:
    """The names in a file of depth 50."""
    names = key_format.weights_of(
        dict(type=key_format.network, depth=50, num_classes=1))
    if published:
        names = map(key_format.published_name, names)
    return frozenset(names)


def nearest_key_format(names: Iterable[str], published: bool) -> KeyFormat:
    """The format that has most of some names, published or of this package.

    Raises:
        ValueError: If no format has any of the names.
    """
    names = set(names)
    shared = {
        key_format: len(names & _typical_names(key_format, published))
        for key_format in KEY_FORMATS
    }
    nearest = max(KEY_FORMATS, key=shared.get)
    if not shared[nearest]:
        raise ValueError(
            'none of its weights has a name that is known; the known key '
            f'formats are {", ".join(known.name for known in KEY_FORMATS)}')
    return nearest
