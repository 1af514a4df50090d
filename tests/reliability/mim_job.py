"""A ``mim train`` job that tests can watch and kill."""

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
    """A running ``mim train`` on the motion data.

    All its processes inherit an environment variable of a unique value, which
    identifies them even after their parents have died.

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
        """Read the output until `times` lines match; return False if the job ends before."""
        for line in self._process.stdout:
            self.log += line
            times -= bool(re.search(pattern, line))
            if not times:
                return True
        return False

    def wait(self, timeout: float = None) -> int:
        """Wait for the end of the command and return its exit status."""
        self.log += self._process.communicate(timeout=timeout)[0]
        return self._process.returncode

    def kill(self) -> None:
        """Kill all processes of the job with SIGKILL."""
        while self.processes():
            for process in self.processes():
                send(process, signal.SIGKILL)
        self.wait()

    def processes(self) -> List[int]:
        """Return the ids of the running processes, data loader workers included."""
        mark = self.mark.encode()
        return [int(folder.name) for folder in Path('/proc').glob('[0-9]*') if mark in _environment(folder)]

    def ranks(self) -> Dict[int, int]:
        """Return the process id of each rank."""
        of_rank = {}
        for process in self.processes():
            for entry in _environment(Path(f'/proc/{process}')):
                if entry.startswith(b'RANK='):
                    of_rank[process] = int(entry[5:])
        # Workers inherit RANK too, but their parent is a rank.
        return {rank: process for process, rank in of_rank.items() if _parent(process) not in (None, *of_rank)}


def _options(data: Path) -> List[str]:
    # Clips of 2 frames, and a log line for each step.
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
    """Send a signal to a process, unless it has ended."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass
