from types import SimpleNamespace

import pytest
import torch
from mmblvnet.engine.hooks import FuseConvBNHook
from mmblvnet.models.common.folding import fold_norms
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from networks import recognizer
from torch import nn

TSN = dict(type='TSNHead', in_channels=2048)


def make(backbone):
    return recognizer(backbone, TSN).eval()


def norms(model):
    return [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    'backbone',
    [dict(type='BLVNet', depth=50, num_segments=4, temporal_module='TSM'), dict(type='BLResNet', depth=101)],
    ids=str,
)
@torch.no_grad()
def test_a_folded_backbone_gives_the_same_maps(backbone):
    model = make(backbone)
    x = torch.randn(4, 3, 64, 64)
    expected = model.backbone(x)
    FuseConvBNHook().before_test_iter(SimpleNamespace(model=model), 0)
    assert norms(model) == []
    folded = model.backbone(x)
    assert (folded - expected).norm() < 1e-5 * expected.norm()


def test_networks_with_3d_convolutions_are_folded():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Unflatten(1, (4, 1)), nn.Conv3d(4, 4, 1))
    x = torch.randn(2, 3, 8, 8)
    expected = network.eval()(x)
    folded = fold_norms(network)
    assert folded[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(folded(x), expected)


def test_the_model_is_restored_after_the_test():
    model = make(dict(type='BLVNet', depth=50, num_segments=4))
    backbone = model.backbone
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hook, runner = FuseConvBNHook(), SimpleNamespace(model=model)
    hook.before_test_iter(runner, 0)
    hook.after_test_epoch(runner)
    assert model.backbone is backbone
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_validation_and_other_networks_are_not_folded():
    ours = make(dict(type='BLVNet', depth=50, num_segments=4))
    hook, runner = FuseConvBNHook(), SimpleNamespace(model=ours)
    hook.before_val(runner)
    hook.before_val_epoch(runner)
    FuseConvBNHook(enable=False).before_test_iter(runner, 0)
    other = make(dict(type='ResNet', depth=18, norm_eval=False))
    hook.before_test_iter(SimpleNamespace(model=other), 0)
    assert norms(ours) and norms(other)


def test_averaged_weights_are_folded_and_the_others_restored():
    model = make(dict(type='BLVNet', depth=50, num_segments=4))
    runner = SimpleNamespace(model=model, _hooks=[])
    average = EMAHook()
    for hook in (average, FuseConvBNHook()):
        Runner.register_hook(runner, hook)
    Runner.call_hook(runner, 'before_run')
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = model.backbone(x)
        model.backbone.conv1.weight.zero_()
        Runner.call_hook(runner, 'before_test_epoch')
        Runner.call_hook(runner, 'before_test_iter', batch_idx=0, data_batch=None)
        assert norms(model) == []
        folded = model.backbone(x)
    assert (folded - expected).norm() < 1e-5 * expected.norm()
    Runner.call_hook(runner, 'after_test_epoch', metrics=None)
    assert not model.backbone.conv1.weight.any()
