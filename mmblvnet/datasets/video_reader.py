"""Exactly the frames that a video shows, decoded with PyAV."""

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

from .containers import TRANSPORT_STREAM, check_container, has_times_of_display, open_container, video_stream
from .reading_errors import UnreadableVideoError, WatchedFile, errors_logged

# Larger files are not read into memory, and so many packets are not kept but
# read again when they are wanted.
MAX_IN_MEMORY = 2**27
# Decoders allocate what headers say. No camera's pictures are larger than
# this, four times 8K.
MAX_PIXELS = 2**27
# Of MPEG-4 and its kin. That nothing has changed, or that the frame stands in
# the packet before, takes fewer bytes than any picture.
MPEG4_KIN = ('mpeg4', 'msmpeg4v3', 'h263', 'h263p', 'flv')
SMALLEST_PICTURE = 24
# Frames that others are decoded before, and shown after, are no more in a row;
# encoders of H.264 and HEVC allow as many B-frames.
LONGEST_DELAY = 16


class VideoReader:
    """Frames of a video file by their number, in the order of display.

    All packets are read first, and no frame but the first is decoded. Frames
    are found by the times of their packets, from the last key frame on; where
    times do not tell them, frames are decoded to count them.

    Args:
        file (str, Path, bytes or BinaryIO): A path, the content of a file, or
            a file object.

    Raises:
        UnreadableVideoError: If the content is no whole video.
        OSError: If the machine does not give the content.
    """

    _container: Optional[InputContainer] = None

    def __init__(self, file: Union[str, Path, bytes, BinaryIO]) -> None:
        self._file = WatchedFile(_open_file(file))
        self.picture = PictureMaker()
        with self._file.reading(is_new=True):
            with errors_logged() as errors:
                self._open()
                num_packets = self._scan()
            check_container(self._file, self._container, num_packets, errors)
            self._count()

    def _close(self) -> None:
        # Containers and their streams refer to each other.
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
            indices (Iterable[int]): Their numbers, from 0, in any order.

        Returns:
            list[np.ndarray]: The frames, upright, ``(H, W, 3)`` in RGB. All
            have the size of the video's first frame.

        Raises:
            IndexError: If a number is out of range.
            UnreadableVideoError: If a frame cannot be decoded.
        """
        indices = [int(index) for index in indices]
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f'frame {index}, counted from 0, is asked for, but there are {len(self)}')
        with self._file.reading():
            try:
                pictures = self._find(set(indices))
            except (av.FFmpegError, UnreadableVideoError):
                # Key frames may be none, or not all behind them may come at
                # once.
                self._starts.clear()
                pictures = self._find(set(indices))
        # Each its own, since some transforms change pictures in place.
        last = {index: place for place, index in enumerate(indices)}
        return [pictures[i] if last[i] == place else pictures[i].copy() for place, i in enumerate(indices)]

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode all frames in order, for ``picture``."""
        with self._file.reading():
            for _, frame in self._numbered(0, max(self._order)):
                yield frame

    def _open(self) -> None:
        self._close()
        self._file.seek(0)
        # Titles may be in any encoding.
        self._container = open_container(self._file, err_detect='explode')
        self._stream = video_stream(self._container)
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.options = dict(max_pixels=str(MAX_PIXELS))

    def _scan(self) -> int:
        """Learn from all packets what there is, and count them."""
        codec = self._stream.codec_context.name
        # Times of display and of decoding, and the size, by which packets of
        # which the content is gone are found again.
        self._packets: List[Tuple[Optional[int], Optional[int], int]] = []
        # With their content, or none if there is too much of it.
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
            num_bytes += packet.size
            if num_bytes <= MAX_IN_MEMORY:
                self._kept.append(packet)
            else:
                self._kept.clear()
        self._times = [pts for pts, *_ in self._packets]
        self._first_key = keys[0] if keys else len(self._packets)
        # Where decoding may start.
        self._starts = [n for n in keys if self._times[n] is not None]
        # Without the last one, which marks the end.
        return num_packets - 1

    def _count(self) -> None:
        """Count the frames that are shown, of which the first is decoded."""
        if not self._packets:
            raise UnreadableVideoError('it has no frames')
        times = [time for time in self._times if time is not None]
        in_order = sorted(range(len(times)), key=times.__getitem__)
        if any(place - number > LONGEST_DELAY for place, number in enumerate(in_order)):
            raise UnreadableVideoError('the times of its frames contradict their order')
        self._head: Optional[Iterator[av.VideoFrame]] = None
        frames = self._run(0)
        first = next(frames, None)
        if first is None:
            raise UnreadableVideoError('no frame of it can be decoded')
        self.picture.look_at(first)
        # Of each frame, where it is: its packet, or only its number.
        self._order: Union[List[int], range]
        self._has_times = self._do_times_tell(first)
        if not self._has_times:
            self._order = range(1 + sum(1 for _ in frames))
            self._starts.clear()
            return
        shown = [n for n, is_shown in enumerate(self._shown) if is_shown]
        shown.sort(key=self._times.__getitem__)
        # Videos may start between key frames.
        self._order = [n for n in shown if self._times[n] >= first.pts]
        begin = self._times[0] or 0
        if self._first_key == 0 and any(begin <= self._times[n] < first.pts for n in shown):
            raise UnreadableVideoError('its first frame cannot be decoded')
        self._index = {self._times[n]: i for i, n in enumerate(self._order)}
        self._head = chain([first], frames)

    def _do_times_tell(self, first: av.VideoFrame) -> bool:
        """Whether each frame is known by the time of its packet."""
        codec, container = self._stream.codec_context, self._container.format
        times = [time for time, is_shown in zip(self._times, self._shown) if is_shown]
        if None in times or first.pts not in times or len(set(times)) < len(times):
            return False
        if codec.name in MPEG4_KIN and any(size < SMALLEST_PICTURE for *_, size in self._packets):
            return False
        # The two fields of a frame may be packets.
        if container.name == TRANSPORT_STREAM and first.interlaced_frame:
            return False
        in_order = [time for time in self._times if time is not None]
        return has_times_of_display(container, codec) or in_order != sorted(in_order)

    def _find(self, indices: Set[int]) -> Dict[int, np.ndarray]:
        """Decode frames, each from the last key frame on."""
        last, pictures = {}, {}
        for place in sorted(self._order[index] for index in indices):
            last[self._start(place)] = place
        for start, end in sorted(last.items()):
            for index, frame in self._numbered(start, end):
                if index in indices:
                    pictures[index] = self.picture(frame)
        return pictures

    def _start(self, number: int) -> int:
        """From which packet on the frame of a packet is decoded."""
        for start in reversed(self._starts[: bisect_right(self._starts, number)]):
            # What is shown before a key frame may need what is before it.
            if self._times[start] <= self._times[number]:
                return start
        return 0

    def _numbered(self, start: int, last: int) -> Iterator[Tuple[int, av.VideoFrame]]:
        """Frames from a key frame on, with their numbers."""
        if not self._has_times:
            yield from enumerate(islice(self._run(0), last + 1))
            return
        first = self._times[self._order[0]]
        begin = max(first, self._times[start]) if start else first
        left = {self._times[n] for n in range(start, last + 1) if self._shown[n] and self._times[n] >= begin}
        is_first = True
        for frame in self._run(start, last):
            if frame.pts not in left:
                continue
            if start and is_first and not frame.key_frame:
                raise UnreadableVideoError('a key frame is none')
            is_first = False
            left.remove(frame.pts)
            yield self._index[frame.pts], frame
        if left:
            raise UnreadableVideoError(f'{len(left)} of its {len(self)} frames cannot be decoded')

    def _run(self, start: int, last: Optional[int] = None) -> Iterator[av.VideoFrame]:
        """Decode packets, and what the decoder holds back at the end."""
        self._last = last
        frames, self._head = self._head, None
        return frames if frames and start == 0 else self._decode(start)

    def _decode(self, start: int) -> Iterator[av.VideoFrame]:
        codec = self._stream.codec_context
        if codec.is_open:
            codec.flush_buffers()
        packets = self._kept[start:] or self._read_from(start)
        for number, packet in enumerate(packets, start):
            try:
                yield from codec.decode(packet)
            except av.InvalidDataError:
                # What stands before the first key frame needs what is cut off.
                if number >= self._first_key:
                    raise
            if number == self._last:
                break
        yield from codec.decode(None)

    def _read_from(self, start: int) -> Iterator[av.Packet]:
        """The packets from one on, read again."""
        pts, dts, _ = wanted = self._packets[start]
        if dts is not None:
            with contextlib.suppress(av.FFmpegError):
                self._container.seek(dts if pts is None else min(pts, dts), stream=self._stream)
            packets = self._read()
            for packet in packets:
                if (packet.pts, packet.dts, packet.size) == wanted:
                    return chain([packet], packets)
        # From the beginning, where seeking does not lead there.
        self._open()
        return islice(self._read(), start, None)

    def _read(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        return (packet for packet in packets if packet.size)


def _open_file(file: Union[str, Path, bytes, BinaryIO]) -> BinaryIO:
    """A file object that can seek, in memory if it is small."""
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
    """Whether a packet shows a frame; some of VP8, VP9 only serve others."""
    header = data[0]
    if codec == 'vp8':
        # show_frame (RFC 6386, section 9.1)
        return bool(header & 0x10)
    if codec == 'vp9' and data[-1] & 0xE0 != 0xC0:
        # No superframe, which shows its last one. show_existing_frame and
        # show_frame (VP9 Bitstream Specification, section 6.2), before which
        # profile 3 has a bit more.
        return bool((header if header & 0x30 == 0x30 else header >> 1) & 5)
    return True


class PictureMaker:
    """Makes pictures of frames, in the size and orientation of the first."""

    def __init__(self) -> None:
        # The scaler that frame.to_ndarray keeps for each thread hangs in
        # forked processes (https://github.com/PyAV-Org/PyAV/pull/2379).
        self._reformatter = VideoReformatter()
        self._size: Optional[Tuple[int, int]] = None

    def look_at(self, first: av.VideoFrame) -> None:
        self._size = first.width, first.height
        matrix = first.side_data.get('DISPLAYMATRIX')
        self._matrix = None if matrix is None else np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """What a frame shows, upright, ``(H, W, 3)`` in RGB."""
        if self._size is None:
            self.look_at(frame)
        frame = self._reformatter.reformat(frame, *self._size, 'rgb24', threads=1)
        return upright(frame.to_ndarray(), self._matrix)


def upright(pixels: np.ndarray, matrix: Optional[np.ndarray]) -> np.ndarray:
    """Turn and mirror a picture as FFmpeg's display matrix, ``(3, 3)``, says.

    By multiples of 90 degrees.
    """
    if matrix is None:
        return pixels
    (a, b), (c, d) = matrix[:2, :2]
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
