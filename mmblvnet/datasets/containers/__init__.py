"""What the container of a video says of itself.

Decoders give the frames that are left after a damage as if they were all.
Known are Matroska (WebM), MP4 (QuickTime) and AVI.
"""
import os
from pathlib import Path
from typing import BinaryIO, List, NamedTuple, Optional

from . import avi, matroska, mp4


class FrameCount(NamedTuple):
    """How many frames of a video track a decoder may find.

    Args:
        least (int): Those that every decoder shows.
        most (int): All that are in the file.
    """
    least: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return str(self.most)
        return f'{self.least} to {self.most}'


def missing_bytes(path: str) -> int:
    """How many bytes are missing at the end of a video file.

    Reads a few headers only.

    Args:
        path (str): A file on disk.

    Returns:
        int: Bytes that the container announces and the file does not have; 0
        for containers that are not known or do not say.
    """
    size = Path(path).stat().st_size
    with open(path, 'rb') as file:
        container = _container(file)
        end = container.end(file, size) if container else None
    return max(0, end - size) if end is not None else 0


def frame_counts(path: str) -> Optional[List[FrameCount]]:
    """How many frames each video track of a file holds.

    Reads the headers of all frames, and no frame.

    Args:
        path (str): A file on disk.

    Returns:
        list[FrameCount], optional: One per video track; None for containers
        that are not known.

    Raises:
        ValueError: If the structure of the container is broken.
    """
    with open(path, 'rb') as file:
        return _frame_counts(file)


def is_shown_whole(file: BinaryIO) -> Optional[bool]:
    """Whether all frames in a file are shown.

    Not so where an edit list cuts some out, or frames only serve others.

    Args:
        file (BinaryIO): An opened file.

    Returns:
        bool, optional: None where it is not known.
    """
    try:
        counts = _frame_counts(file)
    except (ValueError, RecursionError):
        return None
    return counts and all(least == most for least, most in counts)


def can_be_sought(file: BinaryIO) -> bool:
    """Whether a decoder may leave out what is before a key frame.

    Not so where frames are not shown, where some behind a key frame are shown
    before it or need what is (open groups of pictures, refresh by and by), or
    where frames have no times. Reads headers, and those of the key frames of
    H.264.

    Args:
        file (BinaryIO): An opened file.

    Returns:
        bool: False also where it is not known.
    """
    if not is_shown_whole(file):
        return False
    container, size = _container(file), _size(file)
    try:
        return container.can_be_sought(file, size)
    except (ValueError, RecursionError):
        return False


def _frame_counts(file: BinaryIO) -> Optional[List[FrameCount]]:
    container = _container(file)
    if container is None:
        return None
    counts = container.frame_counts(file, _size(file))
    return [FrameCount(*count) for count in counts]


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _container(file: BinaryIO):
    """The module that knows the container of a file."""
    file.seek(0)
    start = file.read(12)
    for container in (matroska, mp4, avi):
        if container.is_start(start):
            return container
    return None
