"""Exactly the frames that a video shows, decoded with PyAV."""
import io
import math
import os
from bisect import bisect_right
from itertools import chain, groupby, islice
from pathlib import Path
from typing import (BinaryIO, Dict, Iterable, Iterator, List, Optional, Tuple,
                    Union)

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from .containers import (AVI, MP4, TRANSPORT_STREAM, problem_with,
                         riff_is_whole)
from .reading_errors import (UnreadableVideoError, WatchedFile, errors_logged,
                             reading)

# Packets are kept in memory up to so many bytes; those of longer files are
# read again when they are wanted.
MAX_KEPT = 2**27
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
# Containers that have the times of display of all frames.
TIMED = (MP4, TRANSPORT_STREAM, 'mpeg', 'flv')
MATROSKA = 'matroska,webm'


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

    def __init__(self, file: Union[str, Path, bytes, BinaryIO]) -> None:
        self._container: Optional[av.container.InputContainer] = None
        self._file = WatchedFile(_open_file(file))
        self.picture = PictureMaker()
        with reading(self._file, is_new=True):
            with errors_logged() as errors:
                self._open()
                self._scan()
            self._check_container(errors)
            self._count()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        # Containers and their streams refer to each other.
        if self._container is not None:
            self._container.close()

    def __len__(self) -> int:
        return self._num_frames

    @property
    def avg_fps(self) -> float:
        """Frames per second on average, 0 where it is not known."""
        return float(self._stream.average_rate
                     or self._stream.guessed_rate or 0)

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
                raise IndexError(f'frame {index}, counted from 0, is asked '
                                 f'for, but there are {len(self)}')
        with reading(self._file):
            find = self._find_by_time if self._has_times else self._count_to
            pictures = find(sorted(set(indices)))
        # Each its own, since some transforms change pictures in place.
        last = {index: place for place, index in enumerate(indices)}
        return [
            pictures[index] if last[index] == place else
            pictures[index].copy() for place, index in enumerate(indices)
        ]

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode all frames in order, for ``picture``."""
        if self._has_times:
            numbered = self._matched(0, len(self._times) - 1)
            frames = (frame for _, frame in numbered)
        else:
            frames = self._run(0)
        while True:
            with reading(self._file):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _open(self) -> None:
        self._close()
        self._file.seek(0)
        # Titles may be in any encoding.
        self._container = av.open(
            self._file, options=dict(err_detect='explode'),
            metadata_errors='replace')
        self._stream = video_stream(self._container)
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.options = dict(max_pixels=str(MAX_PIXELS))

    def _scan(self) -> None:
        """Learn from all packets what there is."""
        codec, num_bytes = self._stream.codec_context.name, 0
        # Of each packet; of it, time and what else tells it from others.
        self._times, self._marks, self._is_shown = [], [], []
        # The key frames, where decoding may start.
        self._starts: List[int] = []
        self._first_key, self._has_times = math.inf, True
        self._packets: Optional[List[av.Packet]] = []
        for number, packet in enumerate(self._read()):
            if packet.is_corrupt:
                raise UnreadableVideoError(
                    f'bytes are missing or wrong before byte {packet.pos}')
            self._times.append(packet.pts)
            self._marks.append((packet.pts, packet.dts, packet.size))
            self._is_shown.append(
                not packet.is_discard and _is_shown(codec, memoryview(packet)))
            if codec in MPEG4_KIN and packet.size < SMALLEST_PICTURE:
                # Only decoding tells which frames there are.
                self._has_times = False
            if packet.is_keyframe:
                self._first_key = min(self._first_key, number)
                if packet.pts is not None:
                    self._starts.append(number)
            num_bytes += packet.size
            if num_bytes > MAX_KEPT:
                self._packets = None
            if self._packets is not None:
                self._packets.append(packet)

    def _check_container(self, errors: List[tuple]) -> None:
        container = self._container.format.name
        for _, part, text in errors:
            # What decoders log is of frames, which are decoded later.
            if part == container or part not in av.codecs_available:
                raise UnreadableVideoError(text.strip())
        num_frames, num_packets = self._stream.frames, self._num_packets
        if container == MP4 and num_packets < num_frames:
            # With those that an edit list leaves out.
            self._file.seek(0)
            with av.open(
                    self._file, options=dict(ignore_editlist='1'),
                    metadata_errors='replace') as whole:
                packets = whole.demux(video_stream(whole))
                num_packets = sum(1 for packet in packets if packet.size)
        if (container == AVI and num_packets < num_frames and
                self._stream.duration == num_frames
                and riff_is_whole(self._file)):  # type: ignore[arg-type]
            # Its header counts chunks without content, too.
            num_frames = len(self._stream.index_entries)
        problem = problem_with(
            self._file,  # type: ignore[arg-type]
            container, num_frames, num_packets)
        if problem:
            raise UnreadableVideoError(problem)
        times = [time for time in self._times if time is not None]
        in_order = sorted(range(len(times)), key=times.__getitem__)
        if any(place - number > LONGEST_DELAY
               for place, number in enumerate(in_order)):
            raise UnreadableVideoError(
                'the times of its frames contradict their order')

    def _read(self) -> Iterator[av.Packet]:
        """The packets from where the file has been read to."""
        # Empty ones show no frame, or mark the end.
        self._num_packets = -1
        for packet in self._container.demux(self._stream):
            self._num_packets += 1
            if packet.size:
                yield packet

    def _count(self) -> None:
        """Count the frames that are shown, of which the first is decoded."""
        self._head: Optional[Iterator[av.VideoFrame]] = None
        self._last: Optional[int] = None
        frames = self._run(0)
        first = next(frames, None)
        if first is None:
            raise UnreadableVideoError('no frame of it can be decoded')
        self.picture.look_at(first)
        shown = [n for n, is_shown in enumerate(self._is_shown) if is_shown]
        times = {self._times[n] for n in shown}
        self._has_times &= len(times) == len(shown) and first.pts in times
        # In transport streams the two fields of a frame may be packets.
        are_fields = (first.interlaced_frame
                      and self._container.format.name == TRANSPORT_STREAM)
        if (None in times or not self._has_times or are_fields
                or self._are_of_decoding()):
            self._has_times = False
            self._num_frames = 1 + sum(1 for _ in frames)
            return
        begin = self._times[0] or 0
        for number in shown:
            # Videos may start between key frames.
            self._is_shown[number] = self._times[number] >= first.pts
            if self._first_key == 0 and (begin <= self._times[number] <
                                         first.pts):
                raise UnreadableVideoError('its first frame cannot be decoded')
        self._order = [n for n in shown if self._is_shown[n]]
        self._order.sort(key=self._times.__getitem__)
        self._num_frames = len(self._order)
        self._head = chain([first], frames)

    def _are_of_decoding(self) -> bool:
        """Whether times are those of decoding; AVI has no others."""
        codec, container = self._stream.codec_context, self._container.format
        if not codec.has_b_frames:
            return False
        # Tracks that came from AVI name the codec as AVI does, or are MPEG-4.
        is_timed = container.name in TIMED or (
            container.name == MATROSKA and not codec.codec_tag.strip('\0'))
        if is_timed and codec.name != 'mpeg4':
            return False
        times = [time for time in self._times if time is not None]
        return times == sorted(times)

    def _find_by_time(self, indices: List[int]) -> Dict[int, np.ndarray]:
        """Decode frames from the last key frames on."""
        try:
            return self._find(indices)
        except (av.FFmpegError, UnreadableVideoError):
            # Key frames may be none, or not all behind them may come at once.
            self._starts.clear()
            return self._find(indices)

    def _find(self, indices: List[int]) -> Dict[int, np.ndarray]:
        index_of = {self._order[index]: index for index in indices}
        pictures = {}
        numbers = sorted((self._start(n), n) for n in index_of)
        for start, group in groupby(numbers, lambda pair: pair[0]):
            last = [number for _, number in group][-1]
            for number, frame in self._matched(start, last):
                if number in index_of:
                    pictures[index_of[number]] = self.picture(frame)
        return pictures

    def _start(self, number: int) -> int:
        """From which packet on the frame of a packet is decoded."""
        for start in reversed(self._starts[:bisect_right(self._starts,
                                                         number)]):
            # What is shown before a key frame may need what is before it.
            if self._times[start] <= self._times[number]:
                return start
        return 0

    def _matched(self, start: int,
                 last: int) -> Iterator[Tuple[int, av.VideoFrame]]:
        """All frames from a key frame on, with their packets' numbers."""
        left = {
            self._times[n]: n for n in range(start, last + 1)
            if self._is_shown[n] and
            (start == 0 or self._times[n] >= self._times[start])
        }
        is_first = True
        for frame in self._run(start, last):
            number = left.pop(frame.pts, None)
            if number is None:
                continue
            if start and is_first and not frame.key_frame:
                raise UnreadableVideoError('a key frame is none')
            is_first = False
            yield number, frame
        if left:
            raise UnreadableVideoError(
                f'{len(left)} of its {len(self)} frames cannot be decoded')

    def _count_to(self, indices: List[int]) -> Dict[int, np.ndarray]:
        """Decode frames from the first one on."""
        frames = islice(self._run(0), indices[-1] + 1) if indices else ()
        wanted = set(indices)
        return {
            index: self.picture(frame)
            for index, frame in enumerate(frames) if index in wanted
        }

    def _run(self, start: int,
             last: Optional[int] = None) -> Iterator[av.VideoFrame]:
        """Decode packets, and what the decoder holds back at the end."""
        self._last = last
        if start == 0 and self._head:
            frames, self._head = self._head, None
            return frames
        self._head = None
        return self._decode(start)

    def _decode(self, start: int) -> Iterator[av.VideoFrame]:
        packets = self._packets
        packets = packets[start:] if packets else self._read_from(start)
        codec = self._stream.codec_context
        if codec.is_open:
            codec.flush_buffers()
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
        """The packets of a long file from one on."""
        if start:
            time, mark, size = self._marks[start]
            target = time if mark is None else min(time, mark)
            self._container.seek(target, stream=self._stream)
            packets = self._read()
            for packet in packets:
                if (packet.pts, packet.dts, packet.size) == (time, mark, size):
                    return chain([packet], packets)
            # From the beginning, where seeking does not lead there.
        self._open()
        return islice(self._read(), start, None)


def _open_file(file: Union[str, Path, bytes, BinaryIO]) -> BinaryIO:
    """A file object that can seek, in memory if it is small."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return io.BytesIO(file)
    if isinstance(file, (str, Path)):
        opened = open(file, 'rb')
        if os.fstat(opened.fileno()).st_size > MAX_KEPT:
            return opened
        with opened:
            return io.BytesIO(opened.read())
    return file if file.seekable() else io.BytesIO(file.read())


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first video track of a file, or an UnreadableVideoError."""
    for stream in container.streams.video:
        # The covers of music are tracks, too.
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise UnreadableVideoError('there is no decoder for it')
            return stream
    raise UnreadableVideoError('it has no video track')


def _is_shown(codec: str, data: memoryview) -> bool:
    """Whether a packet shows a frame; some of VP8, VP9 only serve others."""
    header = data[0]
    if codec == 'vp8':
        # show_frame (RFC 6386, section 9.1)
        return bool(header & 0x10)
    if codec == 'vp9' and data[-1] & 0xe0 != 0xc0:
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
        self._matrix = None if matrix is None else np.frombuffer(
            bytes(matrix), np.int32).reshape(3, 3)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """What a frame shows, upright, ``(H, W, 3)`` in RGB."""
        if self._size is None:
            self.look_at(frame)
        frame = self._reformatter.reformat(frame, *self._size, 'rgb24',
                                           threads=1)
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
    return np.ascontiguousarray(pixels[::-1 if d < 0 else 1,
                                       ::-1 if a < 0 else 1])
