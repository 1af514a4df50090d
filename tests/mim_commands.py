"""The commands that people type, and their scripts without mim."""

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

# Stands in for moviepy: it writes the frames instead of a video.
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
    """What makes a config read few clips from a folder, without workers."""
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
    """What a command of mim prints."""
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
    """MMAction2's tool of a name."""
    (found,) = TOOLS.rglob(f'{name}.py')
    return found


def here(script, *args):
    """What a script prints that runs in this process, not in one of mim.

    MMEngine finds a run's logger by the config's name and the second, so that
    a second run within it would write to the first one's output.
    """
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        for managed in (MMLogger, MessageHub, Visualizer):
            patch.setattr(managed, '_instance_dict', OrderedDict())
        patch.setattr('sys.argv', [str(script), *map(str, args)])
        # MMAction2's tools set it, for good.
        patch.setenv('LOCAL_RANK', '0')
        runpy.run_path(str(script), run_name='__main__')
    return printed.getvalue()


def on_clips(data, work_dir, *options, args=()):
    """The arguments with which a config of the motion data reads few clips.

    Runs that begin within a second are told apart by the name of the folder.
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
    """Train with the config of the motion data on a few of its clips."""
    return mim('train', MOTION, *on_clips(data, work_dir, *options, args=args), check=check, **environment)
