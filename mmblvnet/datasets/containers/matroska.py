"""Matroska and WebM: elements within elements (RFC 8794 and RFC 9559)."""
from collections import Counter
from typing import BinaryIO, Iterator, List, NamedTuple, Optional, Tuple

EBML = 0x1A45DFA3
SEGMENT = 0x18538067
TRACKS = 0x1654AE6B
TRACK_ENTRY = 0xAE
TRACK_NUMBER = 0xD7
TRACK_TYPE = 0x83
CODEC = 0x86
VIDEO_SETTINGS = 0xE0
PIXEL_WIDTH = 0xB0
PIXEL_HEIGHT = 0xBA
CLUSTER = 0x1F43B675
BLOCK_GROUP = 0xA0
BLOCK = 0xA1
SIMPLE_BLOCK = 0xA3

# SeekHead, Info, Tracks, Cluster, Cues, Attachments, Chapters and Tags.
SEGMENT_PARTS = {
    0x114D9B74, 0x1549A966, TRACKS, CLUSTER, 0x1C53BB6B, 0x1941A469,
    0x1043A770, 0x1254C367
}
# Timestamp, Position and PrevSize.
NUMBERS = {0xE7, 0xA7, 0xAB}
# The others are SilentTracks and the blocks.
CLUSTER_PARTS = NUMBERS | {0x5854, BLOCK_GROUP, SIMPLE_BLOCK}
# Padding and checksum, which may stand anywhere.
ANYWHERE = {0xEC, 0xBF}
TRACK_NUMBERS = {TRACK_NUMBER, TRACK_TYPE, PIXEL_WIDTH, PIXEL_HEIGHT}
# Where only these may stand; what other elements hold is not looked at.
PARTS = {SEGMENT: SEGMENT_PARTS | ANYWHERE, CLUSTER: CLUSTER_PARTS | ANYWHERE}
OPENED = {SEGMENT, TRACKS, TRACK_ENTRY, VIDEO_SETTINGS, CLUSTER, BLOCK_GROUP}

VIDEO = 1
VP8 = b'V_VP8'
# In the first byte of a frame (RFC 6386, section 9.1).
VP8_SHOWN = 0x10
# Nothing behind their key frames is shown before them or needs what is.
SOUGHT_CODECS = {VP8, b'V_VP9'}
# Decoders scale the pictures of VP8 to the size in the header. That of no
# camera is above this, four times 8K.
MAX_PIXELS = 2**27
INVISIBLE = 0x08
LACING = 0x06


class Element(NamedTuple):
    """What an element is, and where its content starts and ends."""
    identifier: Optional[int]
    start: int
    # None where the file does not say, as live recordings do.
    end: Optional[int]


def is_start(start: bytes) -> bool:
    """Whether a file that starts so is of this container."""
    return start[:4] == EBML.to_bytes(4, 'big')


def end(file: BinaryIO, size: int) -> Optional[int]:
    """Where the segment, the last element, ends.

    Or the element before it that the file ends in.
    """
    position = 0
    while True:
        element = _element(file, position)
        if element.identifier is None or element.end is None:
            return None
        if element.identifier == SEGMENT or element.end > size:
            return element.end
        position = element.end


def frame_counts(file: BinaryIO, size: int) -> List[Tuple[int, int]]:
    """The visible frames and all frames of each video track.

    Raises:
        ValueError: If elements do not fit into each other, a frame belongs to
            no track, or the pictures are said to be larger than any are.
    """
    tracks = {}
    visible, every = Counter(), Counter()
    track_says = {}
    for element in _elements(file, size):
        if element.identifier == TRACK_ENTRY:
            track_says = {}
        elif element.identifier == CODEC:
            track_says[CODEC] = _bytes(file, element)
        elif element.identifier in TRACK_NUMBERS:
            track_says[element.identifier] = _content(file, element)
            if TRACK_NUMBER in track_says:
                tracks[track_says[TRACK_NUMBER]] = track_says
            _check_size(
                track_says.get(PIXEL_WIDTH, 0),
                track_says.get(PIXEL_HEIGHT, 0))
        elif element.identifier in (SIMPLE_BLOCK, BLOCK):
            track, flags, num_frames, first_byte = _block(file, element)
            if track not in tracks:
                raise ValueError(f'the frame at byte {element.start} belongs '
                                 'to no track')
            every[track] += num_frames
            is_hidden = flags & INVISIBLE or (
                tracks[track].get(CODEC) == VP8
                and not first_byte & VP8_SHOWN)
            visible[track] += 0 if is_hidden else num_frames
    return [(visible[track], every[track]) for track, says in tracks.items()
            if says.get(TRACK_TYPE) == VIDEO]


def can_be_sought(file: BinaryIO, size: int) -> bool:
    """Whether all video tracks are of codecs with closed groups of pictures.

    Raises:
        ValueError: If elements do not fit into each other.
    """
    codecs = []
    for element in _elements(file, size):
        if element.identifier == CODEC:
            codecs.append(_bytes(file, element))
        elif element.identifier == CLUSTER:
            break
    videos = {codec for codec in codecs if codec.startswith(b'V_')}
    return bool(videos) and videos <= SOUGHT_CODECS


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f'the header says {width} x {height} pixels')


def _elements(file: BinaryIO, size: int) -> Iterator[Element]:
    """All elements to the end of the segment, parents first."""
    parents = [Element(None, 0, size)]
    position = 0
    while True:
        while position == parents[-1].end:
            if parents.pop().identifier in (SEGMENT, None):
                return
        element = _element(file, position)
        if (parents[-1].identifier == CLUSTER
                and element.identifier in SEGMENT_PARTS):
            # Only a cluster of unknown length ends so.
            parents.pop()
        parent = parents[-1]
        if element.end is None and element.identifier in (SEGMENT, CLUSTER):
            element = element._replace(end=parent.end)
        if not _fits(element, parent):
            raise ValueError(
                f'the structure of the file breaks at byte {position}')
        yield element
        if element.identifier in OPENED:
            parents.append(element)
            position = element.start
        else:
            position = element.end


def _fits(element: Element, parent: Element) -> bool:
    if (element.identifier is None or element.end is None
            or element.end > parent.end):
        return False
    if element.identifier in NUMBERS and element.end > element.start + 8:
        # One bit makes a number of a frame.
        return False
    return element.identifier in PARTS.get(parent.identifier,
                                           {element.identifier})


def _element(file: BinaryIO, position: int) -> Element:
    file.seek(position)
    header = file.read(12)
    identifier, num_bytes = _variable_integer(header)
    length, num_more = _variable_integer(header[num_bytes:])
    start = position + num_bytes + num_more
    # All bits are set where the length is unknown.
    if length is not None:
        length ^= 1 << 7 * num_more
        if length == (1 << 7 * num_more) - 1:
            length = None
    return Element(identifier, start,
                   None if length is None else start + length)


def _variable_integer(data: bytes) -> Tuple[Optional[int], int]:
    """An integer, whose leading zero bits tell its number of bytes.

    Returns:
        tuple: The integer, with the bit that ends the leading zeros, and its
        number of bytes; None and 0 where no integer stands.
    """
    if not data or not data[0]:
        return None, 0
    num_bytes = 9 - data[0].bit_length()
    return int.from_bytes(data[:num_bytes], 'big'), num_bytes


def _bytes(file: BinaryIO, element: Element) -> bytes:
    file.seek(element.start)
    return file.read(element.end - element.start)


def _content(file: BinaryIO, element: Element) -> int:
    return int.from_bytes(_bytes(file, element), 'big')


def _block(file: BinaryIO, element: Element) -> Tuple[int, int, int, int]:
    """The track, the flags, the number of frames and the byte behind them."""
    file.seek(element.start)
    data = file.read(min(12, element.end - element.start))
    track, num_bytes = _variable_integer(data)
    # Two bytes of time lie between; a frame has at least one byte.
    if track is None or len(data) < num_bytes + 4:
        raise ValueError(f'the frame at byte {element.start} is empty')
    flags = data[num_bytes + 2]
    num_frames = data[num_bytes + 3] + 1 if flags & LACING else 1
    return track ^ 1 << 7 * num_bytes, flags, num_frames, data[num_bytes + 3]
