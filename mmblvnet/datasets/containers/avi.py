"""AVI: chunks within lists (Microsoft's RIFF)."""
import struct
from typing import BinaryIO, Iterator, List, NamedTuple, Optional, Tuple

VIDEO_SUFFIXES = (b'dc', b'db')
# Where the codec stands in what a video stream says of its format.
CODEC_OFFSET = 16


class Chunk(NamedTuple):
    """What a chunk is, and where its content starts and ends."""
    kind: bytes
    start: int
    end: int


def is_start(start: bytes) -> bool:
    """Whether a file that starts so is of this container."""
    return start[:4] == b'RIFF' and start[8:12] in (b'AVI ', b'AVIX', b'')


def end(file: BinaryIO, size: int) -> Optional[int]:
    """Where the first RIFF list, in most files the only one, ends."""
    file.seek(4)
    return 8 + int.from_bytes(file.read(4), 'little')


def frame_counts(file: BinaryIO, size: int) -> List[Tuple[int, int]]:
    """The frames that are not empty and all frames of each video stream.

    Raises:
        ValueError: If chunks do not fit into each other, or there are none.
    """
    counts = {}
    num_streams = 0
    for chunk in _all_chunks(file, size):
        if chunk.kind == b'strh':
            file.seek(chunk.start)
            if file.read(4) == b'vids':
                counts[b'%02d' % num_streams] = [0, 0]
            num_streams += 1
        elif chunk.kind[:2] in counts and chunk.kind[2:] in VIDEO_SUFFIXES:
            counts[chunk.kind[:2]][0] += chunk.end > chunk.start
            counts[chunk.kind[:2]][1] += 1
    if not num_streams:
        raise ValueError('no stream is declared')
    return [tuple(count) for count in counts.values()]


def can_be_sought(file: BinaryIO, size: int) -> bool:
    """Whether every frame is a picture of its own, as in Motion JPEG.

    Frames of an AVI file have no times, so others cannot be told apart once
    some before them have been left out.
    """
    codecs, is_video = [], False
    for chunk in _all_chunks(file, size):
        file.seek(chunk.start)
        if chunk.kind == b'strh':
            is_video = file.read(4) == b'vids'
        elif chunk.kind == b'strf' and is_video:
            file.seek(chunk.start + CODEC_OFFSET)
            codecs.append(file.read(4))
        elif chunk.kind[2:] in VIDEO_SUFFIXES:
            break
    return bool(codecs) and set(codecs) <= {b'MJPG'}


def _all_chunks(file: BinaryIO, size: int) -> Iterator[Chunk]:
    """The chunks of all RIFF lists, of which large files have several."""
    position = 0
    while True:
        riff = _chunk(file, position, size)
        if riff is None or riff.kind != b'RIFF':
            return
        yield from _chunks(file, riff)
        position = riff.end


def _chunks(file: BinaryIO, parent: Chunk) -> Iterator[Chunk]:
    """The chunks within a list and the lists in it."""
    # The kind of the list comes first.
    position, padding = parent.start + 4, 0
    while position + padding < parent.end:
        # Some writers leave out the padding to an even length.
        chunk = (
            _chunk(file, position + padding, parent.end)
            or _chunk(file, position, parent.end))
        if chunk is None:
            raise ValueError(
                f'the structure of the file breaks at byte {position}')
        if chunk.kind == b'LIST':
            yield from _chunks(file, chunk)
        else:
            yield chunk
        position, padding = chunk.end, (chunk.end - chunk.start) % 2


def _chunk(file: BinaryIO, position: int, end: int) -> Optional[Chunk]:
    """The chunk at a position, None if there is none before the end."""
    file.seek(position)
    header = file.read(8)
    if len(header) < 8:
        return None
    kind, length = struct.unpack('<4sI', header)
    chunk = Chunk(kind, position + 8, position + 8 + length)
    is_text = all(32 <= byte < 127 for byte in kind)
    return chunk if is_text and chunk.end <= end else None
