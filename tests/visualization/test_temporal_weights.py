import cv2
import networks  # noqa: F401
import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmblvnet.models.common import TemporalAggregation
from mmblvnet.visualization.temporal_weights import OFFSET_COLORS, draw_temporal_weights, temporal_weights
from torch import nn


def layer(*channels):
    """Return the temporal weights of a TAM that has these r weights per channel."""
    tam = TemporalAggregation(len(channels), 4, len(channels[0]))
    with torch.no_grad():
        for conv, values in zip(tam.children() if len(channels[0]) == 3 else tam.blending_layers, zip(*channels)):
            conv.weight.copy_(torch.tensor(values).view(-1, 1, 1, 1))
    return temporal_weights(nn.Sequential(tam))[0]


def test_the_shares_of_a_channel_are_its_weights_over_their_absolute_sum():
    weights = layer((1.0, 2.0, 1.0), (-3.0, 1.0, 0.0), (0.0, 0.0, 0.0))
    assert weights.shares.T.tolist() == [[0.25, 0.5, 0.25], [-0.75, 0.25, 0], [0, 0, 0]]
    assert layer((1.0, 2.0, 1.0), (-3.0, 1.0, 0.0)).mean_shares == {-1: 0.5, 0: 0.375, 1: 0.125}


def test_channels_average_subtract_or_are_silent():
    weights = layer((1.0, 2.0, 0.0), (-3.0, 1.0, 0.0), (0.0, 0.0, 0.0), (-1.0, -1.0, 0.0))
    assert weights.signs == dict(average=0.25, difference=0.25, silent=0.5)


def test_channels_are_in_the_order_of_time_and_then_of_sign():
    channels = [(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]
    assert layer(*channels).sorted_shares().T.tolist() == [list(channels[i]) for i in (4, 2, 3, 1, 0)]


def test_every_module_of_a_network_is_found_in_its_order():
    for model, places, num_frames in (
        (
            dict(type='SmallBLVNet', depth=50, num_segments=4, blend_frames=5),
            ['stem', 'layer1', 'layer2', 'layer3', 'layer4.0', 'layer4.1', 'layer4.2'],
            # layer4 works on pairs, which are half as many as frames.
            [4, 4, 4, 4, 2, 2, 2],
        ),
        (
            dict(type='ResNetTAM', depth=18, num_segments=4, blend_frames=1),
            [f'layer{i}.{k}' for i in (1, 2, 3, 4) for k in (0, 1)],
            [4] * 8,
        ),
        (dict(type='TAMNeck', in_channels=(8, 16), num_segments=4), ['tams.0', 'tams.1'], [4, 4]),
    ):
        found = temporal_weights(MODELS.build(model))
        assert [weights.name for weights in found] == places
        assert [weights.num_frames for weights in found] == num_frames
        r = model.get('blend_frames', 3)
        assert {len(weights.weight) for weights in found} == {r}


def test_a_network_without_temporal_weights_is_refused():
    with pytest.raises(ValueError, match='has no TemporalAggregation'):
        temporal_weights(nn.Conv2d(1, 1, 1))


def test_the_picture_shows_where_the_weights_are(tmp_path):

    def amounts(weights):
        out = tmp_path / 'out.png'
        draw_temporal_weights([layer(weights, weights)], out)
        picture = cv2.imread(str(out))[..., ::-1].astype(int)
        return [(abs(picture - np.array(OFFSET_COLORS(end)[:3]) * 255) < 3).all(-1).sum() for end in (0.0, 1.0)]

    past, future = amounts((0.0, 0.0, 1.0))
    assert future > 10 * max(past, 1)
    past, future = amounts((1.0, 0.0, 0.0))
    assert past > 10 * max(future, 1)
