"""Video files in folders, and the frames of files and live streams, one at a time."""

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
from mmblvnet.datasets.video_reader import FrameConverter, VideoReader

LIVE_URLS = ('rtsp://', 'rtsps://', 'rtmp://', 'rtp://', 'udp://', 'srt://')
VIDEO_SUFFIXES = tuple('.3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogg .ogv .ts .webm .wmv'.split())


def is_hidden(path: Path) -> bool:
    """Return whether a file is hidden, such as ``._clip.mp4``, which macOS writes."""
    return path.name.startswith('.')


def videos_in(folder: Path) -> List[Path]:
    """Return all videos in a folder and its subfolders, sorted by name.

    Links to folders are followed; hidden files and folders are left out.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if is_hidden(path):
            continue
        if path.is_dir():
            # Skip links to a folder above, which would never end.
            above = map(Path.resolve, path.absolute().parents)
            if path.resolve() not in above:
                found += videos_in(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            found.append(path)
    return found


def find_videos(paths: Iterable[str]) -> List[str]:
    """Return the video files of paths, in order.

    A path is a file, or a folder, which stands for all videos in it and below.

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
            raise FileNotFoundError(f'{problem}: add videos to it, or leave it out')
        videos += map(str, found)
    return videos


class Frame(NamedTuple):
    """A decoded frame."""

    # The time until which it is shown, in seconds from the start.
    end_time: float
    # Returns the picture, (H, W, 3) in RGB, until the next frame is requested.
    read: Callable[[], np.ndarray]
    # Frames of a live stream dropped before it, since the caller was busy.
    num_dropped: int = 0
    # Whether the source broke off before it and was opened again.
    restarted: bool = False


def is_live(source: str) -> bool:
    """Return whether a source is live, as cameras and RTSP are: it does not wait to be read."""
    return source.isdigit() or source.lower().startswith(LIVE_URLS)


def open_source(source: str, fps: Optional[float] = None, live: Optional[bool] = None) -> Iterator[Frame]:
    """Open a file or a stream and return an iterator over its frames.

    Args:
        source (str): A file, a URL, the number of a camera, or ``'-'`` for a
            video on standard input.
        fps (float, optional): Frame rate, where that of a file is missing or
            wrong. Live streams are timed by the clock.
        live (bool, optional): Whether the source is live, so that frames are
            dropped while the caller is busy. Defaults to :func:`is_live`.

    Returns:
        Iterator[Frame]: The frames, and an EOFError where a video breaks off.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be opened, is damaged, or has no frame rate.
    """
    live = is_live(source) if live is None else live
    try:
        # Devices and named pipes are read as streams, too.
        if live or source == '-' or '://' in source or (Path(source).exists() and not Path(source).is_file()):
            if source.isdigit():
                # PyAV's wheels support Linux cameras (Video4Linux).
                container = av.open(f'/dev/video{source}', format='v4l2')
            else:
                container = open_container('pipe:0' if source == '-' else source)
            stream = video_stream(container)
            if live:
                return live_frames(_pictures(container, stream), source)
            own_fps = float(stream.average_rate or 0)
            frames, to_rgb = container.decode(stream), FrameConverter()
        else:
            reader = VideoReader(source)
            own_fps, to_rgb = reader.avg_fps, reader.to_rgb
            frames = reader.frames()
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{source} does not exist') from error
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(f'{source} cannot be opened as a video: {error}') from error
    # FFmpeg guesses 1000 from timestamps in milliseconds without a frame rate.
    fps = fps or (own_fps if own_fps < 1000 else 0)
    if not fps > 0:
        raise ValueError(f'{source} has no usable frame rate: give --fps')
    return _file_frames(frames, to_rgb, fps, source)


def keep_open(source: str, wait: float) -> Iterator[Frame]:
    """Yield the frames of a live stream, which is reopened whenever it ends.

    Args:
        source (str): As for :func:`open_source`, whose errors are raised only
            at the first attempt.
        wait (float): Seconds between two attempts.

    Yields:
        Frame: Frames without end, timed by the clock from the first opening.
    """
    start, restarted = time.monotonic(), False
    frames: Iterable[Frame] = open_source(source, live=True)
    while True:
        opened = time.monotonic() - start
        try:
            for frame in frames:
                yield frame._replace(end_time=opened + frame.end_time, restarted=restarted)
                restarted = False
        except EOFError as error:
            print(f'{error}. Opening it again.', file=sys.stderr)
        frames, restarted = (), True
        time.sleep(wait)
        with contextlib.suppress(OSError, ValueError):
            frames = open_source(source, live=True)


def _pictures(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[np.ndarray]:
    """Yield the RGB pictures of a live stream; skip packets that cannot be decoded."""
    to_rgb = FrameConverter()
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except (av.InvalidDataError, av.EOFError):
            continue
        yield from map(to_rgb, frames)


def _file_frames(frames: Iterator[av.VideoFrame], to_rgb: FrameConverter, fps: float, source: str) -> Iterator[Frame]:
    """Yield the frames of a file, timed by their number and the frame rate.

    Frames whose picture is not read are decoded, but not converted to RGB.
    """
    try:
        for number, frame in enumerate(frames, 1):
            yield Frame(number / fps, lambda: to_rgb(frame))
    except (av.FFmpegError, UnreadableVideoError) as error:
        raise EOFError(f'{source}: {error}') from error


def live_frames(pictures: Iterator[np.ndarray], source: str = 'the stream') -> Iterator[Frame]:
    """Yield the frames of a live stream, timed by their arrival.

    Of the frames that arrive while the caller is busy, all but the last are
    dropped, so that neither delay nor memory grows.
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
    """Keep the newest picture in a queue of one, with its arrival time and number from 1.

    The last item is the error that ended the stream, or None, in its place.
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
