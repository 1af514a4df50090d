import copy
import functools
import re
from importlib.resources import files

import cv2
import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from paths import CONFIGS, FLAGSHIP, MOTION
from tiny_videos import NUM_FRAMES, picture, write_video

parse_once = functools.cache(Config.fromfile)


def read_config(file):
    """A config to do with as one likes."""
    return copy.deepcopy(parse_once(file))


FILES = sorted(CONFIGS.glob('*.py'))
configs = pytest.mark.parametrize('file', FILES, ids=lambda f: f.stem)
with_labels_of_a_side = pytest.mark.parametrize(
    'file', [f for f in FILES if re.search('_(sthv|jester)', f.stem)],
    ids=lambda f: f.stem)
longer_clips = pytest.mark.parametrize(
    'file', [f for f in FILES if read_config(f).load_from],
    ids=lambda f: f.stem)


def frames_per_clip(cfg):
    """How many frames the sampler of the test takes per clip."""
    clip_len, = [t.clip_len for t in cfg.test_pipeline if 'clip_len' in t]
    return clip_len


@configs
def test_it_says_what_every_config_has_to_say(file):
    cfg = read_config(file)
    assert cfg.custom_imports == dict(
        imports=['mmblvnet'], allow_failed_imports=False)
    assert cfg.default_scope == 'mmaction'
    assert cfg.auto_scale_lr.base_batch_size > 0
    for hook in ('DataCheckHook', 'CheckpointCheckHook', 'InvalidLossHook',
                 'PipelinesHook', 'TestViewsHook'):
        assert dict(type=hook) in cfg.custom_hooks
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.pipeline == cfg[f'{split}_pipeline']


@configs
def test_a_leaf_is_a_handful_of_lines(file):
    assert len(file.read_text().splitlines()) <= 20


@configs
def test_it_is_what_its_name_says(file):
    cfg = read_config(file)
    model, depth, number, pairs, data = re.fullmatch(
        r'(.+)_r(\d+)_(\d+)(x2)?_(.+)', file.stem).groups()
    backbone = cfg.model.backbone
    assert backbone.depth == int(depth)
    assert frames_per_clip(cfg) == int(number) * (2 if pairs else 1)
    folder = dict(k400='kinetics400').get(data, data).partition('-')[0]
    assert cfg.ann_file_val.startswith(f'data/{folder}/')
    assert (backbone.get('in_channels', 3) == 10) == data.endswith('-flow')
    assert backbone.get('causal', False) == model.endswith('-causal')
    model, _, blend_frames = model.removesuffix('-causal').partition('-r')
    assert backbone.get('blend_frames', 3) == int(blend_frames or 3)
    assert (backbone.type, backbone.get('temporal_module')) == dict(
        blvnet=('BLVNet', None),
        blvnet_tam=('BLVNet', 'TAM'),
        blvnet_tsm=('BLVNet', 'TSM'),
        resnet_tam=('ResNetTAM', None),
        tsm=('ResNetTSM', None),
        tsn_blresnet=('BLResNet', None))[model]


@configs
def test_the_number_of_frames_agrees_everywhere(file):
    cfg = read_config(file)
    num_frames = frames_per_clip(cfg)
    backbone, head = cfg.model.backbone, cfg.model.cls_head
    # An image network does not count frames.
    assert backbone.get('num_segments', num_frames) == num_frames
    in_pairs = backbone.get('frame_output') == 'pair'
    assert head.num_segments == (num_frames // 2 if in_pairs else num_frames)
    assert head.num_classes == cfg.num_classes
    for split in ('train', 'val', 'test'):
        clip_len, = [
            t.clip_len for t in cfg[f'{split}_pipeline']
            if 'SampleFrames' in t.type
        ]
        assert clip_len == num_frames


@configs
def test_its_dataloaders_are_built(file, tmp_path):
    cfg = read_config(file)
    annotations = tmp_path / 'list.txt'
    for split in ('train', 'val', 'test'):
        dataloader = cfg[f'{split}_dataloader']
        raw = dataloader.dataset.type == 'RawframeDataset'
        annotations.write_text('a 9 0\nb 9 1\n' if raw else 'a 0\nb 1\n')
        # Serializing collects garbage, which takes longer than all the rest.
        dataloader.dataset.update(
            ann_file=str(annotations), serialize_data=False)
        dataset = DATASETS.build(dataloader.dataset)
        assert len(dataset) == 2
        Runner.build_dataloader(dict(dataloader, dataset=dataset))


@configs
def test_it_trains_a_step_and_tests(file):
    cfg = read_config(file)
    cfg.model.backbone.update(init_cfg=None)
    cfg.model.backbone.pop('pretrained', None)
    model = MODELS.build(cfg.model)
    model.init_weights()
    channels = cfg.model.backbone.get('in_channels', 3)
    num_frames = frames_per_clip(cfg)

    def batch(num_views):
        inputs = torch.randint(0, 256,
                               (num_views * num_frames, channels, 32, 32))
        return dict(
            inputs=[inputs.byte()],
            data_samples=[ActionDataSample().set_gt_label(1)])

    before = model.cls_head.fc_cls.weight.clone()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train_step(batch(num_views=1), optim_wrapper)
    assert losses['loss'].isfinite()
    assert not torch.equal(model.cls_head.fc_cls.weight, before)
    model.eval()
    with torch.no_grad():
        result, = model.test_step(batch(num_views=2))
    assert result.pred_score.shape == (cfg.num_classes, )
    assert result.pred_score.isfinite().all()


def write_tiny_data(folder, dataset):
    """Write a video in the form that a dataset reads it."""
    if dataset.type == 'VideoDataset':
        write_video(folder / 'tiny.webm')
        return 'tiny.webm 3\n'
    (folder / 'tiny').mkdir(exist_ok=True)
    start = dataset.get('start_index', 1)
    parts = [('x', ), ('y', )] if dataset.get('modality') == 'Flow' else [()]
    for number in range(NUM_FRAMES):
        for part in parts:
            name = dataset.filename_tmpl.format(*part, start + number)
            cv2.imwrite(str(folder / 'tiny' / name), picture(number))
    return f'tiny {NUM_FRAMES} 3\n'


@pytest.mark.parametrize('split', ('train', 'val', 'test'))
@pytest.mark.parametrize('data, channels', [('sthv1', 3), ('sthv2', 3),
                                            ('k400', 3), ('mit', 3),
                                            ('jester', 3), ('ucf101', 3),
                                            ('hmdb51', 3), ('diving48', 3),
                                            ('sthv2-flow', 10)])
def test_its_pipelines_make_clips_of_a_file(data, channels, split, tmp_path):
    cfg = read_config(CONFIGS / f'blvnet_tam_r50_8x2_{data}.py')
    dataset = cfg[f'{split}_dataloader'].dataset
    annotations = tmp_path / 'list.txt'
    annotations.write_text(write_tiny_data(tmp_path, dataset))
    dataset.ann_file = str(annotations)
    dataset.data_prefix = {key: str(tmp_path) for key in dataset.data_prefix}
    sample = DATASETS.build(dataset)[0]
    # The 3 clips of so short a video are the same, in 3 crops.
    views, size = (3, 256) if (data, split) == ('k400', 'test') else (1, 224)
    assert sample['inputs'].shape == (views * 16, channels, size, size)
    # No mirror changes this label.
    assert sample['data_samples'].gt_label.item() == 3


@longer_clips
def test_longer_clips_start_from_all_weights_of_the_shorter_ones(file):
    cfg = read_config(file)
    shorter = re.fullmatch('checkpoints/(.+).pth', cfg.load_from)[1]
    shorter = read_config(CONFIGS / f'{shorter}.py')
    assert frames_per_clip(shorter) < frames_per_clip(cfg)
    assert cfg.model.backbone.get('init_cfg') is None
    assert cfg.model.backbone.get('pretrained') is None
    with torch.device('meta'):
        shapes, shapes_in_file = [{
            name: value.shape
            for name, value in MODELS.build(c.model).state_dict().items()
        } for c in (cfg, shorter)]
    assert shapes == shapes_in_file


@configs
def test_short_clips_start_from_imagenet_weights_of_their_depth(file):
    cfg = read_config(file)
    backbone = cfg.model.backbone
    if cfg.load_from or re.search('_(motion|order)', file.stem):
        return
    if backbone.type == 'ResNetTAM':
        assert f'resnet{backbone.depth}-' in backbone.pretrained
    else:
        assert backbone.init_cfg.type == 'Pretrained'
        flow = '_flow' if file.stem.endswith('-flow') else ''
        assert backbone.init_cfg.checkpoint == (
            f'checkpoints/blresnet{backbone.depth}_a2_b4_imagenet{flow}.pth')


@with_labels_of_a_side
def test_a_mirror_swaps_the_labels_whose_names_it_swaps(file):
    cfg = read_config(file)
    data = re.search('sthv1|sthv2|jester', file.stem)[0]
    label_map = files('mmblvnet.datasets') / 'label_maps' / f'{data}.txt'
    names = label_map.read_text().splitlines()
    other = dict(
        left='right', right='left', Left='Right', Right='Left',
        Clockwise='Counterclockwise', Counterclockwise='Clockwise')
    sides = re.compile(rf'\b({"|".join(other)})\b')
    mirrored = [sides.sub(lambda m: other[m[0]], name) for name in names]
    expected = {
        label: names.index(name)
        for label, name in enumerate(mirrored)
        if name != names[label] and name in names
    }
    assert len(expected) == 6
    flip, = [t for t in cfg.train_pipeline if t.type.endswith('Flip')]
    assert flip.flip_label_map == expected


def test_kinetics_is_tested_by_the_published_protocol():
    cfg = read_config(CONFIGS / 'blvnet_tam_r50_24x2_k400.py')
    sampler, = [t for t in cfg.test_pipeline if 'clip_len' in t]
    assert (sampler.type, sampler.num_clips) == ('BigLittleDenseSampleFrames',
                                                 3)
    assert dict(type='ThreeCrop', crop_size=256) in cfg.test_pipeline
    assert cfg.model.cls_head.average_clips == 'score'


def test_the_flagship_follows_the_published_recipe():
    cfg = read_config(FLAGSHIP)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    assert cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.param_scheduler == dict(
        type='CosineAnnealingLR', T_max=50, eta_min=0)
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.model.cls_head.dropout_ratio == 0.5
    crop, = [t for t in cfg.train_pipeline if t.type == 'MultiScaleCrop']
    assert crop.scales == (1, 0.875, 0.75, 0.66)
    flip, = [t for t in cfg.train_pipeline if t.type.endswith('Flip')]
    assert flip.flip_label_map == {
        86: 87,
        87: 86,
        93: 94,
        94: 93,
        166: 167,
        167: 166
    }


TSM = ('mmaction::recognition/tsm/'
       'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb.py')


def test_a_tsm_and_a_blvnet_config_live_in_one_process(tmp_path):
    inheriting = tmp_path / 'tsm.py'
    inheriting.write_text(f"_base_ = '{TSM}'\n")
    tsm = MODELS.build(Config.fromfile(inheriting).model)
    blvnet = MODELS.build(Config.fromfile(MOTION).model)
    frames = torch.randint(0, 256, (8, 3, 64, 64)).byte()
    for model in (tsm, blvnet, tsm):
        model.eval()
        data = dict(
            inputs=[frames, frames],
            data_samples=[ActionDataSample(), ActionDataSample()])
        with torch.no_grad():
            first, second = model.test_step(data)
        torch.testing.assert_close(first.pred_score, second.pred_score)


def test_blvnet_takes_the_place_of_the_backbone_of_a_tsm_config(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(f"""
_base_ = '{TSM}'
custom_imports = dict(imports=['mmblvnet'], allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, type='BLVNet', depth=50, num_segments=8))
""")
    model = MODELS.build(Config.fromfile(child).model)
    model.eval()
    frames = torch.randint(0, 256, (16, 3, 64, 64)).byte()
    with torch.no_grad():
        result, = model.test_step(
            dict(inputs=[frames], data_samples=[ActionDataSample()]))
    assert result.pred_score.shape == (174, )


def test_the_readmes_options_give_several_clips_and_crops():
    cfg = Config.fromfile(FLAGSHIP)
    cfg.merge_from_dict({
        'test_dataloader.dataset.pipeline.1.num_clips': 2,
        'test_dataloader.dataset.pipeline.4.type': 'ThreeCrop',
    })
    transforms = [
        TRANSFORMS.build(t) for t in cfg.test_dataloader.dataset.pipeline
    ]
    data = dict(total_frames=40, start_index=0, modality='RGB')
    data = transforms[1](data)
    data['imgs'] = [np.zeros((240, 320, 3), np.uint8)] * 32
    for transform in transforms[3:]:
        data = transform(data)
    # 3 crops of 2 clips of 16 frames
    assert data['inputs'].shape == (96, 3, 224, 224)
