"""Checks of video containers for damage that FFmpeg does not report."""

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
# Bytes per packet of a transport stream: plain, with time codes, with parity.
PACKET_SIZES = (188, 192, 204)


def open_container(file: Any, **options: str) -> InputContainer:
    """Open a file with FFmpeg's options, accepting metadata in any text encoding.

    PyAV 19 always accepts it and no longer has the argument.
    """
    any_encoding = {} if int(av.__version__.split('.')[0]) >= 19 else dict(metadata_errors='replace')
    return av.open(file, options=options, **any_encoding)


def video_stream(container: InputContainer) -> av.VideoStream:
    """Return the first video stream of a container, or raise an UnreadableVideoError."""
    for stream in container.streams.video:
        # Cover art of audio files is a video stream, too.
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise UnreadableVideoError('FFmpeg has no decoder for its codec')
            return stream
    raise UnreadableVideoError('it has no video track')


def has_presentation_times(container: av.ContainerFormat, codec: av.CodecContext) -> bool:
    """Return whether packet timestamps are presentation times, not decoding times as in AVI."""
    has_pts = container.name in (MP4, TRANSPORT_STREAM, 'mpeg', 'flv')
    # Not those remuxed from AVI, which have AVI's codec tag or are MPEG-4.
    has_pts |= container.name == MATROSKA and not codec.codec_tag.strip('\0')
    return not codec.has_b_frames or has_pts and codec.name != 'mpeg4'


def check_container(file: WatchedFile, container: InputContainer, num_packets: int, errors: List[tuple]) -> None:
    """Raise an UnreadableVideoError for a truncated or inconsistent file.

    ``num_packets`` counts all packets of its video stream, empty ones too, and
    ``errors``, of :func:`errors_logged`, were logged while they were demuxed.
    """
    name, stream = container.format.name, video_stream(container)
    for _, component, text in errors:
        # Decoders' errors concern frames, which are checked when decoded.
        if component == name or component not in av.codecs_available:
            raise UnreadableVideoError(text.strip())
    position, num_frames = file.tell(), stream.frames
    size = file.seek(0, os.SEEK_END)
    if name == TRANSPORT_STREAM and all(size % n for n in PACKET_SIZES):
        raise UnreadableVideoError('it ends within a packet')
    if name == MP4:
        if num_packets < num_frames:
            num_packets = _packets_before_edits(file)
        if _is_fragmented(file, size):
            # The header does not count the frames in fragments.
            num_frames = 0 if num_frames <= num_packets else num_frames
        elif not num_frames:
            raise UnreadableVideoError('its header lists no frames')
    if name == AVI and num_packets < num_frames == stream.duration:
        file.seek(4)
        if 8 + int.from_bytes(file.read(4), 'little') <= size:
            # It is whole, but its header also counts chunks without content.
            num_frames = len(stream.index_entries)
    if num_frames and num_frames != num_packets:
        raise UnreadableVideoError(f'{num_packets} frames were found, but its header or index says {num_frames}')
    # FFmpeg continues to read from here.
    file.seek(position)


def _packets_before_edits(file: WatchedFile) -> int:
    """Count the packets of an MP4 file, including those that its edit list leaves out."""
    file.seek(0)
    with open_container(file, ignore_editlist='1') as whole:
        packets = whole.demux(video_stream(whole))
        return sum(1 for packet in packets if packet.size)


def _is_fragmented(file: WatchedFile, size: int) -> bool:
    """Return whether an MP4 file is fragmented; raise an UnreadableVideoError if it is cut off."""
    is_fragmented, end = False, 0
    # Step from box to box, up to the first invalid one.
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
        raise UnreadableVideoError(f'its structure is invalid from byte {end} on')
    return is_fragmented
