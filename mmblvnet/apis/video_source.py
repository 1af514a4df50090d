"""Video files, and their frames and those of streams, one at a time."""

import contextlib
import itertools
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional

import av
import numpy as np

from mmblvnet.datasets.containers import open_container, video_stream
from mmblvnet.datasets.reading_errors import UnreadableVideoError
from mmblvnet.datasets.video_reader import PictureMaker, VideoReader

LIVE_URLS = ('rtsp://', 'rtsps://', 'rtmp://', 'rtp://', 'udp://', 'srt://')
VIDEO_SUFFIXES = tuple('.3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogg .ogv .ts .webm .wmv'.split())


def is_hidden(path: Path) -> bool:
    """Whether a file is none of the user's: ``._clip.mp4`` and the like."""
    return path.name.startswith('.')


def videos_in(folder: Path) -> List[Path]:
    """All videos in a folder and in the folders in it, in order.

    Links to folders are followed; what is hidden is left out.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if is_hidden(path):
            continue
        if path.is_dir():
            # A link to a folder above would lead here again and again.
            above = map(Path.resolve, path.absolute().parents)
            if path.resolve() not in above:
                found += videos_in(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            found.append(path)
    return found


def find_videos(paths: Iterable[str]) -> List[str]:
    """The video files that paths stand for, in order.

    A path is a file, or a folder for the videos in it and below.

    Raises:
        FileNotFoundError: If a path is missing, or a folder has no video.
    """
    videos = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist')
        found = videos_in(path) if path.is_dir() else [path]
        if not found:
            problem = f'{path} has no videos, which end in {", ".join(VIDEO_SUFFIXES)}'
            raise FileNotFoundError(f'{problem}: put some in it, or take it away')
        videos += map(str, found)
    return videos


class Frame(NamedTuple):
    """A frame that was decoded."""

    # It is what there is to see until this time, in seconds from the start.
    until: float
    # Gives the picture, (H, W, 3) in RGB, until a later frame is asked for.
    read: Callable[[], np.ndarray]
    # Frames of a live stream before it that there was no time for.
    num_dropped: int = 0
    # Whether the source broke off before it and was opened again.
    restarted: bool = False


def is_live(source: str) -> bool:
    """Whether a source goes on whether it is read or not: cameras, RTSP .."""
    return source.isdigit() or source.lower().startswith(LIVE_URLS)


def open_source(source: str, fps: Optional[float] = None, live: Optional[bool] = None) -> Iterator[Frame]:
    """The frames of a file or a stream, each decoded once.

    Args:
        source (str): A file, an URL, the number of a camera, or ``'-'`` for
            a video on standard input.
        fps (float, optional): Frames per second, where a file does not say
            them or says them wrongly. Live streams are timed by the clock.
        live (bool, optional): Whether it goes on whether it is read or not.
            By default cameras do, and streams such as RTSP.

    Returns:
        Iterator[Frame]: The frames; where a file breaks off, an EOFError.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be opened, is broken, or has no frame rate.
    """
    live = is_live(source) if live is None else live
    try:
        # Devices and pipes are no files either.
        if live or source == '-' or '://' in source or (Path(source).exists() and not Path(source).is_file()):
            if source.isdigit():
                # PyAV's wheels know the cameras of Linux.
                container = av.open(f'/dev/video{source}', format='v4l2')
            else:
                container = open_container('pipe:0' if source == '-' else source)
            stream = video_stream(container)
            if live:
                return live_frames(_pictures(container, stream), source)
            own_fps = float(stream.average_rate or 0)
            frames, picture = container.decode(stream), PictureMaker()
        else:
            reader = VideoReader(source)
            own_fps, picture = reader.avg_fps, reader.picture
            frames = reader.frames()
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{source} does not exist') from error
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(f'{source} cannot be opened as a video: {error}') from error
    fps = fps or own_fps
    # 1000 is what FFmpeg takes for containers that count milliseconds.
    if not 0 < fps < 1000:
        raise ValueError(f'{source} does not say how many frames it has per second: give --fps')
    return _file_frames(frames, picture, fps, source)


def keep_open(source: str, wait: float) -> Iterator[Frame]:
    """The frames of a live stream that is opened again whenever it ends.

    Args:
        source (str): As for :func:`open_source`, whose errors are raised the
            first time alone.
        wait (float): Seconds between two attempts.

    Yields:
        Frame: Frames without end, whose times go on by the clock.
    """
    start, restarted = time.monotonic(), False
    frames: Iterable[Frame] = open_source(source, live=True)
    while True:
        opened = time.monotonic() - start
        try:
            for frame in frames:
                yield frame._replace(until=opened + frame.until, restarted=restarted)
                restarted = False
        except EOFError as error:
            print(f'{error}. Opening it again.', file=sys.stderr)
        frames, restarted = (), True
        time.sleep(wait)
        with contextlib.suppress(OSError, ValueError):
            frames = open_source(source, live=True)


def _pictures(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[np.ndarray]:
    """The pictures of a live stream, in which packets may get lost."""
    picture = PictureMaker()
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except (av.InvalidDataError, av.EOFError):
            continue
        yield from map(picture, frames)


def _file_frames(frames: Iterator[av.VideoFrame], picture: PictureMaker, fps: float, source: str) -> Iterator[Frame]:
    """The frames of a file, timed by their number.

    Pictures that are not asked for are decoded, but not converted to RGB.
    """
    try:
        for number, frame in enumerate(frames, 1):
            yield Frame(number / fps, lambda: picture(frame))
    except (av.FFmpegError, UnreadableVideoError) as error:
        raise EOFError(f'{source}: {error}') from error


def live_frames(pictures: Iterator[np.ndarray], source: str = 'the stream') -> Iterator[Frame]:
    """The frames of a live stream, timed by their arrival.

    Frames that arrive while the caller is busy are dropped but for the last
    one, so that neither delay nor memory grow.
    """
    latest: queue.Queue = queue.Queue(maxsize=1)
    threading.Thread(target=_keep_reading, args=(pictures, latest), daemon=True).start()
    start, taken = time.monotonic(), 0
    while True:
        arrival, number, picture = latest.get()
        if isinstance(picture, Exception):
            raise EOFError(f'{source}: {picture}') from picture
        if picture is None:
            return
        yield Frame(arrival - start, lambda: picture, number - taken - 1)
        taken = number


def _keep_reading(pictures: Iterator[np.ndarray], latest: queue.Queue) -> None:
    """Keep the newest picture, with its number from 1, and then what ends it.

    That is an error, whichever it is, or None.
    """
    for number in itertools.count(1):
        try:
            picture = next(pictures, None)
        except Exception as error:
            picture = error
        with contextlib.suppress(queue.Empty):
            latest.get_nowait()
        latest.put((time.monotonic(), number, picture))
        if picture is None or isinstance(picture, Exception):
            return
