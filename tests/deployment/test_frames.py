from types import SimpleNamespace

import pytest
from families import build
from mmblvnet.apis import load_recognizer
from mmblvnet.deployment import describe_frames, frames_shape
from mmengine.config import Config
from paths import CONFIGS, FLAGSHIP

SHAPES = {
    'blvnet_tam_r50_4x2_motion': (8, 3, 64, 64),
    'blvnet_tam_r50_8x2_sthv2-flow': (16, 10, 224, 224),
    'blvnet_tam_r50_16x2_k400': (32, 3, 224, 224),
    'resnet_tam_r50_8_sthv2': (8, 3, 224, 224),
    'tsn_blresnet_r50_16_sthv2': (16, 3, 224, 224),
}


@pytest.mark.parametrize('name', SHAPES)
def test_the_shape_is_that_of_the_model_and_its_data(name):
    model = load_recognizer(CONFIGS / f'{name}.py', None, 'cpu')
    assert frames_shape(model) == SHAPES[name]
    assert frames_shape(model, (96, 160)) == (*SHAPES[name][:2], 96, 160)


def flagship(sampler=None, num_segments=16):
    """What its config tells, with another sampler in validation."""
    cfg = Config.fromfile(FLAGSHIP)
    if sampler:
        cfg.val_dataloader.dataset.pipeline[1] = dict(
            test_mode=True, **sampler)
    return SimpleNamespace(
        cfg=cfg, backbone=SimpleNamespace(num_segments=num_segments))


@pytest.mark.parametrize('sampler', [
    dict(type='BigLittleSampleFrames', clip_len=16, num_clips=3),
    dict(type='SampleFrames', clip_len=1, num_clips=16),
    dict(type='SampleFrames', clip_len=1, num_clips=16, twice_sample=True),
    dict(type='SampleFrames', clip_len=16, num_clips=2),
    dict(type='DenseSampleFrames', clip_len=1, num_clips=16),
    dict(type='UniformSample', clip_len=16),
])
def test_a_view_is_the_models_whatever_the_sampler_counts(sampler):
    assert frames_shape(flagship(sampler)) == (16, 3, 224, 224)


def test_a_model_of_any_number_of_frames_takes_those_of_the_sampler():
    sampler = dict(type='SampleFrames', clip_len=1, num_clips=5)
    assert frames_shape(flagship(sampler, None))[0] == 5


def test_frames_that_are_no_views_are_refused():
    sampler = dict(type='SampleFrames', clip_len=1, num_clips=8)
    with pytest.raises(ValueError, match='8 frames, which are no views of '
                       'num_segments = 16'):
        frames_shape(flagship(sampler))


def test_clips_of_3d_recognizers_are_refused():
    model = flagship()
    model.cfg.val_dataloader.dataset.pipeline[5].input_format = 'NCTHW'
    with pytest.raises(ValueError, match='Only a Recognizer2D'):
        frames_shape(model)


@pytest.mark.parametrize('transform, message', [
    (dict(type='Flip'), 'ExactVideoInit, Flip, .* needs .imgs'),
    (dict(type='SampleAVAFrames', clip_len=4), 'SampleAVAFrames.* needs .fps'),
])
def test_what_does_not_sample_by_the_number_of_frames_is_named(
        transform, message):
    model = flagship()
    model.cfg.val_dataloader.dataset.pipeline[1] = transform
    with pytest.raises(ValueError, match=message):
        frames_shape(model)


@pytest.mark.parametrize('included', [True, False])
def test_the_mean_is_told_where_the_file_does_not_subtract_it(included):
    about = describe_frames(
        build('bLVNet-TAM, r = 3'), (4, 3, 64, 64), included)
    assert about['output'] == 'probabilities'
    assert about['activation'] == 'softmax'
    assert about['frames_per_view'] == '4'
    assert ('mean' in about) is not included
