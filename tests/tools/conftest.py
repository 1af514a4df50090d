"""Fixtures for the tests of commands on videos."""

import importlib
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from networks import SMALL_CHANNELS
from paths import MOTION
from tiny_videos import write_video

NAMES = ('blink', 'clap', 'crouch', 'jump', 'nod', 'run', 'turn', 'walk')


@pytest.fixture(scope='session')
def placeholders(tmp_path_factory):
    """Return the paths that the placeholders of the documents (VIDEO, ...) stand for.

    The model is that of the motion data with few channels; its scores depend
    on the video and have a standard deviation of 1.
    """
    folder = tmp_path_factory.mktemp('placeholders')
    videos = folder / 'videos' / 'val'
    videos.mkdir(parents=True)
    for name in 'ab':
        write_video(videos / f'{name}.webm')
    (folder / 'list.txt').write_text('val/a.webm 0\nval/b.webm 7\n')
    (folder / 'names.txt').write_text('\n'.join(NAMES))
    cfg = Config.fromfile(MOTION)
    cfg.custom_imports.imports = ['mmblvnet', 'networks']
    cfg.model.backbone.type = 'SmallBLVNet'
    cfg.model.cls_head.in_channels = SMALL_CHANNELS
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_prefix=dict(video=f'{folder}/videos'), ann_file=f'{folder}/list.txt')
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    classifier = model.cls_head.fc_cls
    with torch.no_grad():
        classifier.bias.zero_()
        maps = model.backbone(torch.randn(8, 3, 64, 64))
        classifier.weight.div_(classifier(maps.mean((0, 2, 3))).std())
    torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
    return dict(
        VIDEO=videos / 'a.webm',
        FOLDER=videos,
        CONFIG=folder / 'config.py',
        CHECKPOINT=folder / 'model.pth',
        NAMES=folder / 'names.txt',
    )


@pytest.fixture
def run(placeholders, tmp_path, monkeypatch, capfd):
    """Return a function that runs a documented command in a temporary folder.

    It returns the exit status, None or a message included, and the captured
    output.
    """
    monkeypatch.chdir(tmp_path)

    def run(command, **others):
        words = dict(placeholders, **others)
        command = re.sub(r'\b[A-Z_]{5,}\b', lambda word: str(words.get(word[0], word[0])), command)
        command, _, source = command.partition(' < ')
        _, script, *arguments = shlex.split(command)
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        stdin = os.dup(0)
        with open(source or os.devnull) as file:
            os.dup2(file.fileno(), 0)
            try:
                importlib.import_module(Path(script).stem).main()
                status = None
            except SystemExit as stop:
                status = stop.code
            finally:
                os.dup2(stdin, 0)
                os.close(stdin)
        return status, capfd.readouterr()

    return run
