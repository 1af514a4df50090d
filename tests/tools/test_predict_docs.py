"""The commands of docs/predict.md and streaming.md, as they stand there."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from documents import block_commands
from make_motion_dataset import make_dataset
from mmaction.registry import MODELS
from mmengine.config import Config
from paths import MOTION, ROOT


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """What the words in capitals stand for."""
    folder = tmp_path_factory.mktemp('docs')
    make_dataset(folder, train=8, val=8, seed=1)
    checkpoint = folder / 'model.pth'
    model = MODELS.build(Config.fromfile(MOTION).model)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    videos = folder / 'videos' / 'val'
    return dict(VIDEO=videos / '000000.webm', FOLDER=videos, CONFIG=MOTION,
                CHECKPOINT=checkpoint, NAMES=folder / 'label_map.txt')


@pytest.mark.parametrize('command', [
    command for name in ('predict.md', 'streaming.md')
    for command in block_commands(ROOT / 'docs' / name)
    # The study takes hours; tests/tools/test_study_streams.py tries it.
    if 'motion' not in command and 'study.py' not in command
])
def test_the_documented_commands_run(places, tmp_path, command):
    command = re.sub('[A-Z]{4,}', lambda m: str(places[m[0]]), command)
    # The videos of the data set are shorter than 2 seconds.
    command = command.replace('--window 2', '--window 0.4')
    command = command.replace('tools/', f'{ROOT}/tools/')
    command = command.replace('python ', f'{sys.executable} -W ignore ', 1)
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr
    written = {p.name for p in Path(tmp_path).iterdir()}
    for name in ('out.json', 'annotated', 'out.csv', 'out.png', 'out.mp4',
                 'lines.jsonl', 'stream.onnx'):
        assert (name in command) == (name in written)
