import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.runner import Runner
from paths import CONFIGS, FLAGSHIP, MOTION

configs = pytest.mark.parametrize(
    'file', sorted(CONFIGS.glob('*.py')), ids=lambda f: f.stem)


@configs
def test_it_says_what_every_config_has_to_say(file):
    cfg = Config.fromfile(file)
    assert cfg.custom_imports == dict(
        imports=['mmblvnet'], allow_failed_imports=False)
    assert cfg.default_scope == 'mmaction'
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert dict(type='DataCheckHook') in cfg.custom_hooks
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.pipeline == cfg[f'{split}_pipeline']


@configs
def test_a_leaf_is_a_handful_of_lines(file):
    assert len(file.read_text().splitlines()) <= 20


@configs
def test_the_number_of_frames_agrees_everywhere(file):
    cfg = Config.fromfile(file)
    num_frames = cfg.model.backbone.num_segments
    assert cfg.model.cls_head.num_segments == num_frames // 2
    assert cfg.model.cls_head.num_classes == cfg.num_classes
    for split in ('train', 'val', 'test'):
        clip_len, = [
            t.clip_len for t in cfg[f'{split}_pipeline']
            if 'SampleFrames' in t.type
        ]
        assert clip_len == num_frames


@configs
def test_its_model_and_dataloaders_are_built(file, tmp_path):
    cfg = Config.fromfile(file)
    MODELS.build(cfg.model)
    annotations = tmp_path / 'list.txt'
    annotations.write_text('a.webm 0\nb.webm 1\n')
    for split in ('train', 'val', 'test'):
        dataloader = cfg[f'{split}_dataloader']
        dataloader.dataset.ann_file = str(annotations)
        dataset = DATASETS.build(dataloader.dataset)
        assert len(dataset) == 2
        Runner.build_dataloader(dict(dataloader, dataset=dataset))


def test_the_flagship_follows_the_published_recipe():
    cfg = Config.fromfile(FLAGSHIP)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    assert cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.param_scheduler == dict(
        type='CosineAnnealingLR', T_max=50, eta_min=0)
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.model.cls_head.dropout_ratio == 0.5
    crop, = [t for t in cfg.train_pipeline if t.type == 'MultiScaleCrop']
    assert crop.scales == (1, 0.875, 0.75, 0.66)
    flip, = [t for t in cfg.train_pipeline if t.type == 'Flip']
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
