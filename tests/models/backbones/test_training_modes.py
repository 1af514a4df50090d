"""What MMAction2's backbones can do, for both Big-Little networks."""
import copy

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.model import revert_sync_batchnorm
from networks import randomize
from reference import ReferenceNetwork
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

BACKBONES = [
    dict(type='BLResNet', depth=50),
    dict(type='BLVNet', depth=50, num_segments=4),
]
both = pytest.mark.parametrize('config', BACKBONES, ids=lambda c: c['type'])


def build(config, **more):
    return MODELS.build(dict(config, **more))


@both
def test_weights_lie_as_fsdp_takes_them(config):
    # It takes gradients of channels-last weights in the wrong order.
    assert all(p.is_contiguous() for p in build(config).parameters())


def statistics(module):
    return {
        name: value.clone()
        for name, value in module.named_buffers() if 'running' in name
    }


@both
def test_norm_eval_keeps_the_statistics(config):
    backbone = randomize(build(config, norm_eval=True)).train()
    before = statistics(backbone)
    backbone(torch.randn(4, 3, 32, 32))
    for name, value in statistics(backbone).items():
        assert torch.equal(value, before[name]), name


@both
def test_norms_learn_statistics_by_default(config):
    backbone = randomize(build(config)).train()
    before = statistics(backbone)
    backbone(torch.randn(4, 3, 32, 32))
    assert not any(
        torch.equal(value, before[name])
        for name, value in statistics(backbone).items())


@both
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages_neither_learn_nor_drift(config, frozen_stages):
    backbone = randomize(build(config, frozen_stages=frozen_stages)).train()
    before = statistics(backbone)
    if frozen_stages < 4:
        backbone(torch.randn(4, 3, 32, 32)).mean().backward()
    stages = ['layer1', 'layer2', 'layer3', 'layer4']
    for name, parameter in backbone.named_parameters():
        stage = name.split('.')[0]
        number = stages.index(stage) + 1 if stage in stages else 0
        frozen = number <= frozen_stages
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) == frozen, name
    for name, value in statistics(backbone).items():
        stage = name.split('.')[0]
        number = stages.index(stage) + 1 if stage in stages else 0
        if number <= frozen_stages:
            assert torch.equal(value, before[name]), name


@both
def test_checkpointing_changes_nothing_but_memory(config):
    plain = randomize(build(config)).double().train()
    thrifty = build(config, with_cp=True).double().train()
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 32, 32, dtype=torch.double)
    weight = torch.randn_like(plain(x))
    # The first pass above has moved the statistics of the plain one.
    plain.load_state_dict(thrifty.state_dict())
    for backbone in (plain, thrifty):
        (backbone(x) * weight).sum().backward()
    for (name, p), q in zip(plain.named_parameters(), thrifty.parameters()):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(
            dict(thrifty.named_buffers())[name], value, msg=name)


@both
def test_deterministic_mode_gives_the_same_bits_again(config):
    backbone = randomize(build(config)).train()
    x = torch.randn(4, 3, 32, 32)
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            gradients.append(
                torch.autograd.grad(
                    backbone(x).square().mean(), backbone.parameters()))
    finally:
        torch.use_deterministic_algorithms(False)
    for first, second in zip(*gradients):
        assert torch.equal(first, second)


@both
@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_may_be_asked_for_twice(config, with_cp):
    backbone = randomize(build(config, with_cp=with_cp)).train()
    before = statistics(backbone)
    loss = backbone(torch.randn(4, 3, 32, 32)).square().mean()
    after = statistics(backbone)
    parameters = list(backbone.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    for a, b in zip(first, second):
        torch.testing.assert_close(a, b)
    for name, value in statistics(backbone).items():
        assert torch.equal(value, after[name]), name
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize('with_cp', [False, True])
def test_second_derivatives_are_those_of_the_reference(with_cp):
    config = dict(BACKBONES[1], frame_output='pair', with_cp=with_cp)
    backbone = randomize(build(config)).double().train()
    reference = ReferenceNetwork(50, 4, num_classes=1).double().train()
    reference.load_state_dict(backbone.state_dict(), strict=False)
    frames = torch.randn(8, 3, 32, 32, dtype=torch.double)
    results = []
    for network in (backbone, reference.features):
        x = frames.clone().requires_grad_()
        gradient, = torch.autograd.grad(
            network(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()
        results.append(x.grad)
    error = (results[0] - results[1]).norm() / results[1].norm()
    assert error < 1e-6


class CountedConvolutions(TorchDispatchMode):

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.number += operator == torch.ops.aten.convolution.default
        return operator(*args, **(kwargs or {}))


@both
def test_checkpointing_repeats_only_widening_convolutions(config):
    backbone = build(config, with_cp=True).train()
    widening = [
        m for m in backbone.modules() if isinstance(m, nn.Conv2d)
        and m.out_channels > m.in_channels * m.stride[0]**2
    ]
    loss = backbone(torch.randn(4, 3, 32, 32)).mean()
    with CountedConvolutions() as counted:
        loss.backward()
    # Nothing needs the map of the last one of a part.
    assert 0 < counted.number <= len(widening)


@both
def test_sync_bn_is_built_and_reverts(config):
    backbone = build(config, norm_cfg=dict(type='SyncBN'))
    norms = [m for m in backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    plain = build(config)
    assert len(norms) == sum(
        isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    assert backbone.state_dict().keys() == plain.state_dict().keys()
    reverted = revert_sync_batchnorm(backbone).eval()
    assert reverted(torch.randn(4, 3, 32, 32)).shape[1] == 2048


@both
def test_group_norm_takes_the_place_of_batch_norm(config):
    backbone = build(config, norm_cfg=dict(type='GN', num_groups=8))
    backbone.init_weights()
    assert not statistics(backbone)
    assert backbone(torch.randn(4, 3, 32, 32)).isfinite().all()


@both
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_stays_near_full_precision(config, dtype):
    backbone = randomize(build(config)).eval()
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        full = backbone(x)
        with torch.autocast('cpu', dtype):
            half = backbone(x)
    assert half.dtype == dtype
    error = (half.float() - full).norm() / full.norm()
    assert error < 0.05


@both
def test_checkpointing_compiles(config):
    plain = randomize(build(config)).double().train()
    thrifty = build(config, with_cp=True).double().train()
    thrifty.load_state_dict(plain.state_dict())
    compiled = torch.compile(thrifty, backend='eager')
    # Norms of a batch of few values make much of the order of a sum.
    x = torch.randn(8, 3, 64, 64, dtype=torch.double)
    for backbone in (plain, compiled):
        backbone(x).square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), thrifty.parameters()):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(
            dict(thrifty.named_buffers())[name], value, msg=name)


@both
def test_it_compiles_in_one_graph(config):
    backbone = randomize(build(config)).double().train()
    compiled = torch.compile(
        copy.deepcopy(backbone), backend='eager', fullgraph=True)
    # Norms of a batch of few values make much of the order of a sum.
    x = torch.randn(8, 3, 64, 64, dtype=torch.double)
    torch.testing.assert_close(compiled(x), backbone(x))
