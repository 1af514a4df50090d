"""Training modes that users of MMAction2's backbones expect."""

import copy

import pytest
import torch
from networks import SmallBLVNet, ThinBLVNet, pair_of_networks, randomize
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


def build(**more):
    return ThinBLVNet(50, num_segments=4, **more)


def statistics(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def test_weights_are_contiguous_for_fsdp():
    # FSDP flattens gradients of channels-last weights in the wrong order.
    assert all(p.is_contiguous() for p in build().parameters())


@pytest.mark.parametrize('norm_eval', [False, True])
def test_norm_eval_keeps_the_statistics_of_the_norms(norm_eval):
    backbone = randomize(build(norm_eval=norm_eval)).train()
    before = statistics(backbone)
    backbone(torch.randn(4, 3, 32, 32))
    for name, value in statistics(backbone).items():
        assert torch.equal(value, before[name]) == norm_eval, name


@pytest.mark.parametrize('frozen_stages', [2, 4])
def test_frozen_stages_neither_learn_nor_drift(frozen_stages):
    backbone = randomize(build(frozen_stages=frozen_stages)).train()
    before = statistics(backbone)
    maps = backbone(torch.randn(4, 3, 32, 32))
    if frozen_stages < 4:
        maps.mean().backward()
    stages = ['layer1', 'layer2', 'layer3', 'layer4']

    def is_frozen(name):
        stage = name.split('.')[0]
        number = stages.index(stage) + 1 if stage in stages else 0
        return number <= frozen_stages

    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad != is_frozen(name), name
        assert (parameter.grad is None) == is_frozen(name), name
    for name, value in statistics(backbone).items():
        assert torch.equal(value, before[name]) == is_frozen(name), name


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_gradients_can_be_computed_twice(norm):
    backbone = randomize(build(with_cp=True, norm_cfg=dict(type=norm))).train()
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
    backbone(torch.randn(4, 3, 32, 32))
    for name, value in statistics(backbone).items():
        assert not torch.equal(value, after[name]), name


def test_second_derivatives_are_those_of_the_reference():
    backbone, reference = pair_of_networks(depth=50)
    backbone.with_cp = True
    frames = torch.randn(8, 3, 32, 32, dtype=torch.double)
    results = []
    for network, forward in ((backbone, backbone), (reference, reference.features)):
        network.double().train()
        x = frames.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(forward(x).square().sum(), x, create_graph=True)
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


def test_checkpointing_recomputes_only_widening_convolutions():
    backbone = build(with_cp=True).train()
    widening = [
        m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.out_channels > m.in_channels * m.stride[0] ** 2
    ]
    loss = backbone(torch.randn(4, 3, 32, 32)).mean()
    with CountedConvolutions() as counted:
        loss.backward()
    # The last convolution of a checkpointed segment is not repeated.
    assert 0 < counted.number <= len(widening)


def test_group_norm_can_replace_batch_norm():
    backbone = build(norm_cfg=dict(type='GN', num_groups=4))
    backbone.init_weights()
    assert not statistics(backbone)
    assert backbone(torch.randn(4, 3, 32, 32)).isfinite().all()


@torch.no_grad()
def test_autocast_stays_near_full_precision():
    backbone = randomize(build()).eval()
    x = torch.randn(4, 3, 32, 32)
    full = backbone(x)
    with torch.autocast('cpu', torch.bfloat16):
        half = backbone(x)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() < 0.05 * full.norm()


def test_checkpointing_compiles():
    plain = randomize(SmallBLVNet(50, num_segments=4)).double().train()
    thrifty = SmallBLVNet(50, num_segments=4, with_cp=True).double().train()
    thrifty.load_state_dict(plain.state_dict())
    compiled = torch.compile(thrifty, backend='eager')
    # Batch norms over few values amplify rounding errors.
    x = torch.randn(8, 3, 64, 64, dtype=torch.double)
    for backbone in (plain, compiled):
        backbone(x).square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), thrifty.parameters()):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(dict(thrifty.named_buffers())[name], value, msg=name)


def test_the_backbone_compiles_in_one_graph():
    # Other tests may have reached the recompilation limit.
    torch.compiler.reset()
    backbone = randomize(SmallBLVNet(50, num_segments=4)).double().train()
    compiled = torch.compile(copy.deepcopy(backbone), backend='eager', fullgraph=True)
    # Batch norms over few values amplify rounding errors.
    x = torch.randn(8, 3, 64, 64, dtype=torch.double)
    torch.testing.assert_close(compiled(x), backbone(x))
