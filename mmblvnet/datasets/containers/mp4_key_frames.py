"""Where decoders may start within the video tracks of MP4 files."""
from typing import BinaryIO, Dict, Iterator, Tuple

from .mp4_boxes import Box, numbers, parts

# What stands before the boxes in the description of a video's frames.
DESCRIPTION_LENGTH = 78
# Of H.264 (ISO/IEC 14496-10, table 7-1): slices of pictures, and among them
# those before which nothing is needed by what comes after.
SLICES = range(1, 6)
IDR_SLICE = 5
Boxes = Dict[bytes, Box]


def key_frames_are_closed(file: BinaryIO, boxes: Boxes) -> bool:
    """Whether nothing behind a key frame is shown before it or needs what is.

    Known of VP8, VP9 and of H.264 whose key frames are IDR pictures.

    Args:
        file (BinaryIO): The file.
        boxes (dict[bytes, Box]): The boxes of a video track.

    Returns:
        bool: False also where it is not known.

    Raises:
        ValueError: If a table does not fit into its box.
    """
    if not boxes.keys() >= {b'stsd', b'stsz', b'stsc', b'stts'}:
        return False
    count, length, codec = numbers(file, boxes[b'stsd'], '>4xII4s')
    if count != 1:
        return False
    if codec in (b'vp08', b'vp09'):
        return True
    same_size, = numbers(file, boxes[b'stsz'], '>4xI')
    if codec not in (b'avc1', b'avc3') or same_size:
        return False
    start = boxes[b'stsd'].start + 16
    description = Box(codec, start + DESCRIPTION_LENGTH, start + length - 8)
    length_size = _length_size(file, description)
    return bool(length_size) and all(
        _is_idr(file, *place, length_size)
        for place in _key_frames(file, boxes))


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
        *length, header = file.read(length_size + 1) or (0, )
        if header & 31 in SLICES:
            return header & 31 == IDR_SLICE
        position += length_size + int.from_bytes(bytes(length), 'big')
    return False
