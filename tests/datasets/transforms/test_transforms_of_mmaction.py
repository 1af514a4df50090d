"""Every transform of MMAction2 runs with the NumPy that is here."""
import importlib.util
import random

import cv2
import numpy as np
import pytest
from mmaction.datasets.transforms import ColorJitter, PyAVDecodeMotionVector
from mmaction.registry import TRANSFORMS
from mmaction.utils import frame_extract
from mmengine.dataset import Compose
from tiny_videos import shown_numbers, write_rawframes, write_video

DRAWS = 20
# The first is not on PyPI, the second does not fit torchvision 0.17 and later.
UNTRIED = {'CLIPTokenize', 'PytorchVideoWrapper'}
# What is none of the requirements.
PACKAGES = dict(ImgAug='imgaug',
                PIMSInit='pims',
                PIMSDecode='pims',
                TorchVisionWrapper='torchvision')


def pictures(num: int = 8, channels: int = 3) -> list:
    shape = (num, 48, 64, channels)
    return list(np.random.randint(0, 256, shape, dtype=np.uint8))


def rgb(folder) -> dict:
    return dict(imgs=pictures(),
                modality='RGB',
                img_shape=(48, 64),
                num_clips=1,
                clip_len=8,
                label=1)


def boxes(folder) -> dict:
    return dict(rgb(folder),
                gt_bboxes=np.array([[2, 3, 40, 30]], np.float32),
                gt_labels=np.eye(3, dtype=np.float32)[:1],
                proposals=np.array([[5, 6, 60, 40]], np.float32))


def flow(folder) -> dict:
    return dict(rgb(folder), imgs=pictures(channels=2), modality='Flow')


def file(folder) -> dict:
    return dict(
        filename=f'{folder}/a.mp4',
        img_path=f'{folder}/frames/img_00001.jpg',
        frame_dir=f'{folder}/frames',
        filename_tmpl='img_{:05}.jpg',
        total_frames=20,
        start_index=0,
        modality='RGB',
        # What AVA tells of a video.
        fps=5,
        timestamp=903,
        timestamp_start=902,
        shot_info=(0, 20))


def rawframes(folder) -> dict:
    return dict(file(folder), start_index=1)


def image(folder) -> dict:
    return dict(filename=f'{folder}/frames/img_00001.jpg')


def array(folder) -> dict:
    return dict(file(folder), array=np.stack(pictures(20)))


def skeletons(folder, joints: int = 17, dim: int = 2) -> dict:
    points = np.random.rand(2, 20, joints, dim).astype(np.float32) * 30 + 8
    return dict(file(folder),
                keypoint=points,
                keypoint_score=np.random.rand(2, 20,
                                              joints).astype(np.float16),
                imgs=pictures(20),
                img_shape=(48, 64),
                num_clips=1,
                clip_len=20)


def skeletons_3d(folder) -> dict:
    results = skeletons(folder, 25, 3)
    del results['keypoint_score']
    return results


def detected_poses(folder) -> dict:
    return dict(frame_inds=np.repeat(np.arange(10), 3),
                total_frames=10,
                keypoint=np.random.rand(30, 17, 3).astype(np.float16),
                anno_inds=np.random.rand(30) > .1)


def audio(folder) -> dict:
    np.save(f'{folder}/a.npy', np.random.rand(640, 80).astype(np.float32))
    return dict(audio_path=f'{folder}/a.npy',
                frame_inds=np.arange(20),
                num_clips=2,
                total_frames=20)


def localization(folder) -> dict:
    table = np.random.rand(30, 6)
    np.savetxt(f'{folder}/v.csv', table, header='a', delimiter=',')
    np.save(f'{folder}/v.npy', table)
    return dict(video_name='v',
                feature_path=f'{folder}/v.csv',
                duration_frame=100,
                duration_second=10.,
                feature_frame=96,
                annotations=[dict(segment=[1., 20.], label='a')])


def tags(folder) -> dict:
    return dict(label=dict(action=[1, 2]),
                categories=['action'],
                category_nums=[3])


def of(name: str, **kwargs) -> dict:
    return dict(type=name, **kwargs)


def lazily(*transforms) -> list:
    return [of(*t[:1], **t[1], lazy=True) for t in transforms] + [of('Fuse')]


SAMPLE = of('SampleFrames', clip_len=4, num_clips=2)
MM_SAMPLE = of('MMUniformSampleFrames', clip_len=dict(RGB=4, Pose=8))
# What is given, and the pipeline whose last transform is tried.
CASES = [
    (rgb, of('FormatShape', input_format='NCTHW'), of('PackActionInputs')),
    (boxes, of('FormatShape', input_format='NCHW'), of('PackActionInputs')),
    (flow, of('FormatShape', input_format='NCHW')),
    (rgb, of('FormatShape', input_format='NCTHW',
             collapse=True), of('Transpose', keys=['imgs'],
                                order=(1, 0, 2, 3))),
    (localization, of('LoadLocalizationFeature')),
    (localization, of('LoadLocalizationFeature'),
     of('GenerateLocalizationLabels'),
     of('PackLocalizationInputs', keys=('gt_bbox', ))),
    (localization, of('GenerateLocalizationLabels')),
    (localization,
     of('LoadProposals',
        top_k=20,
        pgm_proposals_dir='{}',
        pgm_features_dir='{}')),
    (audio, of('LoadAudioFeature')),
    (audio, of('LoadAudioFeature'), of('AudioFeatureSelector')),
    (audio, of('LoadAudioFeature'), of('AudioFeatureSelector'),
     of('FormatAudioShape', input_format='NCTF')),
    (skeletons, of('FormatGCNInput', num_person=3, mode='loop')),
    (file, of('LoadRGBFromFile', to_float32=True)),
    (tags, of('LoadHVULabel')),
    (file, SAMPLE),
    (file,
     of('SampleFrames',
        clip_len=4,
        num_clips=10,
        test_mode=True,
        twice_sample=True)),
    (file,
     of('SampleFrames',
        clip_len=30,
        num_clips=2,
        frame_interval=2,
        temporal_jitter=True,
        keep_tail_frames=True,
        out_of_bound_opt='repeat_last')),
    (file, of('UniformSample', clip_len=8, num_clips=2, test_mode=True)),
    (file, of('UniformSample', clip_len=8)),
    (file, of('UntrimmedSampleFrames', clip_len=3, clip_interval=4)),
    (file, of('DenseSampleFrames', clip_len=8, num_clips=2)),
    (file, of('DenseSampleFrames', clip_len=8, test_mode=True)),
    (file, of('SampleAVAFrames', clip_len=8)),
    (file, of('PyAVInit')),
    (file, of('PyAVInit'), SAMPLE, of('PyAVDecode', multi_thread=True)),
    (file, of('PyAVInit'), SAMPLE, of('PyAVDecode', mode='efficient')),
    (file, of('PyAVInit'), SAMPLE, of('PyAVDecodeMotionVector')),
    (file, of('DecordInit')),
    (file, of('DecordInit'), SAMPLE, of('DecordDecode')),
    (file, of('DecordInit'), SAMPLE, of('DecordDecode', mode='efficient')),
    (file, of('PIMSInit')),
    (file, of('PIMSInit'), SAMPLE, of('PIMSDecode')),
    (file, of('OpenCVInit')),
    (file, of('OpenCVInit'), SAMPLE, of('OpenCVDecode')),
    (rawframes, SAMPLE, of('RawFrameDecode')),
    (rawframes, SAMPLE, of('RawFrameDecode', decoding_backend='pillow')),
    (array, SAMPLE, of('ArrayDecode')),
    (array, of('InferencerPackInput', input_format='dict')),
    (image, of('ImageDecode')),
    (image, of('ImageDecode'), of('BuildPseudoClip', clip_len=4)),
    (rgb, *lazily(('Resize', dict(scale=(-1, 40))), ('RandomResizedCrop', {}),
                  ('Flip', {}))),
    (rgb, *lazily(('MultiScaleCrop', dict(input_size=32)),
                  ('CenterCrop', dict(crop_size=24)))),
    (boxes, of('RandomCrop', size=32)),
    (boxes, of('RandomResizedCrop', area_range=(.1, 1.))),
    (boxes,
     of('MultiScaleCrop', input_size=40, scales=(1, .8, .6),
        random_crop=True)),
    (boxes, of('Resize', scale=(32, 32), keep_ratio=False)),
    (boxes, of('Resize', scale=(np.inf, 40))),
    (boxes, of('RandomRescale', scale_range=(30, 60))),
    (boxes, of('Flip')),
    (flow, of('Flip', flip_ratio=1)),
    (rgb, of('ColorJitter')),
    (rgb, of('ColorJitter', hue=.5, brightness=1., contrast=1.,
             saturation=1.)),
    (rgb, of('ImgAug', transforms='default')),
    (rgb, of('TorchVisionWrapper', op='ColorJitter', hue=.4)),
    (boxes, of('CenterCrop', crop_size=32)),
    (rgb, of('ThreeCrop', crop_size=48)),
    (rgb, of('TenCrop', crop_size=32)),
    (rgb, of('RandomErasing', erase_prob=1.)),
    (rgb, of('RandomErasing', erase_prob=1., mode='rand', fill_std=300)),
    (rgb, of('RandomErasing', mode='rand', fill_color=(123.67, 116.3, 103.5))),
    (detected_poses, of('DecompressPose', max_person=2)),
    (detected_poses, of('DecompressPose', squeeze=False)),
    (skeletons, of('GeneratePoseTarget', with_limb=True, double=True)),
    (skeletons, of('PoseCompact')),
    (skeletons, of('PoseCompact', hw_ratio=None, allow_imgpad=False)),
    (skeletons_3d, of('PreNormalize3D')),
    (skeletons, of('PreNormalize2D')),
    (skeletons, of('JointToBone', dataset='coco')),
    (skeletons, of('ToMotion', source='keypoint')),
    (skeletons, of('JointToBone', dataset='coco',
                   target='b'), of('MergeSkeFeat', feat_list=['keypoint',
                                                              'b'])),
    (skeletons, of('GenSkeFeat', dataset='coco', feats=['j', 'b', 'jm',
                                                        'bm'])),
    (skeletons_3d, of('GenSkeFeat', feats=['bm'])),
    (skeletons, of('UniformSampleFrames', clip_len=16, num_clips=2)),
    (skeletons, of('UniformSampleFrames', clip_len=48, test_mode=True)),
    (skeletons, of('PadTo', length=24, mode='zero')),
    (skeletons, of('UniformSampleFrames', clip_len=16), of('PoseDecode')),
    (skeletons, MM_SAMPLE),
    (skeletons, MM_SAMPLE, of('MMDecode')),
    (skeletons, of('MMCompact')),
    (skeletons, of('MMCompact', hw_ratio=None, allow_imgpad=False)),
]


def of_mmaction(registry) -> set:
    return {
        name
        for name, kind in registry.module_dict.items()
        if kind.__module__.startswith('mmaction.')
    }


def test_every_transform_is_tried():
    tried = {step['type'] for _, *pipeline in CASES for step in pipeline[-1:]}
    assert tried | UNTRIED >= of_mmaction(TRANSFORMS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_video(folder / 'a.mp4')
    write_rawframes(folder / 'frames')
    return folder


@pytest.mark.parametrize(
    'given, pipeline', [(given, pipeline) for given, *pipeline in CASES],
    ids=[f'{p[-1]["type"]}-{given.__name__}' for given, *p in CASES])
def test_a_transform_runs(given, pipeline, folder):
    package = PACKAGES.get(pipeline[-1]['type'])
    if package and not importlib.util.find_spec(package):
        pytest.skip(f'{package} is not installed')
    pipeline = [{
        key: value.format(folder) if key.endswith('_dir') else value
        for key, value in step.items()
    } for step in pipeline]
    for draw in range(DRAWS):
        np.random.seed(draw)
        random.seed(draw)
        results = Compose([TRANSFORMS.build(step)
                           for step in pipeline])(given(folder))
        if 'imgs' in results:
            assert {img.dtype.name for img in results['imgs']} == {'uint8'}


@pytest.mark.parametrize('factor', [-.5, -.1, .1, .3])
def test_color_jitter_turns_the_hue(factor):
    hues = np.arange(0, 180, 7, np.uint8)
    hsv = np.stack([hues, *np.full((2, *hues.shape), 255, np.uint8)], -1)[None]
    picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    hsv[..., 0] = [(hue + int(255 * factor)) % 180 for hue in hues.tolist()]
    turned = ColorJitter.adjust_hue(picture, factor)
    assert turned.dtype == np.float32
    assert np.array_equal(turned, cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


@pytest.mark.parametrize('test_mode', [False, True])
def test_frames_of_a_long_video_are_sampled_where_there_are_poses(test_mode):
    frames = 2000
    results = dict(frame_inds=np.arange(frames),
                   total_frames=frames,
                   keypoint=np.random.rand(frames, 17, 3).astype(np.float16))
    results = Compose([
        of('DecompressPose'),
        of('UniformSampleFrames', clip_len=48, test_mode=test_mode)
    ])(results)
    wanted = np.arange(48) * frames / 48
    assert np.abs(results['frame_inds'] - wanted).max() <= frames / 48


def test_a_motion_vector_may_be_longer_than_eight_bits():
    names = ('w', 'h', 'src_x', 'src_y', 'dst_x', 'dst_y')
    # Two blocks of 16x16.
    vectors = dict(
        zip(
            names,
            np.array([[16, 16, 8, 8, 8, 8], [16, 16, 0, 30, 208,
                                             40]]).astype(np.int16).T))
    motion = PyAVDecodeMotionVector._parse_vectors(
        np.zeros((64, 256, 2), np.int8), vectors, 64, 256)
    assert motion.dtype == np.int8
    assert motion[40, 208, 1] == 10
    if np.__version__ >= '2':
        assert motion[40, 208, 0] == 127


def test_frames_are_extracted_in_a_smaller_size(folder, tmp_path):
    _, frames = frame_extract(f'{folder}/a.mp4', 24, str(tmp_path))
    assert frames[0].shape == (24, 32, 3)
    assert shown_numbers(frames)[:3] == [0, 1, 2]
