import copy
import re
from importlib.resources import files

import cv2
import numpy as np
import pytest
import torch
from config_files import all_configs, cached_by_repr, frames_per_clip, read_config
from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from paths import CONFIGS, FLAGSHIP, MOTION
from tiny_videos import NUM_FRAMES, picture, write_video

SPLITS = ('train', 'val', 'test')


def test_every_config_has_the_common_settings():
    for name, cfg in all_configs():
        assert cfg.custom_imports == dict(imports=['mmblvnet'], allow_failed_imports=False), name
        assert cfg.default_scope == 'mmaction', name
        assert cfg.auto_scale_lr.base_batch_size > 0, name
        for hook in ('DataCheckHook', 'CheckpointCheckHook', 'InvalidLossHook', 'PipelinesHook', 'TestViewsHook'):
            assert dict(type=hook) in cfg.custom_hooks, name
        for split in SPLITS:
            dataset = cfg[f'{split}_dataloader'].dataset
            assert dataset.pipeline == cfg[f'{split}_pipeline'], name
            assert dataset.num_classes == cfg.num_classes, name
            listed = cfg.ann_file_train if split == 'train' else (cfg.ann_file_val)
            assert dataset.ann_file == listed, name


def test_a_config_has_at_most_20_lines():
    for file in CONFIGS.glob('*.py'):
        assert len(file.read_text().splitlines()) <= 20, file


def test_each_config_is_what_its_name_says():
    for name, cfg in all_configs():
        model, depth, number, pairs, data = re.fullmatch(r'(.+)_r(\d+)_(\d+)(x2)?_(.+)', name).groups()
        backbone = cfg.model.backbone
        assert backbone.depth == int(depth), name
        assert frames_per_clip(cfg) == int(number) * (2 if pairs else 1), name
        folder = dict(k400='kinetics400').get(data, data).partition('-')[0]
        assert cfg.ann_file_val.startswith(f'data/{folder}/'), name
        assert (backbone.get('in_channels', 3) == 10) == data.endswith('-flow'), name
        assert backbone.get('causal', False) == model.endswith('-causal'), name
        model, _, blend_frames = model.removesuffix('-causal').partition('-r')
        assert backbone.get('blend_frames', 3) == int(blend_frames or 3), name
        assert (backbone.type, backbone.get('temporal_module')) == dict(
            blvnet=('BLVNet', None),
            blvnet_tam=('BLVNet', 'TAM'),
            blvnet_tsm=('BLVNet', 'TSM'),
            resnet_tam=('ResNetTAM', None),
            tsm=('ResNetTSM', None),
            tsn_blresnet=('BLResNet', None),
        )[model], name


def test_the_number_of_frames_agrees_everywhere():
    for name, cfg in all_configs():
        num_frames = frames_per_clip(cfg)
        backbone, head = cfg.model.backbone, cfg.model.cls_head
        # An image network has no num_segments.
        assert backbone.get('num_segments', num_frames) == num_frames, name
        maps = num_frames // (2 if backbone.get('frame_output') == 'pair' else 1)
        assert head.num_segments == maps, name
        assert head.num_classes == cfg.num_classes, name
        for split in SPLITS:
            lengths = [t.clip_len for t in cfg[f'{split}_pipeline'] if 'SampleFrames' in t.type]
            assert lengths == [num_frames], name


def test_the_dataloaders_are_built(tmp_path):
    annotations = tmp_path / 'list.txt'
    for name, cfg in all_configs():
        for split in SPLITS:
            dataloader = cfg[f'{split}_dataloader']
            raw = dataloader.dataset.type == 'RawframeDataset'
            annotations.write_text('a 9 0\nb 9 1\n' if raw else 'a 0\nb 1\n')
            # Serializing runs the garbage collector, slower than all else here.
            dataloader.dataset.update(ann_file=str(annotations), serialize_data=False)
            dataset = DATASETS.build(dataloader.dataset)
            assert len(dataset) == 2, name
            Runner.build_dataloader(dict(dataloader, dataset=dataset))


def distinct_networks():
    """Return (name, config) of one config per network, regardless of the number of classes."""
    found = {}
    for name, cfg in all_configs():
        model = copy.deepcopy(cfg.model)
        model.cls_head.num_classes = None
        found.setdefault((frames_per_clip(cfg), repr(model)), (name, cfg))
    return found.values()


def test_each_model_gives_a_row_of_scores_for_a_clip():
    # The meta device computes shapes only, which is quick.
    with torch.device('meta'):
        for name, cfg in distinct_networks():
            model = MODELS.build(cfg.model)
            model.eval()
            channels = cfg.model.backbone.get('in_channels', 3)
            clip = torch.empty(1, frames_per_clip(cfg), channels, 64, 64)
            scores = model(clip, stage='head')
            assert scores.shape == (1, cfg.num_classes), name


@pytest.mark.parametrize(
    'name',
    [
        'blvnet_tam_r50_4x2_motion',
        'blvnet_tam-causal_r50_4x2_motion',
        'blvnet_tam_r50_4x2_motion-flow',
        'blvnet_tsm_r50_8x2_sthv2',
        'resnet_tam_r50_8_sthv2',
        'tsn_blresnet_r50_16_sthv2',
        'tsm_r18_8_motion',
    ],
)
def test_each_kind_of_model_trains_a_step_and_tests(name):
    cfg = read_config(name)
    cfg.model.backbone.update(init_cfg=None)
    cfg.model.backbone.pop('pretrained', None)
    model = MODELS.build(cfg.model)
    model.init_weights()
    channels = cfg.model.backbone.get('in_channels', 3)
    num_frames = frames_per_clip(cfg)

    def batch(num_views):
        inputs = torch.randint(0, 256, (num_views * num_frames, channels, 32, 32))
        return dict(inputs=[inputs.byte()], data_samples=[ActionDataSample().set_gt_label(1)])

    before = model.cls_head.fc_cls.weight.clone()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train_step(batch(num_views=1), optim_wrapper)
    assert losses['loss'].isfinite()
    assert not torch.equal(model.cls_head.fc_cls.weight, before)
    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(batch(num_views=2))
    assert result.pred_score.shape == (cfg.num_classes,)
    assert result.pred_score.isfinite().all()


def write_tiny_data(folder, dataset):
    """Write a video in the form that a dataset reads; return its annotation line."""
    if dataset.type == 'VideoDataset':
        write_video(folder / 'tiny.webm')
        return 'tiny.webm 3\n'
    (folder / 'tiny').mkdir(exist_ok=True)
    start = dataset.get('start_index', 1)
    parts = [('x',), ('y',)] if dataset.get('modality') == 'Flow' else [()]
    for number in range(NUM_FRAMES):
        for part in parts:
            name = dataset.filename_tmpl.format(*part, start + number)
            cv2.imwrite(str(folder / 'tiny' / name), picture(number))
    return f'tiny {NUM_FRAMES} 3\n'


@pytest.mark.parametrize('data, channels', [('sthv1', 3), ('sthv2', 3), ('k400', 3), ('mit', 3), ('sthv2-flow', 10)])
def test_the_pipelines_make_clips_of_a_file(data, channels, tmp_path):
    for split in SPLITS:
        dataset = read_config(f'blvnet_tam_r50_8x2_{data}')[f'{split}_dataloader'].dataset
        annotations = tmp_path / 'list.txt'
        annotations.write_text(write_tiny_data(tmp_path, dataset))
        dataset.ann_file = str(annotations)
        dataset.data_prefix = {k: str(tmp_path) for k in dataset.data_prefix}
        sample = DATASETS.build(dataset)[0]
        # The 3 clips of so short a video are equal and merged: 3 crops remain.
        views, size = (3, 256) if (data, split) == ('k400', 'test') else (1, 224)
        assert sample['inputs'].shape == (views * 16, channels, size, size)
        # flip_label_map leaves this label as it is.
        assert sample['data_samples'].gt_label.item() == 3


@cached_by_repr
def shapes(model):
    """Return the shapes in the state dict of a config's model."""
    with torch.device('meta'):
        state = MODELS.build(model).state_dict()
    return {key: value.shape for key, value in state.items()}


def test_longer_clips_start_from_all_weights_of_the_shorter_ones():
    longer = {name: cfg for name, cfg in all_configs() if cfg.load_from}
    assert 'blvnet_tam_r101_32x2_sthv2' in longer
    for name, cfg in longer.items():
        shorter = re.fullmatch('checkpoints/(.+).pth', cfg.load_from)[1]
        shorter = read_config(shorter)
        assert frames_per_clip(shorter) < frames_per_clip(cfg), name
        assert cfg.model.backbone.get('init_cfg') is None, name
        assert cfg.model.backbone.get('pretrained') is None, name
        assert shapes(cfg.model) == shapes(shorter.model), name


def test_short_clips_start_from_imagenet_weights_of_their_depth():
    for name, cfg in all_configs():
        backbone = cfg.model.backbone
        if cfg.load_from or re.search('_(motion|order)', name):
            continue
        if backbone.type == 'ResNetTAM':
            assert f'resnet{backbone.depth}-' in backbone.pretrained, name
        else:
            flow = '_flow' if name.endswith('-flow') else ''
            assert backbone.init_cfg == dict(
                type='Pretrained', checkpoint=f'checkpoints/blresnet{backbone.depth}_a2_b4_imagenet{flow}.pth'
            ), name


def test_a_mirror_swaps_the_labels_whose_names_it_swaps():
    other = dict(
        left='right',
        right='left',
        Left='Right',
        Right='Left',
        Clockwise='Counterclockwise',
        Counterclockwise='Clockwise',
    )
    sides = re.compile(rf'\b({"|".join(other)})\b')
    for config, cfg in all_configs():
        data = re.search('sthv1|sthv2|jester', config)
        if not data:
            continue
        label_map = files('mmblvnet.datasets') / 'label_maps' / (f'{data[0]}.txt')
        names = label_map.read_text().splitlines()
        mirrored = [sides.sub(lambda m: other[m[0]], name) for name in names]
        expected = {
            label: names.index(name) for label, name in enumerate(mirrored) if name != names[label] and name in names
        }
        assert len(expected) == 6
        (flip,) = [t for t in cfg.train_pipeline if t.type.endswith('Flip')]
        assert flip.flip_label_map == expected, config


def test_kinetics_is_tested_by_the_published_protocol():
    cfg = read_config('blvnet_tam_r50_24x2_k400')
    (sampler,) = [t for t in cfg.test_pipeline if 'clip_len' in t]
    assert (sampler.type, sampler.num_clips) == ('BigLittleDenseSampleFrames', 3)
    assert dict(type='ThreeCrop', crop_size=256) in cfg.test_pipeline
    assert cfg.model.cls_head.average_clips == 'score'


def test_the_flagship_follows_the_published_recipe():
    cfg = Config.fromfile(FLAGSHIP)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    assert cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.param_scheduler == dict(type='CosineAnnealingLR', T_max=50, eta_min=0)
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.model.cls_head.dropout_ratio == 0.5
    (crop,) = [t for t in cfg.train_pipeline if t.type == 'MultiScaleCrop']
    assert crop.scales == (1, 0.875, 0.75, 0.66)
    assert cfg.test_pipeline[-4:-2] == [dict(type='Resize', scale=(-1, 224)), dict(type='CenterCrop', crop_size=224)]


TSM = 'mmaction::recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb.py'


def test_a_tsm_and_a_blvnet_config_live_in_one_process(tmp_path):
    inheriting = tmp_path / 'tsm.py'
    inheriting.write_text(f"_base_ = '{TSM}'\n")
    tsm = MODELS.build(Config.fromfile(inheriting).model)
    blvnet = MODELS.build(Config.fromfile(MOTION).model)
    frames = torch.randint(0, 256, (8, 3, 64, 64)).byte()
    for model in (tsm, blvnet, tsm):
        model.eval()
        data = dict(inputs=[frames, frames], data_samples=[ActionDataSample(), ActionDataSample()])
        with torch.no_grad():
            first, second = model.test_step(data)
        torch.testing.assert_close(first.pred_score, second.pred_score)


def test_the_readmes_options_give_several_clips_and_crops():
    cfg = Config.fromfile(FLAGSHIP)
    cfg.merge_from_dict(
        {'test_dataloader.dataset.pipeline.1.num_clips': 2, 'test_dataloader.dataset.pipeline.4.type': 'ThreeCrop'}
    )
    transforms = [TRANSFORMS.build(t) for t in cfg.test_dataloader.dataset.pipeline]
    data = dict(total_frames=40, start_index=0, modality='RGB')
    data = transforms[1](data)
    data['imgs'] = [np.zeros((240, 320, 3), np.uint8)] * 32
    for transform in transforms[3:]:
        data = transform(data)
    # 3 crops of 2 clips of 16 frames
    assert data['inputs'].shape == (96, 3, 224, 224)
