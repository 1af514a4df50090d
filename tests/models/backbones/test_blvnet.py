import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.registry import MODELS
from mmblvnet.models import BLVNet
from networks import ThinBLVNet, pair_of_networks, randomize
from torch import nn


@given(
    # One frame selects the image network.
    num_frames=st.sampled_from([1, 2, 4, 6, 8]),
    temporal=st.sampled_from(['TAM', 'TAM', 'TSM', None]),
    r=st.integers(1, 7),
    clips=st.integers(1, 2),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    training=st.booleans(),
    with_cp=st.booleans(),
)
@settings(deadline=None, max_examples=12)
def test_maps_and_gradients_are_those_of_the_reference(
    num_frames, temporal, r, clips, height, width, training, with_cp
):
    backbone, reference = pair_of_networks(num_frames, temporal, r, depth=50)
    backbone.with_cp = with_cp
    if training:
        # Batch norms over few values amplify rounding errors.
        clips, height, width = clips + 2, height + 32, width + 32
    results = []
    for network, forward in ((backbone, backbone), (reference, reference.features)):
        network.double().train()
        if not training:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        torch.manual_seed(0)
        x = torch.randn(num_frames * clips, 3, height, width, dtype=torch.double)
        maps = forward(x.requires_grad_())
        maps.square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if not name.startswith('fc.')}
        results.append(dict(gradients, maps=maps, x=x.grad, **dict(network.named_buffers())))
    for name, expected in results[1].items():
        size = expected.detach().abs().max().item()
        torch.testing.assert_close(results[0][name], expected, rtol=1e-6, atol=1e-9 * max(1, size))


@pytest.mark.parametrize(
    'config',
    [
        dict(depth=50, r=2),
        dict(depth=101, alpha=4, beta=2, temporal='TSM'),
        dict(depth=152, alpha=1, beta=1, in_channels=10, num_frames=2),
        dict(depth=152, num_frames=1),
    ],
    ids=str,
)
@torch.no_grad()
def test_every_size_of_a_network_gives_the_maps_of_the_reference(config):
    backbone, reference = pair_of_networks(**config)
    backbone.eval(), reference.eval()
    x = torch.randn(2 * config.get('num_frames', 4), backbone.in_channels, 50, 33)
    torch.testing.assert_close(backbone(x), reference.features(x), atol=1e-4, rtol=1e-4)


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


@torch.no_grad()
def test_several_stages_come_as_a_tuple():
    backbone = ThinBLVNet(50, num_segments=2, frame_output='pair', out_indices=(0, 1, 2, 3))
    maps = backbone.eval()(torch.randn(2, 3, 64, 64))
    assert isinstance(maps, tuple)
    assert [tuple(m.shape) for m in maps] == [(1, 32, 8, 8), (1, 64, 4, 4), (1, 128, 4, 4), (1, 256, 2, 2)]


def test_an_argument_out_of_range_is_named():
    for argument, value in (
        ('num_segments', 7),
        ('num_segments', 0),
        ('temporal_module', 'GSM'),
        ('frame_output', 'both'),
        ('blend_frames', 0),
        ('depth', 18),
        ('alpha', 3),
        ('beta', 0),
        ('in_channels', 0),
        ('out_indices', (4,)),
        ('out_indices', ()),
        ('frozen_stages', 5),
    ):
        with pytest.raises(ValueError) as error:
            BLVNet(**{'depth': 50, argument: value})
        assert f'{argument} = {value!r}' in str(error.value)
