"""Small things that several tests of the models need."""
import torch
from mmaction.registry import MODELS
from mmblvnet.models import BLVNet
from oracle.literal import LiteralNetwork
from torch import nn


@MODELS.register_module()
class SmallBLVNet(BLVNet):
    """BLVNet with all its parts, few channels and few blocks.

    Its maps have ``SMALL_CHANNELS`` channels.
    """
    arch_settings = {50: (1, 2, 2, 3)}
    stem_channels = 16
    stage_channels = (16, 32, 64, 128)


SMALL_CHANNELS = SmallBLVNet.stage_channels[-1]


def randomize(module: nn.Module) -> nn.Module:
    """Give every weight and statistic a value that matters."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.endswith('running_var'):
                value.uniform_(0.8, 1.2)
            elif value.dim() == 4 and value.size(1) == 1:
                value.normal_(0.4, 0.3)
            elif value.dim() >= 4:
                nn.init.kaiming_normal_(value, nonlinearity='relu')
            elif name.endswith('weight'):
                value.normal_(0.5, 0.1)
            else:
                value.normal_(0, 0.1)
    return module


def pair_of_networks(temporal, num_frames=4, r=3, **config):
    """A backbone and the literal network with the same weights."""
    literal = randomize(
        LiteralNetwork(
            num_frames=num_frames,
            num_classes=5,
            temporal=temporal,
            r=r,
            **config))
    backbone = MODELS.build(
        dict(
            type='BLVNet',
            num_segments=num_frames,
            temporal_module=temporal,
            blend_frames=r,
            frame_output='pair',
            **config))
    result = backbone.load_state_dict(literal.state_dict(), strict=False)
    assert result.missing_keys == []
    assert result.unexpected_keys == ['fc.weight', 'fc.bias']
    return backbone, literal


def recognizer(backbone: dict,
               head: dict,
               neck: dict = None,
               average_clips: str = 'score',
               test_cfg: dict = None) -> nn.Module:
    """A Recognizer2D without dropout whose weights all matter."""
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=backbone,
            neck=neck,
            cls_head=dict(
                num_classes=5,
                dropout_ratio=0,
                average_clips=average_clips,
                **head),
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375]),
            test_cfg=test_cfg))
    return randomize(model)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference, in norms of what is expected."""
    actual, expected = (x.detach().double().cpu() for x in (actual, expected))
    return ((actual - expected).norm() / expected.norm()).item()
