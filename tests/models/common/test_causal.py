"""Causal temporal modules, which see no later frames."""

import pytest
import torch
from blending import FORMS, PAIRS
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.registry import MODELS
from mmblvnet.models.common import TemporalAggregation, TemporalShift
from networks import SmallBLVNet


@given(r=st.integers(1, 7), pairs=st.integers(1, 5), form=st.sampled_from(FORMS))
@settings(deadline=None, max_examples=20)
def test_a_causal_tam_equals_a_longer_one_without_later_weights(r, pairs, form):
    num_frames = 2 * pairs
    causal = TemporalAggregation(3, num_frames, r, causal=True)
    # The first r of 2 r - 1 weights are of the current and earlier frames.
    longer = TemporalAggregation(3, num_frames, 2 * r - 1)
    weights = torch.zeros(2 * r - 1, 3)
    weights[:r] = causal.weight.detach()
    layers = longer.blending_layers if 2 * r - 1 != 3 else (longer.prev, longer.curr, longer.next)
    with torch.no_grad():
        for layer, weight in zip(layers, weights):
            layer.weight.copy_(weight[:, None, None, None])
    rows = 2 * pairs if form == PAIRS else 4 * pairs
    x = torch.randn(rows, 3, 4, 5)
    torch.testing.assert_close(causal(x, form), longer(x, form))


def test_a_causal_shift_takes_an_eighth_from_the_previous_frame():
    x = torch.randn(2 * 3, 16, 4, 5)
    y = TemporalShift(3, causal=True)(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert torch.equal(y[1:3, :2], x[:2, :2])
    assert torch.equal(y[4:, :2], x[3:5, :2])
    assert not y[[0, 3], :2].any()


@pytest.mark.parametrize(
    'config',
    [
        dict(type=SmallBLVNet, depth=50, num_segments=8),
        dict(type=SmallBLVNet, depth=50, num_segments=8, temporal_module='TSM'),
        dict(type='ResNetTAM', depth=18, num_segments=8),
    ],
    ids=str,
)
def test_later_frames_change_nothing_in_a_causal_network(config):
    network = MODELS.build(dict(config, causal=True))
    plain = MODELS.build(config)
    assert network.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(8, 3, 32, 32)
    other = x.clone()
    other[4:] += 1
    # A statement of its own: eval() of MMAction2's ResNet returns None.
    network.eval()
    with torch.no_grad():
        maps, changed = network(x), network(other)
    half = len(maps) // 2
    torch.testing.assert_close(maps[:half], changed[:half])
    assert not torch.allclose(maps[half:], changed[half:])


def test_a_causal_neck_sees_no_later_frames():
    neck = MODELS.build(dict(type='TAMNeck', in_channels=6, num_segments=4, keep_frames=True, causal=True))
    x = torch.randn(1, 6, 4, 2, 2)
    other = x.clone()
    other[:, :, 2:] += 1
    (maps, _), (changed, _) = neck([x]), neck([other])
    assert torch.equal(maps[:2], changed[:2])
    assert not torch.equal(maps[2:], changed[2:])
