from types import SimpleNamespace

import pytest
from mmblvnet.deployment.exportable import calibration_clips
from mmengine.config import Config
from paths import MOTION
from tiny_videos import shown_numbers, write_video


@pytest.fixture
def model(tmp_path):
    """Return a stand-in for a model whose config trains on three tiny videos."""
    for name in 'abc':
        write_video(tmp_path / f'{name}.webm')
    (tmp_path / 'list.txt').write_text('a.webm 0\nb.webm 1\nc.webm 2\n')
    cfg = Config.fromfile(MOTION)
    cfg.train_dataloader.dataset.update(ann_file=str(tmp_path / 'list.txt'), data_prefix=dict(video=str(tmp_path)))
    return SimpleNamespace(cfg=cfg, data_preprocessor=None)


def test_training_videos_are_prepared_as_in_validation(model):
    loader = model.cfg.train_dataloader
    loader.dataset = dict(type='RepeatDataset', times=2, dataset=loader.dataset)
    clips = calibration_clips(model, 3, None, with_preprocessing=True)
    assert [clip.shape for clip in clips] == [(1, 8, 3, 64, 64)] * 3
    # The middles of eight equal segments of 20 frames.
    assert shown_numbers(clips[0][0]) == [1, 3, 6, 8, 11, 13, 16, 18]


def test_too_few_videos_are_refused(model, tmp_path):
    (tmp_path / 'few.txt').write_text('a.webm 0\n')
    with pytest.raises(ValueError, match='few.txt has 1 videos.* asks for 2'):
        calibration_clips(model, 2, str(tmp_path / 'few.txt'), True)
