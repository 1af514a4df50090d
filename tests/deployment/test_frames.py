import pytest
from families import build
from mmblvnet.deployment import describe_frames, frames_shape
from mmengine.config import Config
from paths import CONFIGS, FLAGSHIP

SHAPES = {
    'blvnet_tam_r50_4x2_motion': (8, 3, 64, 64),
    'blvnet_tam_r50_8x2_sthv2': (16, 3, 224, 224),
    'blvnet_tam_r50_8x2_sthv2-flow': (16, 10, 224, 224),
    'blvnet_tam_r50_16x2_k400': (32, 3, 224, 224),
    'resnet_tam_r50_8_sthv2': (8, 3, 224, 224),
    'blvnet_tam_r50_8x2_sthv1': (16, 3, 224, 224),
}


@pytest.mark.parametrize('name', SHAPES)
def test_the_shape_is_that_of_the_pipeline(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert frames_shape(cfg) == SHAPES[name]


def test_another_size_takes_the_place_of_the_pipelines():
    cfg = Config.fromfile(FLAGSHIP)
    assert frames_shape(cfg, (128, 160)) == (16, 3, 128, 160)


def test_several_clips_in_validation_are_views():
    cfg = Config.fromfile(FLAGSHIP)
    cfg.val_pipeline[1].num_clips = 3
    assert frames_shape(cfg) == (16, 3, 224, 224)


def test_clips_of_3d_recognizers_are_refused():
    cfg = Config.fromfile(FLAGSHIP)
    cfg.val_pipeline[5].input_format = 'NCTHW'
    with pytest.raises(ValueError, match='Only a Recognizer2D'):
        frames_shape(cfg)


def test_a_pipeline_without_a_sampler_is_refused():
    cfg = Config.fromfile(FLAGSHIP)
    del cfg.val_pipeline[1]
    with pytest.raises(ValueError, match='no single transform'):
        frames_shape(cfg)


@pytest.mark.parametrize('included', [True, False])
def test_the_mean_is_told_where_the_file_does_not_subtract_it(included):
    about = describe_frames(
        build('bLVNet-TAM, r = 3'), (4, 3, 64, 64), 2, included)
    assert about['views'] == '2'
    assert about['output'] == 'probabilities'
    assert about['frames_per_view'] == '4'
    assert ('mean' in about) is not included
