"""The steps of docs/own_data.md on a few tiny clips."""

import re
import shutil
import sys

import golden
import make_annotations
import pytest
import torch
from convert_checkpoint import convert
from mmaction.registry import DATASETS
from mmblvnet.apis import classify_video, load_recognizer, read_class_names
from mmblvnet.checkpoints.safe_loading import load_safely
from mmblvnet.datasets import CheckedVideoDataset
from mmengine.config import Config
from mmengine.runner import Runner
from paths import CONFIGS, MOTION, ROOT

BLOCKS = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'own_data.md').read_text(), re.DOTALL)


@pytest.fixture
def own_videos(motion, tmp_path, monkeypatch):
    """Return a folder with three classes of five videos and their annotation files."""
    videos = sorted((motion / 'videos').glob('*/*'))
    folder = tmp_path / 'own'
    for i, video in enumerate(videos[:15]):
        class_folder = folder / ('jumping', 'running', 'waving')[i % 3]
        class_folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, class_folder / f'{i}.webm')
    monkeypatch.setattr(sys, 'argv', ['make_annotations', str(folder)])
    make_annotations.main()
    return folder


def documented_config(folder, checkpoint):
    """Return the config of the document for these videos, based on the small motion config."""
    config = BLOCKS[-1]
    (base,) = re.findall(r"_base_ = '(.*)'", config)
    assert (CONFIGS / base).exists()
    (start,) = re.findall(r"load_from = '(.*)'", config)
    return config.replace(base, MOTION).replace('data/own', str(folder)).replace(start, str(checkpoint))


def test_a_published_model_is_fine_tuned_on_own_classes(own_videos, tmp_path):
    weights = golden.weights(golden.cases('blvnet_tam', mode='eval')[0])
    published = tmp_path / 'published.pth.tar'
    torch.save(weights, published)
    converted = tmp_path / 'converted.pth'
    convert(published, converted)

    file = tmp_path / 'own.py'
    file.write_text(documented_config(own_videos, converted))
    cfg = Config.fromfile(file)
    cfg.work_dir = str(tmp_path / 'work_dir')
    cfg.train_cfg.max_epochs = 1
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].update(batch_size=5, num_workers=0)
    # So that training leaves the loaded weights unchanged.
    cfg.optim_wrapper.optimizer.lr = 0.0
    Runner.from_cfg(cfg).train()
    trained = load_safely(tmp_path / 'work_dir' / 'epoch_1.pth')['state_dict']
    assert torch.equal(trained['backbone.tam.curr.weight'], weights['baseline_model.tam.curr.weight'])
    assert trained['cls_head.fc_cls.weight'].shape == (3, 2048)

    video = next((own_videos / 'waving').iterdir())
    model = load_recognizer(file, f'{cfg.work_dir}/epoch_1.pth')
    assert classify_video(model, str(video)).shape == (3,)
    names = read_class_names(own_videos / 'label_map.txt', 3)
    assert set(names) == {'jumping', 'running', 'waving'}


def test_rare_classes_are_balanced_as_documented(own_videos):
    settings = dict(train_pipeline=[])
    exec(BLOCKS[0].replace('data/own', str(own_videos)), settings)
    dataset = DATASETS.build(settings['rare_more_often'])
    assert type(dataset.dataset) is CheckedVideoDataset
    assert len(dataset) == len(dataset.dataset) == 12
