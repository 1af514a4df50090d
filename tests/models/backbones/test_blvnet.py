import golden
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.registry import MODELS
from mmblvnet.models import BLVNet
from networks import pair_of_networks, randomize
from torch import nn
from torch.nn import functional as F

EVAL_CASES = golden.cases('blvnet_tam', mode='eval')
TRAIN_CASE, = golden.cases('blvnet_tam', mode='train')


@pytest.mark.parametrize('case', EVAL_CASES, ids=lambda case: case['name'])
def test_scores_and_stages_are_the_published_ones(case):
    model = golden.Network(case).eval()
    stages = {}
    model.backbone.layer1.register_forward_pre_hook(
        lambda _, args: stages.update(stem=args[0]))
    for i in range(1, 5):
        name = f'layer{i}'
        getattr(model.backbone, name).register_forward_hook(
            lambda _, args, out, name=name: stages.update({name: out}))
    with torch.no_grad():
        scores = model(golden.inputs(case))
    torch.testing.assert_close(
        scores, torch.tensor(case['logits']), atol=1e-4, rtol=0)
    for name, expected in case['stages'].items():
        maps = stages[name]
        assert list(maps.shape) == expected['shape']
        assert maps.mean().item() == pytest.approx(expected['mean'], abs=1e-5)
        assert maps.std(
            correction=0).item() == pytest.approx(expected['std'], abs=1e-5)
        first = maps.contiguous().flatten()[:len(expected['first'])]
        torch.testing.assert_close(
            first, torch.tensor(expected['first']), atol=1e-4, rtol=0)


def test_training_loss_and_gradients_are_the_published_ones():
    model = golden.Network(TRAIN_CASE).double().train()
    loss = F.cross_entropy(
        model(golden.inputs(TRAIN_CASE).double()),
        torch.tensor(TRAIN_CASE['labels']))
    loss.backward()
    assert loss.item() == pytest.approx(TRAIN_CASE['loss'], rel=1e-5)
    norms = {
        f'baseline_model.{name.removeprefix("backbone.")}': p.grad.norm()
        for name, p in model.named_parameters()
    }
    expected = TRAIN_CASE['grad_norms']
    assert norms.keys() == expected.keys()
    errors = torch.tensor(
        [abs(norms[k].item() / expected[k] - 1) for k in expected])
    # The published numbers are float32, in which ReLUs near zero flip with
    # the order of a sum: the reference is as far from them, and moves as
    # much with the number of threads. The next test is the sharp one.
    assert errors.max() < 1e-2
    assert errors.median() < 1e-3


@given(
    # One frame means the image network.
    num_frames=st.sampled_from([1, 2, 4, 6, 8]),
    temporal=st.sampled_from(['TAM', 'TAM', 'TSM', None]),
    r=st.integers(1, 7),
    clips=st.integers(1, 2),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    training=st.booleans(),
    with_cp=st.booleans())
@settings(deadline=None, max_examples=12)
def test_a_step_is_that_of_the_reference(num_frames, temporal, r, clips,
                                         height, width, training, with_cp):
    backbone, reference = pair_of_networks(
        num_frames, temporal, r, depth=50)
    backbone.with_cp = with_cp
    if training:
        # Norms of a batch of few values make much of the order of a sum.
        clips, height, width = clips + 2, height + 32, width + 32
    results = []
    for network, forward in ((backbone, backbone),
                             (reference, reference.features)):
        network.double().train()
        if not training:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        torch.manual_seed(0)
        x = torch.randn(
            num_frames * clips, 3, height, width, dtype=torch.double)
        maps = forward(x.requires_grad_())
        maps.square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()
                     if not name.startswith('fc.')}
        results.append(dict(
            gradients, maps=maps, x=x.grad, **dict(network.named_buffers())))
    for name, expected in results[1].items():
        size = expected.detach().abs().max().item()
        torch.testing.assert_close(
            results[0][name], expected, rtol=1e-6, atol=1e-9 * max(1, size))


@pytest.mark.parametrize('config', [
    dict(depth=50, r=2),
    dict(depth=101, alpha=4, beta=2, temporal='TSM'),
    dict(depth=152, alpha=1, beta=1, in_channels=10, num_frames=2),
    dict(depth=152, num_frames=1),
], ids=str)
@torch.no_grad()
def test_every_size_of_a_network_gives_the_maps_of_the_reference(config):
    backbone, reference = pair_of_networks(**config)
    backbone.eval(), reference.eval()
    x = torch.randn(2 * config.get('num_frames', 4), backbone.in_channels, 50,
                    33)
    torch.testing.assert_close(
        backbone(x), reference.features(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_repeat_gives_each_pair_map_to_both_frames():
    config = dict(type='ThinBLVNet', depth=50, num_segments=4)
    repeat = randomize(MODELS.build(config)).eval()
    pair = MODELS.build(dict(config, frame_output='pair')).eval()
    pair.load_state_dict(repeat.state_dict())
    x = torch.randn(8, 3, 40, 40)
    maps = repeat(x)
    assert maps.shape == (8, 256, 2, 2)
    torch.testing.assert_close(maps[0::2], pair(x))
    torch.testing.assert_close(maps[1::2], pair(x))


def test_an_argument_out_of_range_is_named():
    for argument, value in (('num_segments', 7), ('num_segments', 0),
                            ('temporal_module', 'GSM'),
                            ('frame_output', 'both'), ('blend_frames', 0),
                            ('depth', 18)):
        with pytest.raises(ValueError) as error:
            BLVNet(**{'depth': 50, argument: value})
        assert f'{argument} = {value!r}' in str(error.value)
