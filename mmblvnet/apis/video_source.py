"""Frames of files and streams, one at a time."""
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

import av
import numpy as np

from mmblvnet.datasets.reading_errors import UnreadableVideoError
from mmblvnet.datasets.video_reader import (PictureMaker, VideoReader,
                                            video_stream)

LIVE_SCHEMES = ('rtsp', 'rtsps', 'rtmp', 'rtp', 'udp', 'srt')


class Frame(NamedTuple):
    """A frame that was decoded.

    Args:
        until (float): The frame is what there is to see from where the frame
            before it ends until this time, in seconds from the start.
        read (Callable): Gives the picture, ``(H, W, 3)`` in RGB. Only for as
            long as no later frame has been asked for.
    """
    until: float
    read: Callable[[], np.ndarray]


def is_live(source: str) -> bool:
    """Whether a source goes on whether it is read or not.

    Args:
        source (str): A file, an URL, the number of a camera, or ``'-'``.

    Returns:
        bool: True for cameras and for streams such as RTSP.
    """
    scheme, colon, _ = source.partition('://')
    return source.isdigit() or bool(colon) and scheme.lower() in LIVE_SCHEMES


def open_source(source: str, fps: Optional[float] = None) -> Iterator[Frame]:
    """The frames of a file or a stream, each decoded once.

    Args:
        source (str): A file, an URL, the number of a camera, or ``'-'`` for
            a video on standard input.
        fps (float, optional): Frames per second, where a file does not say
            them or says them wrongly. Live streams are timed by the clock.
            Defaults to None.

    Returns:
        Iterator[Frame]: The frames.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be opened, is cut or broken, or has no frame
            rate.
        EOFError: Where a file breaks off.
    """
    if is_live(source):
        return live_frames(_pictures(*_open_stream(source)))
    try:
        if _is_stream(source):
            container, stream = _open_stream(source)
            own_fps = float(stream.average_rate or 0)
            frames, picture = container.decode(stream), PictureMaker()
        else:
            reader = VideoReader(source)
            own_fps, picture = reader.avg_fps, reader.picture
            frames = reader.frames()
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{source} does not exist') from error
    except UnreadableVideoError as error:
        raise ValueError(
            f'{source} cannot be opened as a video: {error}') from error
    fps = fps or own_fps
    # 1000 is what FFmpeg takes for containers that count milliseconds.
    if not 0 < fps < 1000:
        raise ValueError(f'{source} does not say how many frames it has per '
                         'second: give --fps')
    return file_frames(frames, picture, fps, source)


def _is_stream(source: str) -> bool:
    return source == '-' or '://' in source or (
        Path(source).exists() and not Path(source).is_file())


def _open_stream(
        source: str) -> Tuple[av.container.InputContainer, av.VideoStream]:
    name, driver = source, None
    if source == '-':
        name = 'pipe:0'
    elif source.isdigit():
        # PyAV's wheels know the cameras of Linux.
        name, driver = f'/dev/video{source}', 'v4l2'
    try:
        container = av.open(name, format=driver)
        return container, video_stream(container)
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(
            f'{source} cannot be opened as a video: {error}') from error


def _pictures(container: av.container.InputContainer,
              stream: av.VideoStream) -> Iterator[np.ndarray]:
    """The pictures of a live stream, in which packets may get lost."""
    picture = PictureMaker()
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except (av.InvalidDataError, av.EOFError):
            continue
        yield from map(picture, frames)


def file_frames(frames: Iterator[av.VideoFrame],
                picture: Callable[[av.VideoFrame], np.ndarray], fps: float,
                source: str) -> Iterator[Frame]:
    """The frames of a file, timed by their number.

    Pictures that are not asked for are decoded, but not converted to RGB.

    Args:
        frames (Iterator[av.VideoFrame]): Its frames.
        picture (Callable): Converts a frame.
        fps (float): Frames per second.
        source (str): The file, for the message.

    Yields:
        Frame: Each frame.

    Raises:
        EOFError: Where the file breaks off.
    """
    try:
        for number, frame in enumerate(frames, 1):
            yield Frame(number / fps, lambda: picture(frame))
    except (av.FFmpegError, UnreadableVideoError) as error:
        raise EOFError(f'{source}: {error}') from error


def live_frames(pictures: Iterator[np.ndarray],
                clock: Callable[[], float] = time.monotonic
                ) -> Iterator[Frame]:
    """The frames of a live stream, timed by their arrival.

    Frames that arrive while the caller is busy are dropped but for the last
    one, so that neither delay nor memory grow.

    Args:
        pictures (Iterator[np.ndarray]): Waits for the next picture.
        clock (Callable): Gives the time in seconds.

    Yields:
        Frame: The newest frame, until the stream ends.
    """
    latest = _Latest()
    reader = threading.Thread(
        target=_keep_reading, args=(pictures, latest, clock), daemon=True)
    start = clock()
    reader.start()
    while True:
        item = latest.take()
        if item is None:
            return
        arrival, picture = item
        yield Frame(arrival - start, lambda: picture)


def _keep_reading(pictures: Iterator[np.ndarray], latest: '_Latest',
                  clock: Callable[[], float]) -> None:
    try:
        for picture in pictures:
            latest.put((clock(), picture))
    finally:
        latest.put(None)


class _Latest:
    """Room for one item, where a new one takes the place of the old one."""

    def __init__(self) -> None:
        self._item: Optional[Tuple[float, np.ndarray]] = None
        self._fresh = threading.Event()

    def put(self, item: Optional[Tuple[float, np.ndarray]]) -> None:
        self._item = item
        self._fresh.set()

    def take(self) -> Optional[Tuple[float, np.ndarray]]:
        self._fresh.wait()
        self._fresh.clear()
        return self._item
