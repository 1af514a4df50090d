"""Stacks of optical flow images, from the sampler to the input of the network."""

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS


def sample(total_frames, kind='BigLittleSampleFrames', **kwargs):
    sampler = TRANSFORMS.build(dict(type=kind, clip_len=4, **dict(dict(num_consecutive_frames=5), **kwargs)))
    return sampler(dict(total_frames=total_frames, start_index=0))


@pytest.mark.parametrize(
    'kind', [dict(), dict(test_mode=True, num_clips=2), dict(kind='BigLittleDenseSampleFrames', frame_interval=3)]
)
def test_each_position_gives_consecutive_frames(kind):
    for total_frames in (5, 6, 40):
        frames = sample(total_frames, **kind)['frame_inds'].reshape(-1, 5)
        assert len(frames) == 4 * kind.get('num_clips', 1)
        assert (np.diff(frames) == 1).all()
        assert 0 <= frames.min() and frames.max() < total_frames


def test_a_video_shorter_than_a_stack_repeats_its_last_frame():
    frames = sample(3)['frame_inds'].reshape(-1, 5)
    assert frames.tolist() == [[0, 1, 2, 2, 2]] * 4


def test_positions_leave_room_for_a_whole_stack():
    stacks = sample(44, test_mode=True)['frame_inds'].reshape(-1, 5)
    single = sample(40, test_mode=True, num_consecutive_frames=1)
    assert stacks[:, 0].tolist() == single['frame_inds'].tolist()


def test_a_stack_becomes_the_channels_of_one_image():
    results = sample(40, test_mode=True)
    number = results['frame_inds'][:, None, None, None]
    # Channel 0 holds the image number, channel 1 the number + 100.
    images = number + np.array([0, 100]) + np.zeros((1, 2, 3, 1), int)
    results.update(imgs=list(images.astype(np.uint8)), modality='Flow')
    formatted = TRANSFORMS.build(dict(type='FormatShape', input_format='NCHW'))(results)['imgs']
    assert formatted.shape == (4, 10, 2, 3)
    first = results['frame_inds'][0]
    assert formatted[0, :, 0, 0].tolist() == [first + i + offset for i in range(5) for offset in (0, 100)]


@pytest.mark.parametrize('modality', ('Flow', 'RGB'))
def test_a_mirror_inverts_the_x_of_every_flow_image(modality):
    channels = 2 if modality == 'Flow' else 3
    images = np.random.RandomState(0).randint(0, 256, (4, 6, 8, channels)).astype(np.uint8)
    results = dict(imgs=list(images.copy()), modality=modality, img_shape=(6, 8), label=0)
    flip = TRANSFORMS.build(dict(type='FlowFlip', flip_ratio=1))
    expected = images[:, :, ::-1].copy()
    if modality == 'Flow':
        expected[..., 0] = 255 - expected[..., 0]
    np.testing.assert_array_equal(np.stack(flip(results)['imgs']), expected)
