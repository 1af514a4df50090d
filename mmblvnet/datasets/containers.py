"""What FFmpeg does not say about the containers of damaged videos."""
import os
import struct
from typing import BinaryIO, Iterator, Optional, Tuple

AVI = 'avi'
MP4 = 'mov,mp4,m4a,3gp,3g2,mj2'
TRANSPORT_STREAM = 'mpegts'
# Of packets of transport streams: plain, with time codes, with checksums.
PACKET_SIZES = (188, 192, 204)


def problem_with(file: BinaryIO, container: str, num_frames: int,
                 num_packets: int) -> Optional[str]:
    """What contradicts itself in a file that FFmpeg finds no fault with.

    Args:
        file (BinaryIO): The file.
        container (str): FFmpeg's name of the container.
        num_frames (int): Frames of the track by its header, 0 if it is silent.
        num_packets (int): Packets of the track.
    """
    size = file.seek(0, os.SEEK_END)
    if container == TRANSPORT_STREAM and all(size % n for n in PACKET_SIZES):
        return 'it ends within a packet'
    if container == MP4:
        kinds, end = set(), 0
        for kind, end in _top_boxes(file, size):
            kinds.add(kind)
            if end > size and kind in (b'moov', b'moof'):
                return f'{end - size} bytes are missing at the end'
        if b'moof' in kinds:
            if end != size:
                return f'the structure of the file breaks at byte {end}'
            # The header leaves out the fragments.
            num_frames = 0 if num_frames <= num_packets else num_frames
        elif not num_frames:
            return 'its header has no frames'
    if num_frames and num_frames != num_packets:
        return f'{num_packets} of its {num_frames} frames are found'
    return None


def riff_is_whole(file: BinaryIO) -> bool:
    """Whether an AVI file is as long as it says."""
    file.seek(4)
    length = int.from_bytes(file.read(4), 'little')
    return 8 + length <= file.seek(0, os.SEEK_END)


def _top_boxes(file: BinaryIO, size: int) -> Iterator[Tuple[bytes, int]]:
    """Kinds and ends of the boxes of MP4, up to where none stands."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = struct.unpack('>I4s', header[:8])
        if length == 1 and len(header) == 16:
            length, = struct.unpack('>Q', header[8:])
        elif length == 0 and kind == b'mdat':
            length = size - position
        if length < 8 or not kind.isascii():
            return
        position += length
        yield kind, position
