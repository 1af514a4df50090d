from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmaction.registry import TRANSFORMS
from mmblvnet.apis import load_recognizer
from mmblvnet.visualization import (draw_clips, has_branches, sample_clips,
                                    sampled_frames)
from mmblvnet.visualization.sampled_frames import BIG, LITTLE, Clip
from mmengine.config import Config
from paths import CONFIGS, MOTION
from tiny_videos import NUM_FRAMES, shown_numbers, write_video


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('frames') / 'video.mp4')


def sampler(config, split):
    return TRANSFORMS.build(config[f'{split}_pipeline'][1])


def model_of(config, **parts):
    """What a network tells of itself, without its weights."""
    return SimpleNamespace(cfg=config, **parts)


@pytest.fixture(scope='module')
def model():
    return load_recognizer(MOTION, None, 'cpu')


def numbers_of(config, split):
    return sampler(config, split).transform(
        dict(total_frames=NUM_FRAMES, start_index=0))['frame_inds']


def test_a_training_clip_is_what_the_sampler_draws(video, model):
    np.random.seed(3)
    clip, = sample_clips(model, video, 'train')
    np.random.seed(3)
    assert clip.numbers.tolist() == numbers_of(model.cfg, 'train').tolist()
    assert shown_numbers(clip.frames) == clip.numbers.tolist()
    assert clip.frames.shape == (8, 64, 64, 3)
    assert clip.total_frames == NUM_FRAMES


def test_training_clips_are_drawn_again(video, model):
    np.random.seed(0)
    clips = sample_clips(model, video, 'train', draws=6)
    assert len(clips) == 6
    assert len({tuple(clip.numbers) for clip in clips}) > 1


def test_the_views_of_a_test_are_in_the_order_of_the_network(video, model):
    views = sample_clips(model, video, 'test')
    # 2 clips, and 3 crops of both.
    one_crop = numbers_of(model.cfg, 'test').reshape(2, 8).tolist()
    assert [view.numbers.tolist() for view in views] == 3 * one_crop
    for view in views:
        assert shown_numbers(view.frames) == view.numbers.tolist()


@pytest.mark.parametrize('clip_len, num_clips, form, parts, length', [
    (4, 2, 'NCTHW', dict(), 4),
    (1, 6, 'NCHW', dict(), 6),
    (1, 6, 'NCHW', dict(backbone=SimpleNamespace(num_segments=3)), 3),
    (1, 6, 'NCHW', dict(cls_head=SimpleNamespace(num_segments=2)), 2),
])
def test_the_clips_of_mmactions_networks_are_told_apart(
        video, clip_len, num_clips, form, parts, length):
    sample = dict(type='SampleFrames', clip_len=clip_len, num_clips=num_clips,
                  test_mode=True)
    shape = dict(type='FormatShape', input_format=form)
    config = Config(
        dict(
            val_pipeline=[
                dict(type='ExactVideoInit'), sample,
                dict(type='ExactVideoDecode'), shape,
                dict(type='PackActionInputs')
            ]))
    clips = sample_clips(model_of(config, **parts), video, 'val')
    numbers = TRANSFORMS.build(sample).transform(
        dict(total_frames=NUM_FRAMES, start_index=0))['frame_inds']
    assert np.concatenate([c.numbers for c in clips]).tolist() == \
        numbers.tolist()
    for clip in clips:
        assert len(clip.numbers) == length
        assert shown_numbers(clip.frames) == clip.numbers.tolist()


def test_only_blvnet_has_branches(model):
    assert has_branches(model)
    assert not has_branches(model_of(None, backbone=torch.nn.Identity()))


def test_a_config_of_flow_images_is_refused(video):
    config = Config.fromfile(CONFIGS / 'blvnet_tam_r50_8x2_sthv2-flow.py')
    with pytest.raises(ValueError, match='RawFrameDecode.* no video file'):
        sample_clips(model_of(config), video, 'train')


def test_frames_that_are_no_clips_are_refused(video):
    config = Config.fromfile(MOTION)
    model = model_of(config, backbone=SimpleNamespace(num_segments=6))
    with pytest.raises(ValueError, match='8 images .* no clips of 6'):
        sample_clips(model, video, 'train')


def test_a_file_that_is_no_video_is_refused(tmp_path, model):
    file = tmp_path / 'broken.mp4'
    file.write_bytes(b'no video')
    with pytest.raises(ValueError, match='broken.mp4 cannot be read .* the '
                       'train pipeline of'):
        sample_clips(model, str(file), 'train')
    with pytest.raises(FileNotFoundError, match='nowhere.mp4'):
        sample_clips(model, 'nowhere.mp4', 'train')


def paint_of(picture, color):
    wanted = np.array(to_rgb(color)) * 255
    return (abs(picture.astype(int) - wanted) < 3).all(-1)


@pytest.mark.parametrize('paired', [True, False])
def test_even_and_odd_frames_are_marked_by_their_branch(tmp_path, paired):
    out = tmp_path / 'out.png'
    clip = Clip(np.arange(8), np.zeros((8, 8, 8, 3), np.uint8), 8)
    draw_clips([clip], out, 'draw', paired)
    picture = cv2.imread(str(out))[..., ::-1]
    height, width = picture.shape[:2]
    # The bars above the thumbnails are the widest of that colour.
    little, big = (paint_of(picture, c).sum(1) for c in (LITTLE, BIG))
    assert (little.max() > width * 0.4) == (big.max() > width * 0.4) == paired
    if paired:
        row = little.argmax()
        assert paint_of(picture, LITTLE)[row].argmax() < paint_of(
            picture, BIG)[row].argmax()


def test_long_clips_go_over_several_lines(tmp_path):
    sizes = []
    for length in (16, 64):
        clip = Clip(np.arange(length), np.zeros((length, 8, 8, 3), np.uint8),
                    length)
        draw_clips([clip], tmp_path / 'out.png', 'draw', True)
        sizes.append(cv2.imread(str(tmp_path / 'out.png')).shape)
    assert sizes[0][1] == sizes[1][1]
    assert sizes[1][0] > 1.5 * sizes[0][0]


def test_of_many_views_the_first_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(sampled_frames, 'MAX_CLIPS', 2)
    clips = [Clip(np.arange(2), np.zeros((2, 8, 8, 3), np.uint8), 2)] * 4
    heights = []
    for count in (1, 2, 4):
        draw_clips(clips[:count], tmp_path / 'out.png', 'view', True)
        heights.append(cv2.imread(str(tmp_path / 'out.png')).shape[0])
    assert heights[0] < heights[1] == heights[2]
