from types import SimpleNamespace

import pytest
from mmblvnet.deployment.exportable import frames_shape
from mmengine.config import Config
from paths import CONFIGS, FLAGSHIP


def model_of(config=FLAGSHIP, num_segments=16, step=1, **changed):
    """Return a stand-in for a model: its config, with one step of val_pipeline replaced."""
    cfg = Config.fromfile(config)
    if changed:
        cfg.val_dataloader.dataset.pipeline[step] = changed
    return SimpleNamespace(cfg=cfg, backbone=SimpleNamespace(num_segments=num_segments))


def test_the_shape_is_that_of_the_model_and_its_data():
    model = model_of(CONFIGS / 'blvnet_tam_r50_8x2_sthv2-flow.py')
    assert frames_shape(model) == (16, 10, 224, 224)
    assert frames_shape(model, (96, 160)) == (16, 10, 96, 160)


def test_the_length_of_a_view_is_num_segments():
    for sampler in (
        dict(type='BigLittleSampleFrames', clip_len=16, num_clips=3),
        dict(type='SampleFrames', clip_len=1, num_clips=16, twice_sample=True),
        dict(type='UniformSample', clip_len=16),
    ):
        model = model_of(test_mode=True, **sampler)
        assert frames_shape(model) == (16, 3, 224, 224)
    # A model without num_segments takes as many as are sampled.
    model = model_of(num_segments=None, type='SampleFrames', clip_len=1, num_clips=5, test_mode=True)
    assert frames_shape(model)[0] == 5


def test_pipelines_that_give_no_views_are_named():
    for step, changed, message in (
        (
            1,
            dict(type='SampleFrames', clip_len=1, num_clips=8, test_mode=True),
            '8 frames, which is not a multiple of num_segments = 16',
        ),
        (5, dict(type='FormatShape', input_format='NCTHW'), 'Only a Recognizer2D'),
        (1, dict(type='Flip'), 'ExactVideoInit, Flip, .* needs .imgs'),
    ):
        with pytest.raises(ValueError, match=message):
            frames_shape(model_of(step=step, **changed))
