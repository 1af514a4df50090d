"""The package needs no features that only some platforms and environments have."""

import subprocess
import sys

from mim_commands import data_options
from paths import MOTION

# MMAction2, MMEngine and PyTorch are imported before: they may need them.
WITHOUT = """
import builtins, os, sys
sys.modules['torchvision'] = None
import mmaction, mmengine.runner, torch
for name in ('fork', 'forkpty', 'getuid', 'mkfifo', 'posix_fadvise', 'pread',
             'pwrite', 'register_at_fork', 'sched_getaffinity',
             'sched_setaffinity', 'symlink', 'sysconf', 'uname'):
    delattr(os, name)
sys.modules.update(dict.fromkeys(('fcntl', 'pwd', 'termios')))

def without_system_files(upstream):
    def function(path, *args, **kwargs):
        if str(path).startswith(('/proc', '/dev', '/sys')):
            raise FileNotFoundError(2, 'not there', str(path))
        return upstream(path, *args, **kwargs)
    return function

os.stat = without_system_files(os.stat)
builtins.open = without_system_files(open)

import mmblvnet
from mmblvnet.apis import classify_video, find_videos, load_recognizer
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

config, data, folder, *options = sys.argv[1:]
cfg = Config.fromfile(config)
cfg.merge_from_dict(dict(
    (key, DictAction._parse_int_float_bool(value))
    for key, value in (option.split('=') for option in options)))
cfg.merge_from_dict(dict(
    work_dir=folder, train_cfg=dict(max_epochs=1)))
runner = Runner.from_cfg(cfg)
runner.train()
runner.test()
model = load_recognizer(config, folder + '/epoch_1.pth')
video, *_ = find_videos([data])
print(classify_video(model, video).shape)
"""
FEWER = [f'{split}_dataloader.dataset.indices=2' for split in ('train', 'val', 'test')]


def test_training_testing_and_predicting_need_no_linux_nor_torchvision(motion, tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT, MOTION, str(motion), str(tmp_path), *data_options(motion), *FEWER],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith('torch.Size([8])\n')
