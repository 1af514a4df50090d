"""A pure Python config, with classes in place of names and a user's own module."""

import importlib
import re

import pytest
from mim_commands import run_in_process, script
from paths import ROOT

MODULE = """
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


@TRANSFORMS.register_module()
class Darken(BaseTransform):

    def transform(self, results):
        results['imgs'] = [picture // 2 for picture in results['imgs']]
        return results
"""
BASE = """
from mmaction.evaluation import AccMetric
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.optim import SGD

from mmblvnet.engine.hooks import DataCheckHook

default_scope = 'mmaction'
custom_hooks = [dict(type=DataCheckHook)]
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=1),
    checkpoint=dict(type=CheckpointHook, interval=1))
val_evaluator = test_evaluator = dict(type=AccMetric)
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01))
param_scheduler = [dict(type=CosineAnnealingLR, T_max=1)]
"""
PIPELINES = """
from mmaction.datasets import (CenterCrop, FormatShape, PackActionInputs,
                               RandomCrop, Resize)
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler

from mmblvnet.datasets import CheckedVideoDataset
from mmblvnet.datasets.transforms import (BigLittleSampleFrames,
                                          ExactVideoDecode, ExactVideoInit)
from networks import SmallBLVNet

with read_base():
    from .base import *

model['backbone'].update(type=SmallBLVNet)
model['cls_head'].update(in_channels=128)

end = [
    dict(type=Darken),
    dict(type=FormatShape, input_format='NCHW'),
    dict(type=PackActionInputs)
]
train_pipeline = [
    dict(type=ExactVideoInit),
    dict(type=BigLittleSampleFrames, clip_len=8),
    dict(type=ExactVideoDecode),
    dict(type=Resize, scale=(-1, 64)),
    dict(type=RandomCrop, size=64), *end
]
val_pipeline = [
    dict(type=ExactVideoInit),
    dict(type=BigLittleSampleFrames, clip_len=8, test_mode=True),
    dict(type=ExactVideoDecode),
    dict(type=Resize, scale=(-1, 64)),
    dict(type=CenterCrop, crop_size=64), *end
]
test_pipeline = val_pipeline
"""
LOADER = """
{split}_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle={shuffle}),
    dataset=dict(
        type=CheckedVideoDataset,
        num_classes=8,
        pipeline={split}_pipeline,
        test_mode=not {shuffle},
        ann_file='{folder}/motion_{listed}_list_videos.txt',
        data_prefix=dict(video='{folder}/videos')))
"""


@pytest.fixture(scope='module')
def folder(motion, tmp_path_factory):
    """Train with the documented config; yield the folder with the config and the run."""
    folder = tmp_path_factory.mktemp('pure')
    text = (ROOT / 'docs' / 'mixing.md').read_text()
    text = text[text.index('## Configs in pure Python') :]
    (head,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    loaders = [
        LOADER.format(
            split=split, folder=motion, shuffle=split == 'train', listed='train' if split == 'train' else 'val'
        )
        for split in ('train', 'val', 'test')
    ]
    (folder / 'pure.py').write_text('\n'.join([head, PIPELINES, *loaders]))
    (folder / 'base.py').write_text(BASE)
    (folder / 'own_module.py').write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        log = run_in_process(script('train'), folder / 'pure.py', '--work-dir', folder / 'run')
        assert re.search(r'Epoch\(val\) \[1\]\[2/2\].*acc/top1', log)
        yield folder


def test_the_config_that_a_run_writes_can_be_tested(folder, tmp_path):
    log = run_in_process(
        script('test'), folder / 'run' / 'pure.py', folder / 'run' / 'epoch_1.pth', '--work-dir', tmp_path
    )
    assert re.search(r'Epoch\(test\) \[2/2\].*acc/top1', log)


@pytest.mark.parametrize(
    'config, tool, arguments',
    [
        ('pure.py', 'predict', 'VIDEO CONFIG CHECKPOINT --window 1 --csv OUT.csv'),
        ('pure.py', 'visualize', 'frames CONFIG VIDEO --out OUT.png --split train'),
        ('pure.py', 'visualize', 'gradcam CONFIG CHECKPOINT VIDEO --out OUT.png'),
        ('pure.py', 'export', 'CONFIG CHECKPOINT OUT.pt2 --format torch --with-preprocessing'),
        ('run/pure.py', 'predict', 'VIDEO CONFIG CHECKPOINT'),
    ],
)
def test_the_tools_accept_the_config(config, tool, arguments, folder, motion, tmp_path, monkeypatch):
    names = dict(
        VIDEO=next((motion / 'videos').glob('*/*')),
        CONFIG=folder / config,
        CHECKPOINT=folder / 'run' / 'epoch_1.pth',
        OUT=tmp_path / 'out',
    )
    for name, path in names.items():
        arguments = re.sub(rf'\b{name}\b', str(path), arguments)
    monkeypatch.setattr('sys.argv', [tool, *arguments.split()])
    try:
        importlib.import_module(tool).main()
    except SystemExit as end:
        assert not end.code
