from types import SimpleNamespace

import pytest
import torch
from mmblvnet.engine.hooks import FuseConvBNHook
from networks import recognizer
from torch import nn

TSN = dict(type='TSNHead', in_channels=2048)


def make(backbone):
    return recognizer(backbone, TSN).eval()


def norms(model):
    return [m for m in model.backbone.modules()
            if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize('backbone', [
    dict(type='BLVNet', depth=50, num_segments=4),
    dict(type='BLVNet', depth=50, num_segments=4, temporal_module='TSM'),
    dict(type='BLResNet', depth=101),
], ids=str)
@torch.no_grad()
def test_a_folded_backbone_gives_the_same_maps(backbone):
    model = make(backbone)
    x = torch.randn(4, 3, 64, 64)
    expected = model.backbone(x)
    FuseConvBNHook().before_test(SimpleNamespace(model=model))
    assert norms(model) == []
    folded = model.backbone(x)
    assert (folded - expected).norm() < 1e-5 * expected.norm()


def test_after_the_test_everything_is_as_it_was():
    model = make(dict(type='BLVNet', depth=50, num_segments=4))
    backbone = model.backbone
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hook, runner = FuseConvBNHook(), SimpleNamespace(model=model)
    hook.before_test(runner)
    hook.after_test(runner)
    assert model.backbone is backbone
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_validation_is_left_alone():
    model = make(dict(type='BLVNet', depth=50, num_segments=4))
    num_norms = len(norms(model))
    hook, runner = FuseConvBNHook(), SimpleNamespace(model=model)
    hook.before_val(runner)
    hook.before_val_epoch(runner)
    assert len(norms(model)) == num_norms


def test_it_can_be_switched_off():
    model = make(dict(type='BLVNet', depth=50, num_segments=4))
    num_norms = len(norms(model))
    FuseConvBNHook(enable=False).before_test(SimpleNamespace(model=model))
    assert len(norms(model)) == num_norms


def test_other_backbones_are_left_alone():
    model = make(dict(type='ResNet', depth=50, norm_eval=False))
    num_norms = len(norms(model))
    FuseConvBNHook().before_test(SimpleNamespace(model=model))
    assert len(norms(model)) == num_norms
