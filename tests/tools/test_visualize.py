"""The commands of docs/visualization.md, as they stand there."""
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import visualize
from documents import block_commands
from make_motion_dataset import make_dataset
from mim_commands import MOVIEPY
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.fileio import dump, load
from paths import FLAGSHIP, MOTION, ROOT

DOCUMENTED = block_commands(ROOT / 'docs' / 'visualization.md')
OWN = [c for c in DOCUMENTED if 'tools/visualize.py' in c]


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """What the words in capitals stand for."""
    folder = tmp_path_factory.mktemp('docs')
    make_dataset(folder, train=8, val=8, seed=1)
    model = MODELS.build(Config.fromfile(MOTION).model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
    logs = folder / 'work' / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    rows = [dict(loss=2., iter=5, epoch=1), {'acc/top1': 0.5, 'step': 1}]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    config = Config.fromfile(MOTION)
    config.test_dataloader.update(batch_size=2, num_workers=0)
    config.test_dataloader.dataset.update(
        data_prefix=dict(video=f'{folder}/videos'),
        ann_file=f'{folder}/motion_val_list_videos.txt')
    config.dump(folder / 'config.py')
    return dict(
        VIDEO=folder / 'videos' / 'val' / '000000.webm',
        CONFIG=folder / 'config.py', CHECKPOINT=folder / 'model.pth',
        NAMES=folder / 'label_map.txt', WORK_DIR=folder / 'work')


def filled_in(command, places):
    return re.sub('[A-Z_]{5,}', lambda m: str(places[m[0]]), command)


def check_pictures(command, folder):
    names = re.findall(r'\S+\.png', command)
    assert sorted(names) == sorted(p.name for p in folder.glob('*.png'))
    for name in names:
        assert cv2.imread(str(folder / name)).std() > 10


@pytest.mark.parametrize('command', OWN)
def test_the_documented_commands_draw(places, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    scores = [
        dict(pred_score=torch.eye(8)[i], gt_label=torch.tensor([i // 2]))
        for i in range(8)
    ]
    dump(scores, 'scores.pkl')
    argv = shlex.split(filled_in(command, places))
    monkeypatch.setattr(sys, 'argv', argv[1:])
    visualize.main()
    check_pictures(command, tmp_path)


@pytest.mark.slow
def test_all_documented_commands_run_one_after_the_other(places, tmp_path):
    paths = [str(ROOT)]
    if importlib.util.find_spec('moviepy') is None:
        (tmp_path / 'moviepy').mkdir()
        (tmp_path / 'moviepy' / 'editor.py').write_text(MOVIEPY)
        paths.append(str(tmp_path))
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join(paths),
        PYTHONWARNINGS='ignore')
    for command in DOCUMENTED:
        command = filled_in(command, places)
        command = command.replace('tools/', f'{ROOT}/tools/')
        command = command.replace('mim ', f'{sys.executable} -m mim ', 1)
        command = re.sub('^python ', f'{sys.executable} ', command)
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment,
            capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    check_pictures(' '.join(DOCUMENTED), tmp_path)
    assert len(load(tmp_path / 'scores.pkl')) == 8
    assert (tmp_path / 'gradcam.gif').stat().st_size > 10000
    if len(paths) > 1:
        # 2 clips and 3 crops; both frames of a pair have a map.
        assert np.load(tmp_path / 'gradcam.gif').shape == (48, 64, 64, 3)


@pytest.mark.parametrize('arguments, message', [
    ('weights nowhere.py CHECKPOINT', 'nowhere.py does not exist'),
    ('frames nowhere.py VIDEO', 'nowhere.py does not exist'),
    ('frames CONFIG nowhere.mp4', 'nowhere.mp4 does not exist'),
    ('curves nowhere', 'nowhere has no'),
    (f'weights {FLAGSHIP} CHECKPOINT', 'does not belong to the model'),
    ('gradcam CONFIG CHECKPOINT VIDEO --label-map CONFIG', 'names .* classes'),
])
def test_what_is_wrong_is_said_in_a_line(places, tmp_path, arguments,
                                         message):
    argv = shlex.split(filled_in(arguments, places))
    with pytest.raises(SystemExit, match=message):
        visualize.main([*argv, '--out', str(tmp_path / 'out.png')])


def test_a_training_clip_is_drawn_once_at_least(places, capsys):
    with pytest.raises(SystemExit):
        visualize.main(
            ['frames', MOTION, 'video.mp4', '--draws', '0', '--out', 'o.png'])
    assert '0 is less than 1' in capsys.readouterr().err
