"""Small networks and helpers for the tests of models."""

import torch
from mmaction.registry import MODELS
from mmblvnet.models import BLResNet, BLVNet
from reference import ReferenceNetwork
from torch import nn


class Thin:
    """Mixin for networks of full depth and an eighth of the channels, quick even in float64."""

    stage_channels = (32, 64, 128, 256)


@MODELS.register_module(force=True)
class ThinBLResNet(Thin, BLResNet):
    """BLResNet with an eighth of the channels."""


@MODELS.register_module(force=True)
class ThinBLVNet(Thin, BLVNet):
    """BLVNet with an eighth of the channels."""


@MODELS.register_module(force=True)
class SmallBLVNet(BLVNet):
    """BLVNet with every kind of block, but few channels and few blocks.

    Its output maps have ``SMALL_CHANNELS`` channels.
    """

    arch_settings = {50: (1, 2, 2, 3)}
    stem_channels = 16
    stage_channels = (16, 32, 64, 128)


SMALL_CHANNELS = SmallBLVNet.stage_channels[-1]


def randomize(module: nn.Module) -> nn.Module:
    """Set weights and batch norm statistics to random values, so that each affects the output."""
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


def pair_of_networks(num_frames=4, temporal='TAM', r=3, **config):
    """Return a thin backbone and the reference network with the same weights.

    ``num_frames=1`` selects the image network.
    """
    reference = randomize(
        ReferenceNetwork(
            num_frames=num_frames,
            num_classes=5,
            temporal=temporal if num_frames > 1 else None,
            r=r,
            channels=Thin.stage_channels,
            **config,
        )
    )
    if num_frames > 1:
        config.update(num_segments=num_frames, temporal_module=temporal, blend_frames=r, frame_output='pair')
    kind = 'ThinBLVNet' if num_frames > 1 else 'ThinBLResNet'
    backbone = MODELS.build(dict(type=kind, **config))
    result = backbone.load_state_dict(reference.state_dict(), strict=False)
    assert result.missing_keys == []
    assert result.unexpected_keys == ['fc.weight', 'fc.bias']
    return backbone, reference


def recognizer(
    backbone: dict, head: dict, neck: dict = None, average_clips: str = 'score', test_cfg: dict = None
) -> nn.Module:
    """Return a Recognizer2D with random weights and without dropout."""
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=backbone,
            neck=neck,
            cls_head=dict(num_classes=5, dropout_ratio=0, average_clips=average_clips, **head),
            data_preprocessor=dict(
                type='ActionDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
            ),
            test_cfg=test_cfg,
        )
    )
    return randomize(model)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference divided by the norm of the expected tensor."""
    actual, expected = (x.detach().double().cpu() for x in (actual, expected))
    return ((actual - expected).norm() / expected.norm()).item()
