"""Whether a video file is as long as its container says.

A cut WebM file opens, and gives the frames that are left as if they were all.
"""
import struct
from pathlib import Path
from typing import BinaryIO, Optional

EBML = 0x1A45DFA3
SEGMENT = 0x18538067


def missing_bytes(path: str) -> int:
    """How many bytes are missing at the end of a video file.

    Reads a few headers only. Knows Matroska (WebM), MP4 (QuickTime) and AVI.

    Args:
        path (str): A file on disk.

    Returns:
        int: Bytes that the container announces and the file does not have; 0
        for containers that are not known or do not say.
    """
    size = Path(path).stat().st_size
    with open(path, 'rb') as file:
        start = file.read(12)
        file.seek(0)
        if start[:4] == EBML.to_bytes(4, 'big'):
            end = _matroska_end(file, size)
        elif start[4:8] == b'ftyp':
            end = _mp4_end(file, size)
        elif start[:4] == b'RIFF' and len(start) >= 8:
            end = 8 + struct.unpack('<I', start[4:8])[0]
        else:
            end = None
    return max(0, end - size) if end is not None else 0


def _matroska_end(file: BinaryIO, size: int) -> Optional[int]:
    """Where the segment, the last element of a Matroska file, ends.

    Or the element before it that the file ends in.
    """
    while True:
        identifier = _variable_integer(file, keep_marker=True)
        length = _variable_integer(file, keep_marker=False)
        if identifier is None or length is None:
            return None
        end = file.tell() + length
        if identifier == SEGMENT or end > size:
            return end
        file.seek(end)


def _variable_integer(file: BinaryIO, keep_marker: bool) -> Optional[int]:
    """An EBML integer, whose leading zero bits tell its number of bytes.

    Returns:
        int, optional: None at the end of the file, or if all bits are set,
        which stands for "unknown".
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    num_bytes = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(num_bytes - 1), 'big')
    if keep_marker:
        return value
    value &= (1 << 7 * num_bytes) - 1
    return None if value == (1 << 7 * num_bytes) - 1 else value


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last box that starts within an MP4 file ends."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack('>I4s', file.read(8))
        if length == 1:
            long_length = file.read(8)
            if len(long_length) < 8:
                return position + 16
            length = struct.unpack('>Q', long_length)[0]
        # 0 stands for "to the end of the file"; less than 8 is no box.
        if length < 8 or not kind.isalnum():
            return size
        position += length
    return position
