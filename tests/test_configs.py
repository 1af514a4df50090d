import pytest
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from paths import CONFIGS, FLAGSHIP

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
