"""Runs of mim commands, and of their scripts without mim."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import mmaction
import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from paths import MOTION

TOOLS = Path(mmaction.__file__).parent / '.mim' / 'tools'

# A stand-in for moviepy that writes the frames in place of a video.
MOVIEPY = """
import numpy as np

class ImageSequenceClip:
    def __init__(self, frames, fps):
        self.frames = np.stack(frames)

    def write_videofile(self, path, **_):
        with open(path, 'wb') as file:
            np.save(file, self.frames)

    write_gif = write_videofile
"""


def data_options(data):
    """Return --cfg-options that make a config read clips from a folder, without workers."""
    options = []
    for split in ('train', 'val', 'test'):
        dataset = f'{split}_dataloader.dataset'
        listed = 'train' if split == 'train' else 'val'
        options += [
            f'{split}_dataloader.batch_size=4',
            f'{split}_dataloader.num_workers=0',
            f'{dataset}.data_prefix.video={data}/videos',
            f'{dataset}.ann_file={data}/motion_{listed}_list_videos.txt',
        ]
    return options


def mim(command, *args, package='mmaction', check=True, **environment):
    """Run a mim command in a new process and return what it prints."""
    result = subprocess.run(
        [sys.executable, '-m', 'mim', command, package, *map(str, args)],
        env=dict(os.environ, PYTHONWARNINGS='ignore', **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert not check or result.returncode == 0, result.stdout[-6000:]
    return result.stdout


def script(name):
    """Return the path of MMAction2's script of a name."""
    (found,) = TOOLS.rglob(f'{name}.py')
    return found


def run_in_process(script, *args):
    """Run a script in this process and return what it prints.

    MMEngine names loggers after the config and the current second: without new
    instances, a second run in that second would log to the first run's file.
    """
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        for managed in (MMLogger, MessageHub, Visualizer):
            patch.setattr(managed, '_instance_dict', OrderedDict())
        patch.setattr('sys.argv', [str(script), *map(str, args)])
        # MMAction2's tools set it; the patch resets it afterwards.
        patch.setenv('LOCAL_RANK', '0')
        runpy.run_path(str(script), run_name='__main__')
    return printed.getvalue()


def on_clips(data, work_dir, *options, args=()):
    """Return the arguments with which a config of the motion data reads few clips.

    The folder names the experiment, since runs may start in the same second.
    """
    return (
        '--work-dir',
        work_dir,
        *args,
        '--cfg-options',
        f'experiment_name={Path(work_dir).name}',
        'default_hooks.logger.interval=1',
        *data_options(data),
        *options,
    )


def train(data, work_dir, *options, args=(), check=True, **environment):
    """Train with the config of the motion data on a few clips; return the log."""
    return mim('train', MOTION, *on_clips(data, work_dir, *options, args=args), check=check, **environment)
