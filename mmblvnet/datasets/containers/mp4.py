"""MP4 and QuickTime: boxes within boxes (ISO/IEC 14496-12)."""
import struct
from collections import Counter
from typing import BinaryIO, Dict, List, Tuple

from .mp4_boxes import Box, all_parts, numbers, parts, top_boxes
from .mp4_key_frames import key_frames_are_closed

STARTS = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip', b'styp')
# The bytes of an entry of the tables of frames, in which decoders trust.
ENTRIES = {
    b'stts': 8, b'ctts': 8, b'stsc': 12, b'stss': 4, b'stco': 4, b'co64': 8
}
# The media time of an edit that shows nothing.
EMPTY_EDIT = -1


def is_start(start: bytes) -> bool:
    """Whether a file that starts so is of this container."""
    return start[4:8] in STARTS


def end(file: BinaryIO, size: int) -> int:
    """Where the last box that starts within a file ends."""
    return max([size, *(box.end for box in top_boxes(file, size))])


def frame_counts(file: BinaryIO, size: int) -> List[Tuple[int, int]]:
    """The least and the most frames of each video track.

    They differ where an edit list cuts frames out, of which decoders keep
    those that others need.

    Raises:
        ValueError: If boxes do not fit into each other, or a table of frames
            is not as long as it says.
    """
    tracks, fragments, position = [], Counter(), 0
    for box in top_boxes(file, size):
        position = box.end
        if box.kind == b'moov':
            tracks += [
                _Track(file, part, _movie_timescale(file, box))
                for part in parts(file, box) if part.kind == b'trak'
            ]
        elif box.kind == b'moof':
            for part in parts(file, box):
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


def can_be_sought(file: BinaryIO, size: int) -> bool:
    """Whether all key frames start a closed group of pictures.

    In H.264 those do that are made of IDR slices. Files in fragments, and
    other codecs but VP9, are not looked into: False.

    Raises:
        ValueError: If boxes do not fit into each other, or a table of frames
            is not as long as it says.
    """
    videos = []
    for box in top_boxes(file, size):
        if box.kind == b'moof':
            return False
        if box.kind == b'moov':
            tracks = [
                list(all_parts(file, part)) for part in parts(file, box)
                if part.kind == b'trak'
            ]
            videos += [
                boxes for boxes in tracks
                for kind, part in boxes
                if kind == b'hdlr' and _kind(file, part) == b'vide'
            ]
    return bool(videos) and all(
        key_frames_are_closed(file, size, boxes) for boxes in videos)


class _Track:
    """What the boxes of a track say about its frames."""

    def __init__(self, file: BinaryIO, box: Box, movie_timescale: int) -> None:
        boxes = dict(all_parts(file, box))
        for table, size in ENTRIES.items():
            if table in boxes:
                _check_table(file, boxes[table], size)
        self.is_video = (
            b'hdlr' in boxes and _kind(file, boxes[b'hdlr']) == b'vide')
        self.identifier = self.num_frames = 0
        if b'tkhd' in boxes:
            version, = numbers(file, boxes[b'tkhd'], '>B')
            self.identifier, = numbers(
                file, boxes[b'tkhd'], '>I', skip=20 if version else 12)
        if self.is_video and b'stsz' in boxes:
            self.num_frames = _num_frames(file, boxes[b'stsz'])
            if b'stts' in boxes:
                _check_times(file, boxes[b'stts'], self.num_frames)
        self.is_cut = b'elst' in boxes and _is_cut(
            file, boxes, movie_timescale, self.num_frames)


def _kind(file: BinaryIO, handler: Box) -> bytes:
    """What a track holds, of which its handler tells."""
    kind, = numbers(file, handler, '>4s', skip=8)
    return kind


def _check_table(file: BinaryIO, table: Box, entry_size: int) -> None:
    """Check that a table has room for its entries."""
    count, = numbers(file, table, '>4xI')
    if table.start + 8 + entry_size * count > table.end:
        raise ValueError(f'the table at byte {table.start} is too short for '
                         f'{count} entries')


def _check_times(file: BinaryIO, times: Box, num_frames: int) -> None:
    """Check that times are not said of more frames than there are."""
    count, = numbers(file, times, '>4xI')
    # Pairs of a number of frames and their duration.
    timed = sum(numbers(file, times, f'>{2 * count}I', skip=8)[::2])
    if timed > num_frames:
        raise ValueError(f'the table at byte {times.start} is of {timed} '
                         f'frames, of which there are {num_frames}')


def _num_frames(file: BinaryIO, sizes: Box) -> int:
    """The number of frames in the table of their sizes."""
    _, same_size, count = numbers(file, sizes, '>III')
    length = 12 if same_size else 12 + 4 * count
    if sizes.start + length != sizes.end:
        raise ValueError(f'the table at byte {sizes.start} is not of the '
                         f'length of {count} frames')
    return count


def _movie_timescale(file: BinaryIO, movie: Box) -> int:
    """In what parts of a second the lengths of edits are, 1 if unknown."""
    for part in parts(file, movie):
        if part.kind == b'mvhd':
            version, = numbers(file, part, '>B')
            return numbers(file, part, '>I', skip=20 if version else 12)[0]
    return 1


def _is_cut(file: BinaryIO, boxes: Dict[bytes, Box], movie_timescale: int,
            num_frames: int) -> bool:
    """Whether an edit list shows but a part of the frames."""
    version, count = numbers(file, boxes[b'elst'], '>B3xI')
    form = '>QqI' if version else '>IiI'
    edits = [
        numbers(file, boxes[b'elst'], form,
                skip=8 + i * struct.calcsize(form))[:2] for i in range(count)
    ]
    shown = [edit for edit in edits if edit[1] != EMPTY_EDIT]
    if len(shown) != 1:
        return True
    # Where B-frames delay the first frame, the edit makes up for it.
    delay = 0
    if b'ctts' in boxes and numbers(file, boxes[b'ctts'], '>4xI')[0]:
        delay = max(0, *numbers(file, boxes[b'ctts'], '>i', skip=12))
    (length, start), = shown
    if start > delay:
        return True
    if not length or b'mdhd' not in boxes:
        return False
    timescale, media_length = _media_length(file, boxes[b'mdhd'])
    frame_length = media_length / max(1, num_frames)
    shown_until = start + (length + 1) * timescale / max(1, movie_timescale)
    return shown_until + frame_length / 2 < media_length


def _media_length(file: BinaryIO, header: Box) -> Tuple[int, int]:
    """In what parts of a second the times of a track are, and its length."""
    version, = numbers(file, header, '>B')
    if version:
        return numbers(file, header, '>IQ', skip=20)
    return numbers(file, header, '>II', skip=12)


def _fragment(file: BinaryIO, box: Box) -> Dict[int, int]:
    """The number of frames in a fragment of a track."""
    track, count = 0, 0
    for part in parts(file, box):
        if part.kind == b'tfhd':
            track, = numbers(file, part, '>4xI')
        elif part.kind == b'trun':
            count += _num_run(file, part)
    return {track: count}


def _num_run(file: BinaryIO, run: Box) -> int:
    """The number of frames in a run, whose flags tell what it says of each."""
    flags, count = numbers(file, run, '>II')
    once = sum(bool(flags & bit) for bit in (0x1, 0x4))
    each = sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    if run.start + 8 + 4 * (once + each * count) != run.end:
        raise ValueError(f'the table at byte {run.start} is not of the length '
                         f'of {count} frames')
    return count
