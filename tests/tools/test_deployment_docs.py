"""The commands and the code of docs/deployment.md, run as written."""

import os
import re
import subprocess
import sys

import pytest
from documents import block_commands, code_blocks
from paths import ROOT

DOCUMENT = ROOT / 'docs' / 'deployment.md'


@pytest.mark.slow
def test_the_documented_commands_and_code_run(placeholders, tmp_path):
    env = dict(os.environ, PYTHONPATH=f'{ROOT}:{ROOT}/tests')
    commands = [command for command in block_commands(DOCUMENT) if not command.startswith('pip')]
    assert len(commands) == 7
    for command in commands:
        command = re.sub(r'\b[A-Z]{5,}\b', lambda m: str(placeholders[m[0]]), command)
        if '--int8' in command:
            command += ' --calibration-clips 2'
        command = command.replace('tools/', f'{ROOT}/tools/')
        command = command.replace('python ', f'{sys.executable} ', 1)
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert '| int8.xml | ' in done.stdout
    names = placeholders['NAMES'].read_text().splitlines()
    *readers, program = code_blocks(DOCUMENT, 'python')
    for code in readers:
        done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip() in names, done.stderr
    program += 'print(module(torch.zeros(1, 8, 3, 64, 64)).shape)'
    done = subprocess.run([sys.executable, '-c', program], cwd=tmp_path, capture_output=True, text=True)
    assert 'torch.Size([1, 8])' in done.stdout, done.stderr
