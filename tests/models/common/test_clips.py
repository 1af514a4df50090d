import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.registry import MODELS
from mmblvnet.models.common.clips import compute_equal_clips_once
from networks import randomize


class Network:
    """Remembers how many clips it has seen."""

    def __init__(self, num_levels=1):
        self.num_levels = num_levels
        self.seen = []

    def __call__(self, frames):
        self.seen.append(len(frames) // 2)
        # One map per pair of frames.
        maps = frames[::2] + 2 * frames[1::2]
        return (maps, ) * self.num_levels if self.num_levels > 1 else maps


@given(views=st.lists(st.integers(0, 3), min_size=1, max_size=8),
       num_levels=st.integers(1, 2))
@settings(deadline=None, max_examples=50)
@torch.no_grad()
def test_each_different_clip_is_computed_once(views, num_levels):
    clips = torch.randn(4, 2, 3, 5, 5)[views].flatten(0, 1)
    network = Network(num_levels)
    maps = compute_equal_clips_once(network, clips, 2)
    assert network.seen == [len(set(views))]
    torch.testing.assert_close(maps, Network(num_levels)(clips))


def test_every_clip_is_computed_where_gradients_are_needed():
    clips = torch.zeros(6, 3, 5, 5)
    network = Network()
    compute_equal_clips_once(network, clips, 2)
    assert network.seen == [3]


@torch.no_grad()
def test_traced_networks_compute_every_clip():
    traced = torch.jit.trace(
        lambda x: compute_equal_clips_once(Network(), x, 2),
        torch.zeros(6, 3, 5, 5))
    clips = torch.randn(6, 3, 5, 5)
    torch.testing.assert_close(traced(clips), Network()(clips))


def test_equal_views_get_the_scores_they_had(monkeypatch):
    for config in (dict(type='BLVNet'), dict(type='ResNetTAM')):
        backbone = MODELS.build(dict(config, depth=50, num_segments=4))
        randomize(backbone).eval()
        clips = torch.randn(2, 4, 3, 32, 32)
        views = clips[[0, 1, 0, 0]].flatten(0, 1)
        seen = []
        backbone.conv1.register_forward_pre_hook(
            lambda module, args: seen.append(len(args[0]) // 4))
        with torch.no_grad():
            together = backbone(views)
            alone = torch.cat([backbone(clip) for clip in views.split(4)])
        assert seen == [2, 1, 1, 1, 1]
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
