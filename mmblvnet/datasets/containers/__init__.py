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
    size = Path(path).stat().st_size
    with open(path, 'rb') as file:
        container = _container(file)
        if container is None:
            return None
        counts = container.frame_counts(file, size)
    return [FrameCount(*count) for count in counts]


def can_be_sought(file: BinaryIO) -> bool:
    """Whether a decoder may leave out what is before a key frame.

    Not so where frames behind a key frame are shown before it or need what is
    (open groups of pictures, refresh by and by), or where frames have no
    times. Reads headers, and those of the key frames of H.264.

    Args:
        file (BinaryIO): An opened file.

    Returns:
        bool: False also where it is not known.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    container = _container(file)
    try:
        return bool(container) and container.can_be_sought(file, size)
    except ValueError:
        return False


def _container(file: BinaryIO):
    """The module that knows the container of a file."""
    start = file.read(12)
    for container in (matroska, mp4, avi):
        if container.is_start(start):
            return container
    return None
