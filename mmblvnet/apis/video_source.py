"""Frames of files and streams, one at a time."""
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

from mmblvnet.datasets.containers import FrameCount, frame_counts
from mmblvnet.datasets.whole_videos import refuse_cut, refuse_other_count

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
        EOFError: At its end, if it gave another number of frames than it
            holds.
    """
    counts = _check_file(source) if _is_path(source) else None
    capture = _open_capture(source)
    if is_live(source):
        return live_frames(capture)
    fps = fps or capture.get(cv2.CAP_PROP_FPS)
    # 1000 is what FFmpeg takes for containers that count milliseconds.
    if not 0 < fps < 1000:
        raise ValueError(f'{source} does not say how many frames it has per '
                         'second: give --fps')
    return _all_frames(file_frames(capture, fps), source, counts)


def _is_path(source: str) -> bool:
    return not (source == '-' or source.isdigit() or '://' in source)


def _open_capture(source: str) -> cv2.VideoCapture:
    name: Union[str, int] = source
    if source == '-':
        name = 'pipe:0'
    elif source.isdigit():
        name = int(source)
    # Other backends take file names with a number for series of pictures.
    backend = cv2.CAP_ANY if isinstance(name, int) else cv2.CAP_FFMPEG
    capture = cv2.VideoCapture(name, backend)
    if not capture.isOpened():
        raise ValueError(f'{source} cannot be opened as a video')
    return capture


def _check_file(file: str) -> Optional[List[FrameCount]]:
    """How many frames a file holds, if that is known and it is whole."""
    if not Path(file).exists():
        raise FileNotFoundError(f'{file} does not exist')
    if not Path(file).is_file():
        return None
    try:
        refuse_cut(file)
        return frame_counts(file)
    except (EOFError, ValueError) as error:
        raise ValueError(f'{file}: {error}') from error


def _all_frames(frames: Iterator[Frame], file: str,
                counts: Optional[List[FrameCount]]) -> Iterator[Frame]:
    """The frames, and an error if they were not as many as the file holds."""
    count = 0
    for frame in frames:
        count += 1
        yield frame
    try:
        refuse_other_count(count, counts)
    except ValueError as error:
        raise EOFError(f'{file}: {error}') from error


def _picture(capture: cv2.VideoCapture) -> np.ndarray:
    return cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)


def file_frames(capture: cv2.VideoCapture, fps: float) -> Iterator[Frame]:
    """The frames of a file, timed by their number.

    Pictures that are not asked for are decoded, but not converted to RGB.

    Args:
        capture (cv2.VideoCapture): An opened file.
        fps (float): Its frames per second.

    Yields:
        Frame: Each frame.
    """
    count = 0
    while capture.grab():
        count += 1
        yield Frame(count / fps, lambda: _picture(capture))
    capture.release()


def live_frames(capture: cv2.VideoCapture,
                clock: Callable[[], float] = time.monotonic
                ) -> Iterator[Frame]:
    """The frames of a live stream, timed by their arrival.

    Frames that arrive while the caller is busy are dropped but for the last
    one, so that neither delay nor memory grow.

    Args:
        capture (cv2.VideoCapture): An opened stream.
        clock (Callable): Gives the time in seconds.

    Yields:
        Frame: The newest frame, until the stream ends.
    """
    latest = _Latest()
    reader = threading.Thread(
        target=_keep_reading, args=(capture, latest, clock), daemon=True)
    start = clock()
    reader.start()
    while True:
        item = latest.take()
        if item is None:
            return
        arrival, picture = item
        yield Frame(arrival - start, lambda: picture)


def _keep_reading(capture: cv2.VideoCapture, latest: '_Latest',
                  clock: Callable[[], float]) -> None:
    try:
        while capture.grab():
            latest.put((clock(), _picture(capture)))
    finally:
        latest.put(None)
        capture.release()


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
