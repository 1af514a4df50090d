from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmaction.registry import TRANSFORMS
from mmblvnet.datasets import BrokenVideoError
from mmblvnet.models import BLVNet
from mmblvnet.visualization import clips
from mmblvnet.visualization.clips import BIG, LITTLE, Clip, draw_clips, has_branches, prepare_video
from mmengine.config import Config
from paths import CONFIGS, MOTION
from tiny_videos import NUM_FRAMES, shown_numbers, write_video


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('frames') / 'video.mp4')


def sampler(config, split):
    return TRANSFORMS.build(config[f'{split}_pipeline'][1])


def model_of(config, **parts):
    """Return a stand-in for a model: its config and parts, without weights."""
    return SimpleNamespace(cfg=config, **parts)


@pytest.fixture(scope='module')
def model():
    return model_of(Config.fromfile(MOTION), backbone=SimpleNamespace(num_segments=8))


def clips_of(model, video, split):
    return prepare_video(model, str(video), split)[1]


def numbers_of(config, split):
    return sampler(config, split).transform(dict(total_frames=NUM_FRAMES, start_index=0))['frame_inds']


def test_a_training_clip_is_what_the_sampler_draws_each_time(video, model):
    np.random.seed(3)
    (clip,) = clips_of(model, video, 'train')
    np.random.seed(3)
    assert clip.numbers.tolist() == numbers_of(model.cfg, 'train').tolist()
    assert shown_numbers(clip.frames) == clip.numbers.tolist()
    assert clip.frames.shape == (8, 64, 64, 3)
    assert clip.total_frames == NUM_FRAMES
    others = [clips_of(model, video, 'train')[0] for _ in range(5)]
    assert len({tuple(other.numbers) for other in others}) > 1


def test_the_views_of_a_test_are_in_the_order_of_the_network(video, model):
    views = clips_of(model, video, 'test')
    # 2 clips with 3 crops each.
    one_crop = numbers_of(model.cfg, 'test').reshape(2, 8).tolist()
    assert [view.numbers.tolist() for view in views] == 3 * one_crop
    for view in views:
        assert shown_numbers(view.frames) == view.numbers.tolist()


def test_clips_of_mmactions_networks_are_separated(video):
    for clip_len, num_clips, form, parts, length in (
        (4, 2, 'NCTHW', dict(), 4),
        (1, 6, 'NCHW', dict(), 6),
        (1, 6, 'NCHW', dict(cls_head=SimpleNamespace(num_segments=2)), 2),
    ):
        sample = dict(type='SampleFrames', clip_len=clip_len, num_clips=num_clips, test_mode=True)
        config = Config(
            dict(
                val_pipeline=[
                    dict(type='ExactVideoInit'),
                    sample,
                    dict(type='ExactVideoDecode'),
                    dict(type='FormatShape', input_format=form),
                    dict(type='PackActionInputs'),
                ]
            )
        )
        clips = clips_of(model_of(config, **parts), video, 'val')
        numbers = TRANSFORMS.build(sample).transform(dict(total_frames=NUM_FRAMES, start_index=0))['frame_inds']
        assert [*np.concatenate([c.numbers for c in clips])] == [*numbers]
        for clip in clips:
            assert len(clip.numbers) == length
            assert shown_numbers(clip.frames) == clip.numbers.tolist()


def test_pipelines_and_videos_without_clips_are_refused(video, model, tmp_path):
    flow = Config.fromfile(CONFIGS / 'blvnet_tam_r50_8x2_sthv2-flow.py')
    with pytest.raises(ValueError, match='RawFrameDecode.* no video file'):
        clips_of(model_of(flow), video, 'train')
    other = model_of(model.cfg, backbone=SimpleNamespace(num_segments=6))
    with pytest.raises(ValueError, match='8 images .* not clips of 6'):
        clips_of(other, video, 'train')
    file = tmp_path / 'broken.mp4'
    file.write_bytes(b'no video')
    for video in (file, 'nowhere.mp4'):
        with pytest.raises(BrokenVideoError, match=f'{video} cannot be read .* the train pipeline of'):
            clips_of(model, video, 'train')


def paint_of(picture, color):
    wanted = np.array(to_rgb(color)) * 255
    return (abs(picture.astype(int) - wanted) < 3).all(-1)


def test_even_and_odd_frames_are_marked_by_their_branch(tmp_path):
    out = tmp_path / 'out.png'
    clip = Clip(np.arange(8), np.zeros((8, 8, 8, 3), np.uint8), 8)
    for backbone in (torch.nn.Identity, BLVNet):
        paired = has_branches(SimpleNamespace(backbone=backbone.__new__(backbone)))
        draw_clips([clip], out, 'draw', paired)
        picture = cv2.imread(str(out))[..., ::-1]
        # The bars above the thumbnails are the widest area of a colour.
        little, big = (paint_of(picture, c) for c in (LITTLE, BIG))
        wide = [paint.sum(1).max() > picture.shape[1] * 0.3 for paint in (little, big)]
        assert wide == [backbone is BLVNet] * 2
    row = little.sum(1).argmax()
    assert little[row].argmax() < big[row].argmax()


def test_a_picture_grows_with_lines_and_clips_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, 'MAX_CLIPS', 2)

    def shape(length, count):
        clip = Clip(np.arange(length), np.zeros((length, 8, 8, 3), np.uint8), length)
        draw_clips([clip] * count, tmp_path / 'out.png', 'view', True)
        return cv2.imread(str(tmp_path / 'out.png')).shape

    one, lines, two, more = (shape(*args) for args in ((16, 1), (64, 1), (16, 2), (16, 3)))
    assert one[1] == lines[1]
    assert lines[0] > 1.5 * one[0]
    assert one[0] < two[0] == more[0]
