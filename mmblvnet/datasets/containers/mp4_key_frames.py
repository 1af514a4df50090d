"""Where decoders may start within the video tracks of MP4 files."""
from typing import BinaryIO, Dict, Iterator, Sequence, Tuple

from .mp4_boxes import Box, numbers, parts

# What stands before the boxes in the description of a video's frames.
DESCRIPTION_LENGTH = 78
# Of H.264 (ISO/IEC 14496-10, table 7-1): slices of pictures, and among them
# those before which nothing is needed by what comes after.
SLICES = range(1, 6)
IDR_SLICE = 5
Boxes = Dict[bytes, Box]


def key_frames_are_closed(file: BinaryIO, size: int,
                          parts_of_track: Sequence[Tuple[bytes, Box]]) -> bool:
    """Whether nothing behind a key frame is shown before it or needs what is.

    Known of VP9 and of H.264 whose key frames are IDR pictures.

    Args:
        file (BinaryIO): The file.
        size (int): Its length in bytes.
        parts_of_track (Sequence[tuple]): The boxes of a video track and their
            kinds.

    Returns:
        bool: False also where it is not known.

    Raises:
        ValueError: If a table does not fit into its box.
    """
    boxes = dict(parts_of_track)
    if not boxes.keys() >= {b'stsd', b'stsz', b'stsc', b'stts'}:
        return False
    count, length, codec = numbers(file, boxes[b'stsd'], '>4xII4s')
    if count != 1 or _has_open_groups(file, parts_of_track):
        return False
    if codec == b'vp09':
        return True
    same_size, = numbers(file, boxes[b'stsz'], '>4xI')
    if codec not in (b'avc1', b'avc3') or same_size:
        return False
    start = boxes[b'stsd'].start + 16
    description = Box(codec, start + DESCRIPTION_LENGTH, start + length - 8)
    length_size = _length_size(file, description)
    key_frames = list(_key_frames(file, boxes))
    return bool(length_size and key_frames) and all(
        begin + num_bytes <= size
        and _is_idr(file, begin, num_bytes, length_size)
        for begin, num_bytes in key_frames)


def _has_open_groups(file: BinaryIO,
                     parts_of_track: Sequence[Tuple[bytes, Box]]) -> bool:
    """Whether frames are named at which open groups of pictures start.

    Partial sync samples of QuickTime, and random access points.
    """
    return any(
        kind == b'stps' or kind == b'sbgp'
        and numbers(file, part, '>4x4s') == (b'rap ', )
        for kind, part in parts_of_track)


def _length_size(file: BinaryIO, description: Box) -> int:
    """Of how many bytes the lengths within frames are, 0 if not known."""
    for part in parts(file, description):
        if part.kind == b'avcC':
            flags, = numbers(file, part, '>B', skip=4)
            return 1 + (flags & 3)
    return 0


def _key_frames(file: BinaryIO, boxes: Boxes) -> Iterator[Tuple[int, int]]:
    """Where key frames start, and of how many bytes they are."""
    every = _frames(file, boxes)
    if b'stss' not in boxes:
        # All are.
        return every
    keys = set(_table(file, boxes[b'stss'], 'I'))
    return (place for number, place in enumerate(every, 1) if number in keys)


def _frames(file: BinaryIO, boxes: Boxes) -> Iterator[Tuple[int, int]]:
    """Where frames start, and of how many bytes they are.

    They lie in chunks, and a table tells of how many frames those are from
    one chunk on.
    """
    count, = numbers(file, boxes[b'stsz'], '>8xI')
    sizes = iter(numbers(file, boxes[b'stsz'], f'>{count}I', skip=12))
    changes = _table(file, boxes[b'stsc'], 'III')
    frames_from = dict(zip(changes[::3], changes[1::3]))
    num_frames = 0
    for chunk, position in enumerate(_chunks(file, boxes), 1):
        num_frames = frames_from.get(chunk, num_frames)
        for _, size in zip(range(num_frames), sizes):
            yield position, size
            position += size


def _chunks(file: BinaryIO, boxes: Boxes) -> Tuple[int, ...]:
    """Where chunks start."""
    if b'co64' in boxes:
        return _table(file, boxes[b'co64'], 'Q')
    return _table(file, boxes[b'stco'], 'I') if b'stco' in boxes else ()


def _table(file: BinaryIO, box: Box, entry: str) -> Tuple[int, ...]:
    """The numbers of a table, which says how many entries it has."""
    count, = numbers(file, box, '>4xI')
    return numbers(file, box, f'>{count * len(entry)}{entry[0]}', skip=8)


def _is_idr(file: BinaryIO, start: int, size: int, length_size: int) -> bool:
    """Whether the first slice of a picture is of an IDR picture."""
    position = start
    while position + length_size < start + size:
        file.seek(position)
        *length, header = file.read(length_size + 1)
        if header & 31 in SLICES:
            return header & 31 == IDR_SLICE
        unit = int.from_bytes(bytes(length), 'big')
        if not unit:
            return False
        position += length_size + unit
    return False
