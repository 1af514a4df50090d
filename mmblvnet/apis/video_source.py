"""Frames of files and streams, one at a time."""
import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple

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
        num_dropped (int): Frames of a live stream before it that there was no
            time for. Defaults to 0.
        restarted (bool): Whether the source broke off before it and was
            opened again. Defaults to False.
    """
    until: float
    read: Callable[[], np.ndarray]
    num_dropped: int = 0
    restarted: bool = False


def is_live(source: str) -> bool:
    """Whether a source goes on whether it is read or not.

    Args:
        source (str): A file, an URL, the number of a camera, or ``'-'``.

    Returns:
        bool: True for cameras and for streams such as RTSP.
    """
    scheme, colon, _ = source.partition('://')
    return source.isdigit() or bool(colon) and scheme.lower() in LIVE_SCHEMES


def open_source(source: str,
                fps: Optional[float] = None,
                live: Optional[bool] = None) -> Iterator[Frame]:
    """The frames of a file or a stream, each decoded once.

    Args:
        source (str): A file, an URL, the number of a camera, or ``'-'`` for
            a video on standard input.
        fps (float, optional): Frames per second, where a file does not say
            them or says them wrongly. Live streams are timed by the clock.
            Defaults to None.
        live (bool, optional): Whether it goes on whether it is read or not.
            Defaults to None, which takes cameras and streams such as RTSP for
            live, and all else for files, on a server too.

    Returns:
        Iterator[Frame]: The frames.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be opened, is cut or broken, or has no frame
            rate.
        EOFError: Where a file breaks off.
    """
    if is_live(source) if live is None else live:
        return live_frames(_pictures(*_open_stream(source)), source)
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


def keep_open(source: str,
              wait: float,
              clock: Callable[[], float] = time.monotonic) -> Iterator[Frame]:
    """The frames of a live stream that is opened again whenever it ends.

    The times go on by the clock.

    Args:
        source (str): As for :func:`open_source`.
        wait (float): Seconds between two attempts.
        clock (Callable): Gives the time in seconds.

    Yields:
        Frame: The frames, without end.

    Raises:
        ValueError: If it cannot be opened the first time.
    """
    start, restarted = clock(), False
    frames = open_source(source, live=True)
    while True:
        opened = clock() - start
        try:
            for frame in frames:
                yield frame._replace(
                    until=opened + frame.until, restarted=restarted)
                restarted = False
        except EOFError as error:
            print(f'{error}. Opening it again.', file=sys.stderr)
        frames = None
        while frames is None:
            time.sleep(wait)
            with contextlib.suppress(ValueError):
                frames = open_source(source, live=True)
        restarted = True


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
                source: str = 'the stream',
                clock: Callable[[], float] = time.monotonic
                ) -> Iterator[Frame]:
    """The frames of a live stream, timed by their arrival.

    Frames that arrive while the caller is busy are dropped but for the last
    one, so that neither delay nor memory grow.

    Args:
        pictures (Iterator[np.ndarray]): Waits for the next picture.
        source (str): The stream, for the message.
        clock (Callable): Gives the time in seconds.

    Yields:
        Frame: The newest frame, until the stream ends.

    Raises:
        EOFError: Where the stream breaks off with an error.
    """
    latest = _Latest()
    reader = threading.Thread(
        target=_keep_reading, args=(pictures, latest, clock), daemon=True)
    start = clock()
    reader.start()
    while True:
        item, num_dropped = latest.take()
        if item is None:
            return
        if isinstance(item, Exception):
            raise EOFError(f'{source}: {item}') from item
        arrival, picture = item
        yield Frame(arrival - start, lambda: picture, num_dropped)


def _keep_reading(pictures: Iterator[np.ndarray], latest: '_Latest',
                  clock: Callable[[], float]) -> None:
    end = None
    try:
        for picture in pictures:
            latest.put((clock(), picture))
    except av.FFmpegError as error:
        end = error
    finally:
        latest.put(end)


class _Latest:
    """Room for one item, where a new one takes the place of the old one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items = []
        self._num_dropped = 0

    def put(self, item: Any) -> None:
        with self._changed:
            self._num_dropped += len(self._items)
            self._items = [item]
            self._changed.notify()

    def take(self) -> Tuple[Any, int]:
        """The item, and how many others it has taken the place of."""
        with self._changed:
            self._changed.wait_for(lambda: self._items)
            dropped, self._num_dropped = self._num_dropped, 0
            return self._items.pop(), dropped
