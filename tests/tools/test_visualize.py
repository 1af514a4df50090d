"""The commands of docs/visualization.md, run as written."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from documents import block_commands
from mim_commands import MOVIEPY
from mmengine.fileio import dump, load
from paths import MOTION, ROOT

DOCUMENTED = block_commands(ROOT / 'docs' / 'visualization.md')
OWN = [c for c in DOCUMENTED if 'tools/visualize.py' in c]


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Return a work_dir with the logs of a training."""
    folder = tmp_path_factory.mktemp('work')
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    rows = [dict(loss=2.0, iter=5, epoch=1), {'acc/top1': 0.5, 'step': 1}]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    return folder


def check_pictures(commands, folder):
    names = re.findall(r'\S+\.png', ' '.join(commands))
    assert sorted(names) == sorted(p.name for p in folder.glob('*.png'))
    for name in names:
        assert cv2.imread(str(folder / name)).std() > 10


def test_the_documented_commands_draw(run, work_dir, tmp_path):
    scores = [dict(pred_score=torch.eye(8)[i], gt_label=torch.tensor([i // 2])) for i in range(8)]
    dump(scores, 'scores.pkl')
    for command in OWN:
        status, printed = run(command, WORK_DIR=work_dir)
        assert status is None, (command, printed)
    check_pictures(OWN, tmp_path)


@pytest.mark.slow
def test_all_documented_commands_run_one_after_the_other(placeholders, work_dir, tmp_path):
    paths = [str(ROOT), str(ROOT / 'tests')]
    stands_in = importlib.util.find_spec('moviepy') is None
    if stands_in:
        (tmp_path / 'moviepy').mkdir()
        (tmp_path / 'moviepy' / 'editor.py').write_text(MOVIEPY)
        paths.append(str(tmp_path))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), PYTHONWARNINGS='ignore')
    words = dict(placeholders, WORK_DIR=work_dir)
    for command in DOCUMENTED:
        command = re.sub('[A-Z_]{5,}', lambda m: str(words[m[0]]), command)
        command = command.replace('tools/', f'{ROOT}/tools/')
        command = command.replace('mim ', f'{sys.executable} -m mim ', 1)
        command = re.sub('^python ', f'{sys.executable} ', command)
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    check_pictures(DOCUMENTED, tmp_path)
    assert len(load(tmp_path / 'scores.pkl')) == 2
    assert (tmp_path / 'gradcam.gif').stat().st_size > 10000
    if stands_in:
        # 2 clips, 3 crops, 8 frames; both frames of a pair get its map.
        assert np.load(tmp_path / 'gradcam.gif').shape == (48, 64, 64, 3)


def test_errors_are_reported_in_one_line(run):
    for arguments, message in {
        'weights nowhere.py CHECKPOINT': 'nowhere.py does not exist',
        'frames CONFIG nowhere.mp4': 'nowhere.mp4 cannot be read .*No such file',
        'frames CONFIG VIDEO --draws 0': '0 is less than 1',
        'curves nowhere': 'nowhere has no',
        f'weights {MOTION} CHECKPOINT': 'does not belong to the model',
        'gradcam CONFIG CHECKPOINT VIDEO --label-map CONFIG': 'names .* class',
    }.items():
        status, printed = run(f'python tools/visualize.py {arguments} --out o.png')
        assert re.search(message, printed.err if status == 2 else status)
