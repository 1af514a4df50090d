"""ImageNet classifiers with bLResNet, trained with MMPretrain."""

import re
import runpy
from importlib.util import find_spec

import cv2
import golden
import numpy as np
import pytest
import torch
from mim_commands import mim
from mmaction.registry import MODELS
from mmblvnet.checkpoints.safe_loading import load_safely
from mmengine.config import Config
from mmengine.registry import DefaultScope
from paths import CONFIGS, FLAGSHIP

needs_mmpretrain = pytest.mark.skipif(not find_spec('mmpretrain'), reason='needs mmpretrain')
(CASE,) = golden.cases('blresnet')
CONFIG = CONFIGS / 'imagenet' / 'blresnet50_in1k.py'


def test_the_backbone_of_the_config_runs_all_stages():
    config = runpy.run_path(str(CONFIGS / '_base_' / 'imagenet.py'))
    config = config['model']['backbone']
    del config['_delete_']
    backbone = MODELS.build(config).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(2, 3, 64, 64))
    assert isinstance(maps, tuple)
    assert maps[-1].shape == (2, 2048, 2, 2)


def build(file):
    """Build the classifier of a config as MMPretrain's scripts do."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmpretrain.registry import MODELS

        return MODELS.build(Config.fromfile(file).model)


@needs_mmpretrain
def test_the_published_weights_give_the_published_scores():
    classifier = build(CONFIG).eval()
    weights = {(f'head.{k}' if k.startswith('fc.') else f'backbone.{k}'): v for k, v in golden.weights(CASE).items()}
    classifier.load_state_dict(weights)
    with torch.no_grad():
        scores = classifier(golden.inputs(CASE), mode='tensor')
    torch.testing.assert_close(scores, torch.tensor(CASE['logits']), atol=1e-4, rtol=1e-4)


@needs_mmpretrain
def test_the_configs_follow_the_published_recipe():
    cfg = Config.fromfile(CONFIGS / 'imagenet' / 'blresnet101_in1k.py')
    assert cfg.model.backbone.depth == 101
    cfg = Config.fromfile(CONFIG)
    assert cfg.model.backbone.depth == 50
    recipe = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    assert cfg.optim_wrapper.optimizer == {**recipe, '_scope_': 'mmpretrain'}
    assert cfg.param_scheduler == dict(type='CosineAnnealingLR', T_max=110, eta_min=0)
    assert cfg.train_cfg.max_epochs == 110
    assert cfg.auto_scale_lr.base_batch_size == 256
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert 'ColorJitter' in [transform.type for transform in pipeline]


def write_images(folder, count):
    """Write `count` images per split in the layout of ImageNet, one per class."""
    (folder / 'meta').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        (folder / split).mkdir()
        for label in range(count):
            cv2.imwrite(f'{folder}/{split}/{label}.jpg', rng.integers(0, 256, (80, 100, 3), np.uint8))
        (folder / 'meta' / f'{split}.txt').write_text(''.join(f'{label}.jpg {label}\n' for label in range(count)))


@needs_mmpretrain
@pytest.mark.slow
def test_a_video_model_starts_from_what_mim_trains(tmp_path):
    write_images(tmp_path / 'images', count=4)
    options = ['--work-dir', tmp_path, '--cfg-options']
    options += [
        f'{split}_dataloader.{option}'
        for split in ('train', 'val', 'test')
        for option in (
            f'dataset.data_root={tmp_path}/images',
            'batch_size=2',
            'num_workers=0',
            'persistent_workers=False',
        )
    ]
    log = mim('train', CONFIG, *options, 'train_cfg.max_epochs=1', package='mmpretrain')
    assert re.search(r'Epoch\(val\) \[1\]\[2/2\].*accuracy/top1', log)
    trained = tmp_path / 'epoch_1.pth'
    log = mim('test', CONFIG, '--checkpoint', trained, *options, package='mmpretrain')
    assert re.search(r'Epoch\(test\) \[2/2\].*accuracy/top5', log)

    cfg = Config.fromfile(FLAGSHIP)
    cfg.model.backbone.init_cfg.checkpoint = str(trained)
    model = MODELS.build(cfg.model)
    model.init_weights()
    state = model.backbone.state_dict()
    weights = {
        name.removeprefix('backbone.'): value
        for name, value in load_safely(trained)['state_dict'].items()
        if name.startswith('backbone.')
    }
    assert len(weights) == 426
    for name, value in weights.items():
        assert torch.equal(state[name], value), name
