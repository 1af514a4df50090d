"""What FFmpeg does not say about the containers of damaged videos."""

import os
import struct
from typing import Any, List

import av
from av.container import InputContainer
from av.stream import Disposition

from .reading_errors import UnreadableVideoError, WatchedFile

AVI = 'avi'
MATROSKA = 'matroska,webm'
MP4 = 'mov,mp4,m4a,3gp,3g2,mj2'
TRANSPORT_STREAM = 'mpegts'
# Of packets of transport streams: plain, with time codes, with checksums.
PACKET_SIZES = (188, 192, 204)


def open_container(file: Any, **options: str) -> InputContainer:
    """Open a file whose metadata may have any encoding, with FFmpeg's options.

    PyAV 19 always does so and no longer has the argument.
    """
    any_encoding = {} if int(av.__version__.split('.')[0]) >= 19 else dict(metadata_errors='replace')
    return av.open(file, options=options, **any_encoding)


def video_stream(container: InputContainer) -> av.VideoStream:
    """The first video track of a file, or an UnreadableVideoError."""
    for stream in container.streams.video:
        # The covers of music are tracks, too.
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise UnreadableVideoError('there is no decoder for it')
            return stream
    raise UnreadableVideoError('it has no video track')


def has_times_of_display(container: av.ContainerFormat, codec: av.CodecContext) -> bool:
    """Whether packets are timed by their display, not as in AVI by their decoding."""
    is_timed = container.name in (MP4, TRANSPORT_STREAM, 'mpeg', 'flv')
    # Tracks that came from AVI name the codec as AVI does, or are MPEG-4.
    is_timed |= container.name == MATROSKA and not codec.codec_tag.strip('\0')
    return not codec.has_b_frames or is_timed and codec.name != 'mpeg4'


def check_container(file: WatchedFile, container: InputContainer, num_packets: int, errors: List[tuple]) -> None:
    """Refuse a file, opened as the container, that contradicts itself.

    All packets of its video track were read and counted, with empty ones, and
    what FFmpeg has logged meanwhile are the errors.
    """
    name, stream = container.format.name, video_stream(container)
    for _, part, text in errors:
        # What decoders log is of frames, which are decoded later.
        if part == name or part not in av.codecs_available:
            raise UnreadableVideoError(text.strip())
    position, num_frames = file.tell(), stream.frames
    size = file.seek(0, os.SEEK_END)
    if name == TRANSPORT_STREAM and all(size % n for n in PACKET_SIZES):
        raise UnreadableVideoError('it ends within a packet')
    if name == MP4:
        if num_packets < num_frames:
            num_packets = _packets_before_edits(file)
        if _is_fragmented(file, size):
            # The header leaves out the fragments.
            num_frames = 0 if num_frames <= num_packets else num_frames
        elif not num_frames:
            raise UnreadableVideoError('its header has no frames')
    if name == AVI and num_packets < num_frames == stream.duration:
        file.seek(4)
        if 8 + int.from_bytes(file.read(4), 'little') <= size:
            # Its header counts chunks without content, too.
            num_frames = len(stream.index_entries)
    if num_frames and num_frames != num_packets:
        raise UnreadableVideoError(f'{num_packets} of its {num_frames} frames are found')
    # From where FFmpeg reads on.
    file.seek(position)


def _packets_before_edits(file: WatchedFile) -> int:
    """The packets of an MP4 file with those that its edit list leaves out."""
    file.seek(0)
    with open_container(file, ignore_editlist='1') as whole:
        packets = whole.demux(video_stream(whole))
        return sum(1 for packet in packets if packet.size)


def _is_fragmented(file: WatchedFile, size: int) -> bool:
    """Whether an MP4 file is made of fragments, all of which are whole."""
    is_fragmented, end = False, 0
    # From box to box, up to where none stands.
    while end + 8 <= size:
        file.seek(end)
        header = file.read(16)
        length, kind = struct.unpack('>I4s', header[:8])
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack('>Q', header[8:])
        elif length == 0 and kind == b'mdat':
            length = size - end
        if length < 8 or not kind.isascii():
            break
        end += length
        is_fragmented |= kind == b'moof'
        if end > size and kind in (b'moov', b'moof'):
            raise UnreadableVideoError(f'{end - size} bytes are missing at the end')
    if is_fragmented and end != size:
        raise UnreadableVideoError(f'the structure of the file breaks at byte {end}')
    return is_fragmented
