"""Modes that change how the device computes, but not the results."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS as REGISTRY
from mmblvnet.engine.hooks import FuseConvBNHook
from mmblvnet.models import BLVNet
from mmblvnet.models.common.big_little_stage import ShortcutPool
from networks import randomize, relative_error
from small_models import BLVNET, MODELS, NUM_FRAMES, batch, build, gradients_of, loss_of, scores_of

models = pytest.mark.parametrize('name', MODELS)


def step(model, data):
    """Run forward and backward once; return the gradients and the buffers."""
    model.zero_grad()
    loss_of(model.train(), data).backward()
    return gradients_of(model), dict(model.named_buffers())


@pytest.mark.parametrize(
    'name, dtype',
    [
        ('flagship', torch.float32),
        ('flagship', torch.bfloat16),
        ('ResNetTAM', torch.bfloat16),
        ('TAMNeck', torch.float32),
    ],
    ids=str,
)
def test_deterministic_mode_gives_the_same_bits_again(name, dtype, device, deterministic):
    results = []
    for _ in range(2):
        model = build(name, device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            scores = scores_of(model, batch(num_views=2))
            gradients, statistics = step(model, batch())
        results.append(dict(gradients, scores=scores, **statistics))
    for key, value in results[0].items():
        assert torch.equal(results[1][key], value), key


@pytest.mark.parametrize('name', ['flagship', 'ResNetTAM'])
def test_checkpointing_changes_no_gradient(name, device, deterministic):
    plain, thrifty = build(name, device), build(name, device, with_cp=True)
    expected, expected_statistics = step(plain.double(), batch())
    gradients, statistics = step(thrifty.double(), batch())
    for key, value in expected.items():
        assert relative_error(gradients[key], value) < 1e-9, key
    for key, value in expected_statistics.items():
        torch.testing.assert_close(statistics[key], value, msg=key)


def test_checkpointing_takes_less_memory(cuda):
    peaks = []
    for with_cp in (False, True):
        model = build('flagship', cuda, with_cp=with_cp)
        data = batch(16, size=112)
        # The first step also allocates memory that it never frees.
        step(model, data)
        model.zero_grad()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, data)
        gradients = sum(p.grad.nbytes for p in model.parameters())
        peaks.append(torch.cuda.max_memory_allocated() - before - gradients)
        del model
    assert peaks[1] < 0.85 * peaks[0]


@torch.no_grad()
def test_folded_norms_give_the_same_maps(device):
    backbone = randomize(REGISTRY.build(BLVNET)).to(device).eval()
    x = torch.randn(2 * NUM_FRAMES, 3, 64, 64, device=device)
    expected = backbone(x)
    model = torch.nn.Module()
    model.backbone = backbone
    FuseConvBNHook().before_test_iter(SimpleNamespace(model=model), 0)
    assert model.backbone is not backbone
    assert relative_error(model.backbone(x), expected) < 1e-5


@pytest.mark.parametrize('dtype, bound', [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=str)
def test_the_pool_of_a_shortcut_has_the_gradient_of_float64(dtype, bound, device):
    x = (
        torch.randn(2, 8, 9, 12, dtype=dtype, device=device)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    pool = ShortcutPool()
    y = pool(x)
    weight = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, weight)
    leaf = x.detach().double().cpu().contiguous().requires_grad_()
    (expected,) = torch.autograd.grad(pool(leaf), leaf, weight.double().cpu())
    assert relative_error(gradient.cpu(), expected) < bound


@models
def test_scores_of_a_video_are_the_mean_over_its_views(name, device):
    model, data = build(name, device), batch(2, 3)
    views = [
        scores_of(
            model, dict(data, inputs=[video[NUM_FRAMES * view : NUM_FRAMES * (view + 1)] for video in data['inputs']])
        )
        for view in range(3)
    ]
    for max_testing_views in (None, NUM_FRAMES, 2 * NUM_FRAMES):
        model.test_cfg = dict(max_testing_views=max_testing_views)
        torch.testing.assert_close(scores_of(model, data), sum(views) / 3, atol=1e-4, rtol=1e-4)


class ShortBLVNet(BLVNet):
    """BLVNet with few blocks of every kind, since compilation is slow."""

    arch_settings = {50: (2, 2, 2, 1)}


def short_backbone(temporal):
    return randomize(
        ShortBLVNet(
            50,
            num_segments=NUM_FRAMES,
            temporal_module=temporal,
            frame_output='repeat' if temporal == 'TSM' else 'pair',
        )
    )


# Inductor compiles code of ours only in the TAM; else tracing suffices.
compiled_in_one_graph = pytest.mark.parametrize(
    'temporal, backend', [('TAM', 'inductor'), ('TSM', 'aot_eager'), (None, 'aot_eager')], ids=str
)


@compiled_in_one_graph
def test_a_backbone_compiled_in_one_graph_trains_as_before(temporal, backend, device):
    # In float32 the ReLU of values near zero depends on the order of sums.
    backbone = short_backbone(temporal).to(device, torch.double).train()
    compiled = torch.compile(copy.deepcopy(backbone), fullgraph=True, backend=backend)
    frames = torch.randn(2 * NUM_FRAMES, 3, 64, 64, device=device, dtype=torch.double)
    weight = torch.randn_like(copy.deepcopy(backbone)(frames))
    results = []
    for network in (backbone, compiled):
        x = frames.clone().requires_grad_()
        maps = network(x)
        (maps * weight).sum().backward()
        results.append(
            dict(
                maps=maps,
                x=x.grad,
                **{name.removeprefix('_orig_mod.'): p.grad for name, p in network.named_parameters()},
                **{name.removeprefix('_orig_mod.'): value for name, value in network.named_buffers()},
            )
        )
    errors = {key: relative_error(results[1][key], value) for key, value in results[0].items()}
    assert max(errors.values()) < 1e-6, max(errors, key=errors.get)
    compiled.eval(), backbone.eval()
    with torch.no_grad():
        assert relative_error(compiled(frames), backbone(frames)) < 1e-6
