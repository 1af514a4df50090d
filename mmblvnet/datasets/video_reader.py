"""Exact random access to the frames that a video shows, with PyAV."""

import contextlib
import io
import os
from bisect import bisect_right
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from .containers import TRANSPORT_STREAM, check_container, has_presentation_times, open_container, video_stream
from .reading_errors import UnreadableVideoError, WatchedFile, errors_logged

# Bytes. Larger files are not read into memory.
MAX_IN_MEMORY = 2**27
# Bytes of all packets, each with what PyAV takes for it besides its content.
# More packets are not kept, but demuxed again when they are needed.
MAX_KEPT, PACKET_BYTES = 2**24, 2**10
# Decoders allocate pictures of the size that a header claims. No camera's are
# larger than this, four times 8K.
MAX_PIXELS = 2**27
# Codecs of the MPEG-4 family, whose packets of fewer bytes than this hold no
# picture: it is unchanged, or came with the packet before (packed bitstream).
MPEG4_FAMILY = ('mpeg4', 'msmpeg4v3', 'h263', 'h263p', 'flv')
MIN_PICTURE_BYTES = 24
# The most frames that may be decoded after a frame but shown before it:
# encoders of H.264 and HEVC allow 16 B-frames in a row.
MAX_REORDERING = 16


class VideoReader:
    """Random access to the frames of a video file, by index in presentation order.

    Opening demuxes all packets, but decodes only the first frame. Frames are
    found by their packets' timestamps and decoded from the last key frame on;
    where timestamps are missing or ambiguous, opening decodes and counts all.

    Args:
        file (str, Path, bytes or BinaryIO): A path, the content of a file, or
            a file object.

    Raises:
        UnreadableVideoError: If the content is not a complete video.
        OSError: If reading fails for a reason other than the content.
    """

    _container: Optional[InputContainer] = None

    def __init__(self, file: Union[str, Path, bytes, BinaryIO]) -> None:
        self._file = WatchedFile(_open_file(file))
        self.to_rgb = FrameConverter()
        with self._file.reading(is_new=True):
            with errors_logged() as errors:
                self._open()
                num_packets = self._scan()
            check_container(self._file, self._container, num_packets, errors)
            self._index_frames()

    def _close(self) -> None:
        # A reference cycle with its streams would keep the container open.
        if self._container is not None:
            self._container.close()

    __del__ = _close

    def __len__(self) -> int:
        return len(self._order)

    @property
    def avg_fps(self) -> float:
        """Frames per second on average, 0 where it is not known."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    def get_batch(self, indices: Iterable[int]) -> List[np.ndarray]:
        """Decode frames.

        Args:
            indices (Iterable[int]): Their indices from 0, in any order.

        Returns:
            list[np.ndarray]: The frames, upright, ``(H, W, 3)`` in RGB, uint8.
            All have the size of the video's first frame.

        Raises:
            IndexError: If an index is out of range.
            UnreadableVideoError: If a frame cannot be decoded.
        """
        indices = [int(index) for index in indices]
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f'frame {index} is out of range: the video has {len(self)} frames, counted from 0')
        with self._file.reading():
            try:
                pictures = self._decode_pictures(set(indices))
            except (av.FFmpegError, UnreadableVideoError):
                # A packet may be wrongly marked as a key frame, or frames after
                # it may need earlier packets: decode from the beginning.
                self._starts.clear()
                pictures = self._decode_pictures(set(indices))
        # Repeated frames are copied: some transforms change pictures in place.
        last = {index: place for place, index in enumerate(indices)}
        return [pictures[i] if last[i] == place else pictures[i].copy() for place, i in enumerate(indices)]

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode all frames in presentation order; ``to_rgb`` converts them to RGB."""
        with self._file.reading():
            for _, frame in self._decode_indexed(0, max(self._order)):
                yield frame

    def _open(self) -> None:
        self._close()
        self._file.seek(0)
        # With "explode", FFmpeg reports damage instead of concealing it.
        self._container = open_container(self._file, err_detect='explode')
        self._stream = video_stream(self._container)
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.options = dict(max_pixels=str(MAX_PIXELS))

    def _scan(self) -> int:
        """Demux all packets, record their timestamps and flags, and return their number."""
        codec = self._stream.codec_context.name
        # PTS, DTS and size in bytes, by which packets that were not kept are
        # found again.
        self._packets: List[Tuple[Optional[int], Optional[int], int]] = []
        # The packets themselves, or none if they exceed MAX_KEPT.
        self._kept: List[av.Packet] = []
        self._shown: List[bool] = []
        keys = []
        num_packets = num_bytes = 0
        for packet in self._container.demux(self._stream):
            num_packets += 1
            if not packet.size:
                continue
            if packet.is_corrupt:
                raise UnreadableVideoError(f'bytes are missing or wrong before byte {packet.pos}')
            if packet.is_keyframe:
                keys.append(len(self._packets))
            self._packets.append((packet.pts, packet.dts, packet.size))
            self._shown.append(not packet.is_discard and _is_shown(codec, memoryview(packet)))
            num_bytes += packet.size + PACKET_BYTES
            if num_bytes <= MAX_KEPT:
                self._kept.append(packet)
            else:
                self._kept.clear()
        self._pts = [pts for pts, *_ in self._packets]
        self._first_key = keys[0] if keys else len(self._packets)
        # Key frames from which decoding may start.
        self._starts = [n for n in keys if self._pts[n] is not None]
        # Without the empty one at the end, which flushes the decoder.
        return num_packets - 1

    def _index_frames(self) -> None:
        """Number the frames that are shown in presentation order, and decode the first."""
        if not self._packets:
            raise UnreadableVideoError('it has no frames')
        times = [time for time in self._pts if time is not None]
        in_order = sorted(range(len(times)), key=times.__getitem__)
        if any(place - number > MAX_REORDERING for place, number in enumerate(in_order)):
            raise UnreadableVideoError(f'its timestamps reorder frames by more than {MAX_REORDERING} places')
        self._head: Optional[Iterator[av.VideoFrame]] = None
        frames = self._decode(0)
        first = next(frames, None)
        if first is None:
            raise UnreadableVideoError('none of its frames can be decoded')
        self.to_rgb.configure_from(first)
        # Each frame's packet or, without usable timestamps, its own number.
        self._order: Union[List[int], range]
        self._uses_timestamps = self._timestamps_identify_frames(first)
        if not self._uses_timestamps:
            self._order = range(1 + sum(1 for _ in frames))
            self._starts.clear()
            return
        shown = [n for n, is_shown in enumerate(self._shown) if is_shown]
        shown.sort(key=self._pts.__getitem__)
        # Videos may start between key frames: skip what cannot be decoded.
        self._order = [n for n in shown if self._pts[n] >= first.pts]
        begin = self._pts[0] or 0
        if self._first_key == 0 and any(begin <= self._pts[n] < first.pts for n in shown):
            raise UnreadableVideoError('its first frame cannot be decoded')
        self._index = {self._pts[n]: i for i, n in enumerate(self._order)}
        self._head = chain([first], frames)

    def _timestamps_identify_frames(self, first: av.VideoFrame) -> bool:
        """Return whether the timestamps of packets identify the frames."""
        codec, container = self._stream.codec_context, self._container.format
        times = [time for time, is_shown in zip(self._pts, self._shown) if is_shown]
        if None in times or first.pts not in times or len(set(times)) < len(times):
            return False
        if codec.name in MPEG4_FAMILY and any(size < MIN_PICTURE_BYTES for *_, size in self._packets):
            return False
        # The two fields of an interlaced frame may be separate packets.
        if container.name == TRANSPORT_STREAM and first.interlaced_frame:
            return False
        in_order = [time for time in self._pts if time is not None]
        return has_presentation_times(container, codec) or in_order != sorted(in_order)

    def _decode_pictures(self, indices: Set[int]) -> Dict[int, np.ndarray]:
        """Decode frames to pictures by index, each from the last key frame on."""
        last, pictures = {}, {}
        for place in sorted(self._order[index] for index in indices):
            last[self._start_packet(place)] = place
        for start, end in sorted(last.items()):
            for index, frame in self._decode_indexed(start, end):
                if index in indices:
                    pictures[index] = self.to_rgb(frame)
        return pictures

    def _start_packet(self, number: int) -> int:
        """Return the packet from which on to decode for the frame of a packet."""
        for start in reversed(self._starts[: bisect_right(self._starts, number)]):
            # Frames shown before a key frame may need earlier ones (open GOP).
            if self._pts[start] <= self._pts[number]:
                return start
        return 0

    def _decode_indexed(self, start: int, last: int) -> Iterator[Tuple[int, av.VideoFrame]]:
        """Decode from the packet ``start`` to ``last``, an item of ``_order``; yield frames with their indices."""
        if not self._uses_timestamps:
            yield from enumerate(islice(self._decode(0), last + 1))
            return
        first = self._pts[self._order[0]]
        begin = max(first, self._pts[start]) if start else first
        left = {self._pts[n] for n in range(start, last + 1) if self._shown[n] and self._pts[n] >= begin}
        is_first = True
        for frame in self._decode(start, last):
            if frame.pts not in left:
                continue
            if start and is_first and not frame.key_frame:
                raise UnreadableVideoError('a packet marked as a key frame does not hold one')
            is_first = False
            left.remove(frame.pts)
            yield self._index[frame.pts], frame
        if left:
            raise UnreadableVideoError(f'{len(left)} of its {len(self)} frames cannot be decoded')

    def _decode(self, start: int, last: Optional[int] = None) -> Iterator[av.VideoFrame]:
        """Decode from the packet ``start`` to ``last``, by default to the end, and flush the decoder."""
        # An attribute, since _index_frames has begun the iterator continued here.
        self._last = last
        frames, self._head = self._head, None
        return frames if frames and start == 0 else self._decode_from(start)

    def _decode_from(self, start: int) -> Iterator[av.VideoFrame]:
        codec = self._stream.codec_context
        if codec.is_open:
            codec.flush_buffers()
        packets = self._kept[start:] or self._demux_from(start)
        for number, packet in enumerate(packets, start):
            try:
                yield from codec.decode(packet)
            except av.InvalidDataError:
                # Before the first key frame, frames need what was cut off.
                if number >= self._first_key:
                    raise
            if number == self._last:
                break
        yield from codec.decode(None)

    def _demux_from(self, start: int) -> Iterator[av.Packet]:
        """Demux the packets from the number ``start`` on again."""
        pts, dts, _ = wanted = self._packets[start]
        if dts is not None:
            with contextlib.suppress(av.FFmpegError):
                self._container.seek(dts if pts is None else min(pts, dts), stream=self._stream)
            packets = self._demux()
            for packet in packets:
                if (packet.pts, packet.dts, packet.size) == wanted:
                    return chain([packet], packets)
        # Seeking has not led to the packet: count from the beginning.
        self._open()
        return islice(self._demux(), start, None)

    def _demux(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        return (packet for packet in packets if packet.size)


def _open_file(file: Union[str, Path, bytes, BinaryIO]) -> BinaryIO:
    """Return a seekable file object, in memory if the file is small."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return io.BytesIO(file)
    if isinstance(file, (str, Path)):
        opened = open(file, 'rb')
        if os.fstat(opened.fileno()).st_size > MAX_IN_MEMORY:
            return opened
        with opened:
            return io.BytesIO(opened.read())
    return file if file.seekable() else io.BytesIO(file.read())


def _is_shown(codec: str, data: memoryview) -> bool:
    """Return whether a packet shows a frame; VP8 and VP9 have hidden reference frames."""
    header = data[0]
    if codec == 'vp8':
        # show_frame (RFC 6386, section 9.1)
        return bool(header & 0x10)
    if codec == 'vp9' and data[-1] & 0xE0 != 0xC0:
        # Not a superframe, which shows its last frame. show_existing_frame and
        # show_frame (VP9 Bitstream Specification, section 6.2) come one bit
        # later in profile 3.
        return bool((header if header & 0x30 == 0x30 else header >> 1) & 5)
    return True


class FrameConverter:
    """Converter of frames to RGB pictures in the size and orientation of the first frame."""

    def __init__(self) -> None:
        # The scaler that frame.to_ndarray keeps for each thread hangs in
        # forked processes (https://github.com/PyAV-Org/PyAV/pull/2379).
        self._reformatter = VideoReformatter()
        self._size: Optional[Tuple[int, int]] = None

    def configure_from(self, first: av.VideoFrame) -> None:
        self._size = first.width, first.height
        matrix = first.side_data.get('DISPLAYMATRIX')
        self._matrix = None if matrix is None else np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame to an upright picture, ``(H, W, 3)`` in RGB, uint8."""
        if self._size is None:
            self.configure_from(frame)
        frame = self._reformatter.reformat(frame, *self._size, 'rgb24', threads=1)
        return upright(frame.to_ndarray(), self._matrix)


def upright(pixels: np.ndarray, matrix: Optional[np.ndarray]) -> np.ndarray:
    """Mirror a picture and rotate it by multiples of 90 degrees, as FFmpeg's ``(3, 3)`` matrix says."""
    if matrix is None:
        return pixels
    (a, b), (c, d) = matrix[:2, :2]
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
