"""The commands that people type."""
import os
import subprocess
import sys

from paths import MOTION

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
        text=True)
    assert not check or result.returncode == 0, result.stdout[-6000:]
    return result.stdout


def train(data, work_dir, *options, args=(), check=True, config=MOTION,
          **environment):
    """Train with a config of the motion data on a few of its clips."""
    return mim(
        'train',
        config,
        '--work-dir',
        work_dir,
        *args,
        '--cfg-options',
        'default_hooks.logger.interval=1',
        *data_options(data),
        *options,
        check=check,
        **environment)
