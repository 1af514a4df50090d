"""Notes of the videos that processes read, for those that outlive them.

A decoder that crashes takes its process along, which can tell nothing any
more; what it has written to a file stays.
"""
import contextlib
import functools
import os
from pathlib import Path
from typing import Iterator, List, NamedTuple

from torch.utils.data import get_worker_info


class ReadingNote(NamedTuple):
    """What a process is reading, or was when it died.

    Args:
        process (int): Its number.
        video (str): The file or folder.
        ann_file (str): The annotation file that lists it.
    """
    process: int
    video: str
    ann_file: str


def start_notes(folder: Path) -> str:
    """Make a folder for notes, also where there was one before.

    Returns:
        str: The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _file.cache_clear()
    return str(folder)


@contextlib.contextmanager
def noted(folder: str, video: str, ann_file: str) -> Iterator[None]:
    """Note what this process is reading while it does.

    Args:
        folder (str): Where the notes are. Each loader worker has a file there
            by its number, a process without workers has ``main``.
        video (str): The file or folder that is read.
        ann_file (str): The annotation file that lists it.
    """
    _write(folder, video, ann_file)
    try:
        yield
    finally:
        _write(folder, '', '')


def read_notes(folder: str) -> List[ReadingNote]:
    """What is being read, by the notes in a folder; the oldest first."""
    notes = []
    for file in sorted(Path(folder).glob('*'), key=os.path.getmtime):
        # A shorter note does not cover a longer one before it.
        lines = os.fsdecode(file.read_bytes()).split('\n')[:3]
        if len(lines) == 3 and lines[1]:
            notes.append(ReadingNote(int(lines[0]), lines[1], lines[2]))
    return notes


def _write(folder: str, *lines: str) -> None:
    worker = get_worker_info()
    name = f'worker{worker.id}' if worker else 'main'
    note = ''.join(f'{line}\n' for line in (os.getpid(), *lines))
    # Neither a full disk nor a folder that is gone is worth a training.
    with contextlib.suppress(OSError):
        os.pwrite(_file(folder, name, os.getpid()), os.fsencode(note), 0)


@functools.lru_cache(maxsize=None)
def _file(folder: str, name: str, process: int) -> int:
    """The file of a process, which keeps it open."""
    return os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT, 0o644)
