"""Transforms of MMAction2 that newer packages broke and this package repairs."""

import importlib.util

import cv2
import numpy as np
import pytest
from mmaction.datasets.transforms import ColorJitter, PyAVDecodeMotionVector
from mmaction.utils import frame_extract
from mmengine.dataset import Compose
from tiny_videos import shown_numbers, write_video


def pictures(num: int = 8) -> list:
    return list(np.random.randint(0, 256, (num, 48, 64, 3), dtype=np.uint8))


def skeletons() -> dict:
    points = np.random.rand(2, 20, 17, 2).astype(np.float32) * 30 + 8
    scores = np.random.rand(2, 20, 17).astype(np.float16)
    return dict(keypoint=points, keypoint_score=scores, imgs=pictures(20), img_shape=(48, 64), num_clips=1, clip_len=20)


def test_skeletons_are_cut_out_of_pictures():
    for kind in ('PoseCompact', 'MMCompact'):
        for settings in ({}, dict(hw_ratio=None, allow_imgpad=False)):
            results = Compose([dict(type=kind, **settings)])(skeletons())
            height, width = results['img_shape']
            assert 0 < height <= 80 and 0 < width <= 80
            assert np.isfinite(results['keypoint']).all()


def test_imgaug_augments():
    if not importlib.util.find_spec('imgaug'):
        pytest.skip('imgaug is not installed')
    results = dict(imgs=pictures(), modality='RGB', img_shape=(48, 64))
    results = Compose([dict(type='ImgAug', transforms='default')])(results)
    assert {img.dtype.name for img in results['imgs']} == {'uint8'}


@pytest.mark.parametrize('factor', [-0.5, 0.3])
def test_color_jitter_turns_the_hue(factor):
    hues = np.arange(0, 180, 7, np.uint8)
    hsv = np.stack([hues, *np.full((2, *hues.shape), 255, np.uint8)], -1)[None]
    picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    hsv[..., 0] = [(hue + int(255 * factor)) % 180 for hue in hues.tolist()]
    turned = ColorJitter().adjust_hue(picture, factor)
    assert turned.dtype == np.float32
    assert np.array_equal(turned, cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


@pytest.mark.parametrize('test_mode', [False, True])
def test_frames_of_a_long_video_are_sampled_where_there_are_poses(test_mode):
    frames = 2000
    results = dict(
        frame_inds=np.arange(frames), total_frames=frames, keypoint=np.random.rand(frames, 17, 3).astype(np.float16)
    )
    results = Compose(
        [dict(type='DecompressPose'), dict(type='UniformSampleFrames', clip_len=48, test_mode=test_mode)]
    )(results)
    wanted = np.arange(48) * frames / 48
    assert np.abs(results['frame_inds'] - wanted).max() <= frames / 48


def test_a_motion_vector_may_be_longer_than_eight_bits():
    names = ('w', 'h', 'src_x', 'src_y', 'dst_x', 'dst_y')
    # Two blocks of 16x16.
    blocks = np.array([[16, 16, 8, 8, 8, 8], [16, 16, 0, 30, 208, 40]])
    vectors = dict(zip(names, blocks.astype(np.int16).T))
    motion = PyAVDecodeMotionVector._parse_vectors(np.zeros((64, 256, 2), np.int8), vectors, 64, 256)
    assert motion.dtype == np.int8
    assert motion[40, 208, 1] == 10
    if np.__version__ >= '2':
        assert motion[40, 208, 0] == 127


def test_frames_are_extracted_in_a_smaller_size(tmp_path):
    video = write_video(tmp_path / 'a.mp4')
    _, frames = frame_extract(video, 24, str(tmp_path))
    assert frames[0].shape == (24, 32, 3)
    assert shown_numbers(frames)[:3] == [0, 1, 2]
