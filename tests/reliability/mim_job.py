"""A ``mim train`` that is watched while it runs, and killed."""

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Dict, List, Optional, Pattern

from paths import MOTION

STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/\s*\d+\]\s+lr: (\S+)')


class Job:
    """Trains on the motion data.

    All its processes inherit a mark, by which they are found again whatever
    becomes of their parents.

    Args:
        data (Path): Folder of the data.
        work_dir (Path): Folder for the checkpoints.
        args (str): Arguments of ``mim train``, and options of the config
            after ``--cfg-options``.
    """

    def __init__(self, data: Path, work_dir: Path, *args: str) -> None:
        self.mark = f'MIM_JOB={uuid.uuid4().hex}'
        self.log = ''
        if '--cfg-options' not in args:
            args += ('--cfg-options',)
        self._process = subprocess.Popen(
            [
                sys.executable,
                '-m',
                'mim',
                'train',
                'mmaction',
                MOTION,
                '--work-dir',
                str(work_dir),
                *args,
                *_options(data),
            ],
            env=dict(os.environ, **dict([self.mark.split('=')])),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def watch(self, pattern: Pattern, times: int = 1) -> bool:
        """Whether so many lines that match come before the job ends."""
        for line in self._process.stdout:
            self.log += line
            times -= bool(re.search(pattern, line))
            if not times:
                return True
        return False

    def wait(self, timeout: float = None) -> int:
        """Wait for the end of the command; its exit status."""
        self.log += self._process.communicate(timeout=timeout)[0]
        return self._process.returncode

    def kill(self) -> None:
        """Kill all its processes with SIGKILL."""
        while self.processes():
            for process in self.processes():
                send(process, signal.SIGKILL)
        self.wait()

    def processes(self) -> List[int]:
        """Those that run, the loader's workers among them."""
        mark = self.mark.encode()
        return [int(folder.name) for folder in Path('/proc').glob('[0-9]*') if mark in _environment(folder)]

    def ranks(self) -> Dict[int, int]:
        """The process of each rank."""
        of_rank = {}
        for process in self.processes():
            for entry in _environment(Path(f'/proc/{process}')):
                if entry.startswith(b'RANK='):
                    of_rank[process] = int(entry[5:])
        # A rank's workers inherit its number; its own parent has none.
        return {rank: process for process, rank in of_rank.items() if _parent(process) not in (None, *of_rank)}


def _options(data: Path) -> List[str]:
    # Clips of 2 frames, and a line in the log for each step.
    options = [
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.max_keep_ckpts=1',
        'model.backbone.num_segments=2',
        'model.cls_head.num_segments=1',
    ]
    for split in ('train', 'val'):
        loader = f'{split}_dataloader'
        options += [
            f'{loader}.batch_size=4',
            f'{loader}.num_workers=2',
            f'{loader}.dataset.pipeline.1.clip_len=2',
            f'{loader}.dataset.data_prefix.video={data}/videos',
            f'{loader}.dataset.ann_file={data}/motion_{split}_list_videos.txt',
        ]
    return options


def _environment(folder: Path) -> List[bytes]:
    try:
        return (folder / 'environ').read_bytes().split(b'\0')
    except OSError:  # it has ended, or is not ours
        return []


def _parent(process: int) -> Optional[int]:
    try:
        stat = Path(f'/proc/{process}/stat').read_text()
    except OSError:  # it has ended
        return None
    return int(stat.rpartition(')')[2].split()[1])


def send(process: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass
