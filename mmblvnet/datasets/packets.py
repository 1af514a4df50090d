"""What the packets of a video tell of their frames before decoding."""
from typing import Iterator, Optional

# In the first byte of a frame of VP8 (RFC 6386, section 9.1).
VP8_SHOWN = 0x10
# Kinds of units of H.264 (ISO/IEC 14496-10, table 7-1): pictures, and what
# stands before them. A recovery point is a message of the latter.
SLICES, IDR_SLICE, MESSAGES, RECOVERY_POINT = range(1, 6), 5, 6, 6
# Of MPEG-4 and its kin. That nothing has changed, or that the frame stands in
# the packet before, takes fewer bytes than any picture.
MPEG4_KIN = ('mpeg4', 'msmpeg4v3', 'h263', 'h263p', 'flv')
SMALLEST_PICTURE = 24


def is_shown(codec: str, data: memoryview) -> bool:
    """Whether a packet shows a frame; some of VP8, VP9 only serve others."""
    if codec == 'vp8':
        return bool(data[0] & VP8_SHOWN)
    if codec == 'vp9':
        return any(_vp9_is_shown(frame[0]) for frame in _vp9_frames(data)
                   if len(frame))
    return True


def _vp9_is_shown(header: int) -> bool:
    """By the VP9 Bitstream Specification, section 6.2."""
    # Profile 3 has a reserved bit more.
    if header & 0x30 != 0x30:
        header >>= 1
    is_repeated, is_new = header & 4, header & 1
    return bool(is_repeated or is_new)


def _vp9_frames(data: memoryview) -> Iterator[memoryview]:
    """The frames in a superframe, annex B, or the only one."""
    marker = data[-1]
    num_frames, num_bytes = (marker & 7) + 1, (marker >> 3 & 3) + 1
    start, index = 0, len(data) - 2 - num_frames * num_bytes
    if marker & 0xe0 != 0xc0 or index < 0 or data[index] != marker:
        yield data
        return
    for place in range(index + 1, len(data) - 1, num_bytes):
        size = int.from_bytes(data[place:place + num_bytes], 'little')
        yield data[start:start + size]
        start += size


def may_be_empty(codec: str, size: int) -> bool:
    """Whether a packet is so short that only decoding tells its frames."""
    return codec in MPEG4_KIN and size < SMALLEST_PICTURE


def recovers(codec: str, data: memoryview,
             extradata: Optional[bytes]) -> Optional[bool]:
    """Whether all is right from a key frame on if nothing before it is known.

    Key frames of H.264 may be no more than pictures without motion.

    Returns:
        bool, optional: False if only after some frames more, None if the
        packet does not say.
    """
    if codec != 'h264':
        return True
    answer = None
    for unit in _units(bytes(data), extradata or b''):
        kind = unit[0] & 31
        if kind in SLICES:
            return True if kind == IDR_SLICE else answer
        if kind == MESSAGES:
            for message, content in _messages(unit):
                if message == RECOVERY_POINT and content:
                    # The number of frames is 0 if the first bit is 1.
                    answer = bool(content[0] & 0x80)
    return answer


def _units(data: bytes, extradata: bytes) -> Iterator[bytes]:
    """The units in a packet, behind start codes or lengths."""
    if extradata[:1] == b'\1' and len(extradata) > 4:
        num_bytes, place = (extradata[4] & 3) + 1, 0
        while place + num_bytes < len(data):
            start = place + num_bytes
            place = start + int.from_bytes(data[place:start], 'big')
            if not start < place <= len(data):
                return
            yield data[start:place]
    else:
        yield from filter(None, data.split(b'\0\0\1')[1:])


def _messages(unit: bytes) -> Iterator[tuple]:
    """The kinds and contents of the messages in a unit."""
    place = 1
    while place + 1 < len(unit) and unit[place] != 0x80:
        numbers = [0, 0]
        for i in range(2):
            while unit[place:place + 1] == b'\xff':
                numbers[i] += 255
                place += 1
            numbers[i] += int.from_bytes(unit[place:place + 1], 'big')
            place += 1
        kind, size = numbers
        yield kind, unit[place:place + size]
        place += size
