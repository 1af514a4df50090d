"""The boxes that MP4 and QuickTime files are made of (ISO/IEC 14496-12)."""
import struct
from typing import BinaryIO, Iterator, NamedTuple, Optional, Tuple


class Box(NamedTuple):
    """What a box is, and where its content starts and ends."""
    kind: bytes
    start: int
    end: int


def top_boxes(file: BinaryIO, size: int) -> Iterator[Box]:
    """The boxes of a file, up to where no box stands; the last may be cut."""
    position = 0
    while position + 8 <= size:
        box = _box(file, position, size)
        if box is None:
            return
        yield box
        position = box.end


def parts(file: BinaryIO, parent: Box) -> Iterator[Box]:
    """The boxes within a box, all of which it must hold."""
    position = parent.start
    while position < parent.end:
        box = _box(file, position, parent.end)
        if box is None or box.end > parent.end:
            raise ValueError(
                f'the structure of the file breaks at byte {position}')
        yield box
        position = box.end


def _box(file: BinaryIO, position: int, end: int) -> Optional[Box]:
    """The box at a position, None if there is none."""
    file.seek(position)
    header = file.read(16)
    if len(header) < 8:
        return None
    length, kind = struct.unpack('>I4s', header[:8])
    start = position + 8
    if length == 1:
        start += 8
        # A long length that is cut ends behind itself at least.
        length = (
            struct.unpack('>Q', header[8:])[0] if len(header) == 16 else 16)
    elif length == 0:
        length = end - position
    if length < start - position or not kind.isalnum():
        return None
    return Box(kind, start, position + length)


def numbers(file: BinaryIO, box: Box, form: str, skip: int = 0) -> tuple:
    """Numbers that stand in a box, as :mod:`struct` says.

    Raises:
        ValueError: If they do not fit into it.
    """
    size = struct.calcsize(form)
    file.seek(box.start + skip)
    fits = box.start + skip + size <= box.end
    data = file.read(size) if fits else b''
    if len(data) < size:
        raise ValueError(f'the table at byte {box.start} is too short')
    return struct.unpack(form, data)


def all_parts(file: BinaryIO, box: Box) -> Iterator[Tuple[bytes, Box]]:
    """The boxes within those of a track that hold others."""
    for part in parts(file, box):
        if part.kind in (b'edts', b'mdia', b'minf', b'stbl'):
            yield from all_parts(file, part)
        elif box.kind != b'minf' or part.kind != b'hdlr':
            # QuickTime repeats the hdlr within minf, for the storage.
            yield part.kind, part
