"""Property tests: inputs of any shape are computed correctly or refused with a reason."""

import functools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.registry import MODELS
from networks import recognizer

NETWORKS = dict(
    BLVNet=dict(type='ThinBLVNet', depth=50, num_segments=2),
    BLVNet_of_pairs_of_flow=dict(type='ThinBLVNet', depth=50, num_segments=4, frame_output='pair', in_channels=10),
    ResNetTAM=dict(type='ResNetTAM', depth=18, num_segments=2),
)


@functools.lru_cache(maxsize=None)
def network(name):
    backbone = MODELS.build(NETWORKS[name])
    # A statement of its own: eval() of MMAction2's ResNet returns None.
    backbone.eval()
    return backbone


@pytest.mark.parametrize('name', NETWORKS)
@settings(deadline=None, max_examples=15)
@given(
    frames=st.integers(0, 6),
    channels=st.sampled_from([1, 3, 10]),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3) | st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@torch.no_grad()
def test_any_shape_gives_a_map_for_each_frame_or_is_refused(name, frames, channels, sizes):
    backbone = network(name)
    x = torch.rand(frames, channels, *sizes)
    fits = (
        len(sizes) == 2 and 0 not in sizes and channels == backbone.in_channels and frames % backbone.num_segments == 0
    )
    try:
        maps = backbone(x)
    except ValueError as error:
        assert not fits
        assert re.search(
            rf'{type(backbone).__name__} (expects frames .* got|'
            rf'got {frames} frames, not a multiple of num_segments = {backbone.num_segments})',
            str(error),
        )
    else:
        assert fits
        outputs = frames // 2 if name == 'BLVNet_of_pairs_of_flow' else frames
        height, width = ((size + 31) // 32 for size in sizes)
        assert maps.shape == (outputs, maps.size(1), height, width)


def test_an_image_network_refuses_other_channels():
    with pytest.raises(ValueError, match=r'ThinBLResNet expects frames .* got \(1, 10, 8, 8\)'):
        MODELS.build(dict(type='ThinBLResNet', depth=50))(torch.rand(1, 10, 8, 8))


@functools.lru_cache(maxsize=None)
def model(num_segments):
    return recognizer(
        dict(type='ThinBLVNet', depth=50, num_segments=num_segments), dict(type='TSNHead', in_channels=256)
    ).eval()


@settings(deadline=None, max_examples=20)
@given(
    num_segments=st.sampled_from([2, 4]),
    clip_len=st.sampled_from([2, 3, 4, 8]),
    frame_output=st.sampled_from(['repeat', 'pair']),
    head=st.sampled_from(['TSNHead', 'TSMHead']),
    head_segments=st.sampled_from([1, 2, 4]),
    in_channels=st.sampled_from([256] * 7 + [128]),
    max_views=st.sampled_from([None, 2, 3, 4]),
)
@torch.no_grad()
def test_settings_that_disagree_never_mix_videos(
    num_segments, clip_len, frame_output, head, head_segments, in_channels, max_views
):
    torch.manual_seed(0)
    network = model(num_segments)
    network.backbone.frame_output = frame_output
    segments = dict(num_segments=head_segments) if head == 'TSMHead' else {}
    network.cls_head = MODELS.build(
        dict(type=head, num_classes=5, in_channels=in_channels, average_clips='score', **segments)
    ).eval()
    network.cls_head.init_weights()
    network.test_cfg = dict(max_testing_views=max_views)
    # [N, views * T, C, H, W]
    videos = torch.rand(2, clip_len, 3, 8, 8)

    def scores(videos):
        feats, kwargs = network.extract_feat(videos, test_mode=True)
        return network.cls_head(feats, **kwargs)

    try:
        together = scores(videos)
        alone = torch.cat([scores(video[None]) for video in videos])
    except (ValueError, RuntimeError) as error:
        assert re.search(r'num_segments|max_testing_views|shape', str(error))
    else:
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
