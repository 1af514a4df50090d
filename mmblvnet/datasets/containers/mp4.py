"""MP4 and QuickTime: boxes within boxes (ISO/IEC 14496-12)."""
import struct
from collections import Counter
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Tuple

STARTS = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip', b'styp')
# The bytes of an entry of the tables of frames, in which decoders trust.
ENTRIES = {
    b'stts': 8, b'ctts': 8, b'stsc': 12, b'stss': 4, b'stco': 4, b'co64': 8
}
# The media time of an edit that shows nothing.
EMPTY_EDIT = -1


class Box(NamedTuple):
    """What a box is, and where its content starts and ends."""
    kind: bytes
    start: int
    end: int


def is_start(start: bytes) -> bool:
    """Whether a file that starts so is of this container."""
    return start[4:8] in STARTS


def end(file: BinaryIO, size: int) -> int:
    """Where the last box that starts within a file ends."""
    return max([size, *(box.end for box in _top_boxes(file, size))])


def frame_counts(file: BinaryIO, size: int) -> List[Tuple[int, int]]:
    """The least and the most frames of each video track.

    They differ where an edit list cuts frames out, of which decoders keep
    those that others need.

    Raises:
        ValueError: If boxes do not fit into each other, or a table of frames
            is not as long as it says.
    """
    tracks, fragments, position = [], Counter(), 0
    for box in _top_boxes(file, size):
        position = box.end
        if box.kind == b'moov':
            tracks += [
                _Track(file, part) for part in _parts(file, box)
                if part.kind == b'trak'
            ]
        elif box.kind == b'moof':
            for part in _parts(file, box):
                if part.kind == b'traf':
                    fragments.update(_fragment(file, part))
    # What follows the fragments may have been more of them; what follows the
    # index of all frames does no harm.
    if fragments and position < size:
        raise ValueError(
            f'the structure of the file breaks at byte {position}')
    counts = []
    for track in tracks:
        if track.is_video:
            most = track.num_frames + fragments[track.identifier]
            counts.append((min(1, most) if track.is_cut else most, most))
    return counts


def _top_boxes(file: BinaryIO, size: int) -> Iterator[Box]:
    """The boxes of a file, up to where no box stands; the last may be cut."""
    position = 0
    while position + 8 <= size:
        box = _box(file, position, size)
        if box is None:
            return
        yield box
        position = box.end


def _parts(file: BinaryIO, parent: Box) -> Iterator[Box]:
    """The boxes within a box, all of which it must hold."""
    position = parent.start
    while position < parent.end:
        box = _box(file, position, parent.end)
        if box is None or box.end > parent.end:
            raise ValueError(
                f'the structure of the file breaks at byte {position}')
        yield box
        position = box.end


def _box(file: BinaryIO, position: int, end: int):
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


def _numbers(file: BinaryIO, box: Box, form: str, skip: int = 0) -> tuple:
    """Numbers that stand in a box, as :mod:`struct` says.

    Raises:
        ValueError: If they do not fit into it.
    """
    size = struct.calcsize(form)
    file.seek(box.start + skip)
    data = file.read(size)
    if box.start + skip + size > box.end or len(data) < size:
        raise ValueError(f'the table at byte {box.start} is too short')
    return struct.unpack(form, data)


class _Track:
    """What the boxes of a track say about its frames."""

    def __init__(self, file: BinaryIO, box: Box) -> None:
        boxes = dict(_all_parts(file, box))
        for table, size in ENTRIES.items():
            if table in boxes:
                _check_table(file, boxes[table], size)
        kind = b''
        if b'hdlr' in boxes:
            kind, = _numbers(file, boxes[b'hdlr'], '>4s', skip=8)
        self.is_video = kind == b'vide'
        self.identifier = self.num_frames = 0
        if b'tkhd' in boxes:
            version, = _numbers(file, boxes[b'tkhd'], '>B')
            self.identifier, = _numbers(
                file, boxes[b'tkhd'], '>I', skip=20 if version else 12)
        if self.is_video and b'stsz' in boxes:
            self.num_frames = _num_frames(file, boxes[b'stsz'])
            if b'stts' in boxes:
                _check_times(file, boxes[b'stts'], self.num_frames)
        self.is_cut = b'elst' in boxes and _is_cut(file, boxes)


def _all_parts(file: BinaryIO, box: Box) -> Iterator[Tuple[bytes, Box]]:
    """The boxes within those of a track that hold others."""
    for part in _parts(file, box):
        if part.kind in (b'edts', b'mdia', b'minf', b'stbl'):
            yield from _all_parts(file, part)
        elif box.kind != b'minf' or part.kind != b'hdlr':
            # QuickTime repeats the hdlr within minf, for the storage.
            yield part.kind, part


def _check_table(file: BinaryIO, table: Box, entry_size: int) -> None:
    """Check that a table has room for its entries."""
    count, = _numbers(file, table, '>4xI')
    if table.start + 8 + entry_size * count > table.end:
        raise ValueError(f'the table at byte {table.start} is too short for '
                         f'{count} entries')


def _check_times(file: BinaryIO, times: Box, num_frames: int) -> None:
    """Check that times are not said of more frames than there are."""
    count, = _numbers(file, times, '>4xI')
    # Pairs of a number of frames and their duration.
    timed = sum(_numbers(file, times, f'>{2 * count}I', skip=8)[::2])
    if timed > num_frames:
        raise ValueError(f'the table at byte {times.start} is of {timed} '
                         f'frames, of which there are {num_frames}')


def _num_frames(file: BinaryIO, sizes: Box) -> int:
    """The number of frames in the table of their sizes."""
    _, same_size, count = _numbers(file, sizes, '>III')
    length = 12 if same_size else 12 + 4 * count
    if sizes.start + length != sizes.end:
        raise ValueError(f'the table at byte {sizes.start} is not of the '
                         f'length of {count} frames')
    return count


def _is_cut(file: BinaryIO, boxes: Dict[bytes, Box]) -> bool:
    """Whether an edit list shows but a part of the frames."""
    version, count = _numbers(file, boxes[b'elst'], '>B3xI')
    form = '>qqI' if version else '>iiI'
    times = [
        _numbers(file, boxes[b'elst'], form,
                 skip=8 + i * struct.calcsize(form))[1] for i in range(count)
    ]
    shown = [time for time in times if time != EMPTY_EDIT]
    # Where B-frames delay the first frame, the edit makes up for it.
    delay = 0
    if b'ctts' in boxes and _numbers(file, boxes[b'ctts'], '>4xI')[0]:
        delay, = _numbers(file, boxes[b'ctts'], '>i', skip=12)
    return len(shown) != 1 or shown[0] > max(delay, 0)


def _fragment(file: BinaryIO, box: Box) -> Dict[int, int]:
    """The number of frames in a fragment of a track."""
    track, count = 0, 0
    for part in _parts(file, box):
        if part.kind == b'tfhd':
            track, = _numbers(file, part, '>4xI')
        elif part.kind == b'trun':
            count += _num_run(file, part)
    return {track: count}


def _num_run(file: BinaryIO, run: Box) -> int:
    """The number of frames in a run, whose flags tell what it says of each."""
    flags, count = _numbers(file, run, '>II')
    once = sum(bool(flags & bit) for bit in (0x1, 0x4))
    each = sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    if run.start + 8 + 4 * (once + each * count) != run.end:
        raise ValueError(f'the table at byte {run.start} is not of the length '
                         f'of {count} frames')
    return count
