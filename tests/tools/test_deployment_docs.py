"""The commands and the code of docs/deployment.md, as they stand there."""
import os
import re
import subprocess
import sys

import pytest
import torch
from documents import block_commands, code_blocks
from make_motion_dataset import make_dataset
from mmaction.registry import MODELS
from mmengine.config import Config
from paths import MOTION, ROOT

DOCUMENT = ROOT / 'docs' / 'deployment.md'


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """What the words in capitals stand for."""
    folder = tmp_path_factory.mktemp('docs')
    make_dataset(folder / 'data' / 'motion', train=8, val=8, seed=1)
    checkpoint = folder / 'model.pth'
    model = MODELS.build(Config.fromfile(MOTION).model)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return dict(CONFIG=MOTION, CHECKPOINT=checkpoint,
                NAMES='data/motion/label_map.txt', folder=folder)


@pytest.mark.slow
def test_the_documented_commands_and_code_run(places):
    folder = places['folder']
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    commands = [command for command in block_commands(DOCUMENT)
                if not command.startswith('pip')]
    assert len(commands) == 7
    for command in commands:
        command = re.sub(r'\b[A-Z]{5,}\b', lambda m: str(places[m[0]]),
                         command)
        if '--int8' in command:
            command += ' --calibration-clips 8'
        command = command.replace('tools/', f'{ROOT}/tools/')
        command = command.replace('python ', f'{sys.executable} ', 1)
        done = subprocess.run(command, shell=True, cwd=folder, env=env,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert '| int8.xml | ' in done.stdout
    names = (folder / places['NAMES']).read_text().splitlines()
    *readers, program = code_blocks(DOCUMENT, 'python')
    for code in readers:
        done = subprocess.run([sys.executable, '-c', code], cwd=folder,
                              capture_output=True, text=True)
        assert done.stdout.strip() in names, done.stderr
    program += 'print(module(torch.zeros(1, 8, 3, 64, 64)).shape)'
    done = subprocess.run([sys.executable, '-c', program], cwd=folder,
                          capture_output=True, text=True)
    assert 'torch.Size([1, 8])' in done.stdout, done.stderr
