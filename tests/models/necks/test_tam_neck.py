import pytest
import torch
from mmblvnet.models import TAMNeck
from networks import randomize


def as_recognizer2d_gives(frames, num_frames):
    """Return maps ``(N * num_frames, C, H, W)`` as a neck gets them, ``(N, C, num_frames, H, W)``."""
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2).contiguous()


def test_each_view_gives_the_mean_of_its_blended_frames():
    neck = randomize(TAMNeck(6, num_segments=4))
    # 2 videos, 3 views of 4 frames each
    frames = torch.randn(2 * 3 * 4, 6, 5, 5)
    out, losses = neck([as_recognizer2d_gives(frames, 12)])
    expected = neck.tams[0](frames).unflatten(0, (6, 4)).mean(1)
    torch.testing.assert_close(out.squeeze(2), expected)
    assert losses == {}


def test_kept_frames_come_out_in_order():
    neck = randomize(TAMNeck(6, num_segments=4, keep_frames=True))
    frames = torch.randn(2 * 8, 6, 5, 5)
    out, _ = neck([as_recognizer2d_gives(frames, 8)])
    torch.testing.assert_close(out.squeeze(2), neck.tams[0](frames))


def test_a_single_in_channels_selects_the_last_level():
    neck = randomize(TAMNeck(6, num_segments=4))
    levels = [torch.randn(2, 3, 4, 8, 8), torch.randn(2, 6, 4, 5, 5)]
    torch.testing.assert_close(neck(levels)[0], neck(levels[-1:])[0])


def test_maps_of_a_3d_backbone_keep_their_shape():
    neck = randomize(TAMNeck((3, 6), num_segments=4))
    clips = (torch.randn(2, 3, 4, 8, 8), torch.randn(2, 6, 8, 5, 5))
    out, _ = neck(clips)
    assert isinstance(out, tuple)
    for maps, tam, level in zip(out, neck.tams, clips):
        expected = torch.stack([tam(clip.transpose(0, 1)) for clip in level])
        torch.testing.assert_close(maps, expected.transpose(1, 2))


@pytest.mark.parametrize(
    'levels, message',
    [
        ([torch.randn(2, 5, 4, 3, 3)], r'\(5,\) channels.*\(6,\)'),
        ([torch.randn(2, 6, 6, 3, 3)], r'\[6\] frames.*num_segments = 4'),
        ([torch.randn(6, 4, 3, 3)], r'out_indices=\(2, 3\)'),
        ([], r'TAMNeck got maps of \(\) channels'),
    ],
)
def test_maps_of_another_model_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        TAMNeck(6, num_segments=4)(levels)


def test_an_argument_out_of_range_is_named():
    with pytest.raises(ValueError, match='num_segments = 0'):
        TAMNeck(6, num_segments=0)
    with pytest.raises(ValueError, match='is empty'):
        TAMNeck((), num_segments=4)
