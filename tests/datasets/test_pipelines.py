"""Finding the pipeline that a config uses, and changing it."""

import copy
from types import SimpleNamespace

import pytest
from mmblvnet.datasets.pipelines import (
    check_frames_per_clip,
    pipeline_of,
    update_pipelines,
    video_pipeline_of,
    with_clip_len,
)
from mmengine.config import Config
from paths import CONFIGS, MOTION

OLD, NEW = [dict(type='DecordInit', io_backend=name) for name in 'on']
DATA = dict(type='VideoDataset', ann_file='list.txt', pipeline=[NEW])
OTHER = dict(DATA, pipeline=[OLD])
PIPELINE = [
    dict(type='ExactVideoInit'),
    dict(type='BigLittleSampleFrames', clip_len=16, num_clips=2),
    dict(type='ExactVideoDecode'),
]


def config(dataset, split='test'):
    return Config({f'{split}_pipeline': [OLD], f'{split}_dataloader': dict(batch_size=1, dataset=dataset)})


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_the_pipeline_is_taken_from_the_data_set(split):
    repeated = dict(type='RepeatDataset', times=2, dataset=DATA)
    for dataset in (
        DATA,
        repeated,
        dict(type='ConcatDataset', datasets=[DATA, repeated]),
        dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=dict(type='ConcatDataset', datasets=[DATA])),
    ):
        assert pipeline_of(config(dataset, split), split) == [NEW]


def test_a_data_set_without_a_pipeline_gets_that_of_the_config():
    for loader in (None, dict(dataset=dict(type='NoiseVideos'))):
        cfg = Config(dict(test_pipeline=[OLD], test_dataloader=loader))
        assert pipeline_of(cfg, 'test') == [OLD]


def test_data_with_different_pipelines_are_refused():
    cfg = config(dict(type='ConcatDataset', datasets=[DATA, OTHER]))
    with pytest.raises(ValueError, match='2 datasets in test_dataloader'):
        pipeline_of(cfg, 'test')


def test_a_config_without_a_pipeline_is_refused():
    with pytest.raises(ValueError, match='no val_pipeline'):
        pipeline_of(config(DATA), 'val')


def test_pipelines_that_read_no_video_files_are_refused():
    cfg = Config.fromfile(CONFIGS / 'blvnet_tam_r50_8x2_sthv1.py')
    with pytest.raises(ValueError, match='RawFrameDecode.* no video file'):
        video_pipeline_of(cfg, 'test')


def test_the_pipelines_of_a_config_are_updated_from_its_data_sets_once():
    cfg = Config.fromfile(MOTION)
    assert not update_pipelines(cfg)
    pipeline = copy.deepcopy(cfg.test_dataloader.dataset.pipeline)
    pipeline[1].num_clips = 1
    cfg.merge_from_dict({'test_dataloader.dataset.pipeline': pipeline})
    assert cfg.test_pipeline[1].num_clips == 2
    assert update_pipelines(cfg) and not update_pipelines(cfg)
    assert cfg.test_pipeline[1].num_clips == 1
    assert cfg.val_pipeline == cfg.val_dataloader.dataset.pipeline


def test_data_sets_with_different_pipelines_leave_the_config_unchanged():
    cfg = config(dict(type='ConcatDataset', datasets=[DATA, OTHER]))
    assert not update_pipelines(cfg)
    assert cfg.test_pipeline == [OLD]


def test_only_the_length_of_the_clips_changes():
    before = copy.deepcopy(PIPELINE)
    assert with_clip_len(PIPELINE, 32) == [
        dict(type='ExactVideoInit'),
        dict(type='BigLittleSampleFrames', clip_len=32, num_clips=2),
        dict(type='ExactVideoDecode'),
    ]
    assert PIPELINE == before


def test_a_pipeline_without_a_single_sampler_is_refused():
    for pipeline in (PIPELINE[:1], PIPELINE * 2):
        with pytest.raises(ValueError, match='ExactVideoInit'):
            with_clip_len(pipeline, 32)


PAIRED = dict(num_segments=16, frame_output='pair')


@pytest.mark.parametrize(
    'backbone, head, sampler, message',
    [
        (PAIRED, 8, dict(type='BigLittleSampleFrames', clip_len=16, num_clips=2), None),
        (PAIRED, 8, dict(type='SampleFrames', clip_len=1, num_clips=16), None),
        (PAIRED, 8, dict(type='UniformSample', clip_len=16, num_clips=3), None),
        (dict(num_segments=16), 16, dict(type='BigLittleDenseSampleFrames', clip_len=16), None),
        (dict(), 8, dict(type='SampleFrames', clip_len=3), None),
        # FeatureHead has num_segments=None by default.
        (PAIRED, None, dict(type='BigLittleSampleFrames', clip_len=16), None),
        (PAIRED, 8, dict(type='BigLittleSampleFrames', clip_len=8, num_clips=2), 'has clip_len = 8 and num_clips = 2'),
        (PAIRED, 8, dict(type='BigLittleSampleFrames', clip_len=32), 'clip_len = 32 .* num_segments = 16'),
        (PAIRED, 8, dict(type='SampleFrames', clip_len=1, num_clips=8), 'SampleFrames of the val .* num_clips = 8'),
        (
            PAIRED,
            16,
            dict(type='BigLittleSampleFrames', clip_len=16),
            'cls_head.num_segments = 16: set it to 8, the maps',
        ),
        (dict(num_segments=16), 8, dict(type='BigLittleSampleFrames', clip_len=16), ': set it to 16'),
    ],
)
def test_sampler_and_head_have_to_count_the_frames_of_the_backbone(backbone, head, sampler, message):
    model = SimpleNamespace(backbone=SimpleNamespace(**backbone), cls_head=SimpleNamespace(num_segments=head))
    cfg = config(dict(type='RepeatDataset', dataset=dict(DATA, pipeline=[NEW, sampler])), 'val')
    if message is None:
        check_frames_per_clip(model, cfg, 'val')
        return
    with pytest.raises(ValueError, match=message):
        check_frames_per_clip(model, cfg, 'val')
