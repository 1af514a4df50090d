"""Tells what is wrong with a video from what is wrong with the machine."""

import contextlib
import errno
import os
import threading
import traceback
from typing import Any, BinaryIO, Callable, Iterator, List, Optional
from urllib.error import HTTPError

import av

ENOUGH_MEMORY = 2**26
FEWER = 'use fewer workers or smaller batches'
REMEDIES = {
    errno.EMFILE: 'allow more open files (ulimit -n), or use fewer workers',
    errno.ENOMEM: FEWER,
    errno.EAGAIN: FEWER,
    errno.EIO: 'check the disk or the network mount',
    errno.ESTALE: 'mount the network file system again',
}
# What FFmpeg warns of where packets of transport streams are missing.
LOST = 'Packet corrupt'


class UnreadableVideoError(ValueError):
    """A video that cannot be read for what is in its file."""


class BrokenVideoError(RuntimeError):
    """A video of a data set that cannot be read, and what to do about it."""


class WatchedFile:
    """A file object that keeps errors, which FFmpeg takes for its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: Optional[BaseException] = None

    def read(self, size: int) -> bytes:
        return self._try(self._file.read, size) or b''

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(self._file.seek, offset, whence) or 0

    def tell(self) -> int:
        return self._try(self._file.tell) or 0

    def _try(self, function: Callable, *args) -> Any:
        if self._error is None:
            try:
                return function(*args)
            except BaseException as error:
                self._error = error
        return None

    @contextlib.contextmanager
    def reading(self, is_new: bool = False) -> Iterator[None]:
        """Raise an UnreadableVideoError where FFmpeg finds fault with it."""
        try:
            try:
                yield
            finally:
                if self._error is not None:
                    raise self._error
        except av.FFmpegError as error:
            # Headers may ask for more memory, or threads, than there can be.
            if isinstance(error, (MemoryError, BlockingIOError)) and not is_new:
                raise
            # Where there is little, FFmpeg finds fault with any file.
            bytearray(ENOUGH_MEMORY)
            log = f' ({error.log[2].strip()})' if error.log else ''
            raise UnreadableVideoError(f'{error.strerror}{log}') from error


_capturing = threading.Lock()
_captures: List[tuple] = []


@contextlib.contextmanager
def errors_logged() -> Iterator[List[tuple]]:
    """Collect what FFmpeg logs of errors: level, part of FFmpeg and text."""
    logging = av.logging
    with _capturing:
        _captures.append((logging.get_level(), logging.get_skip_repeated()))
        logging.set_level(max(logging.WARNING, logging.get_level() or 0))
        logging.set_skip_repeated(False)
    errors = []
    try:
        with logging.Capture() as logs:
            yield errors
    finally:
        errors += [log for log in logs if log[0] <= logging.ERROR or LOST in log[2]]
        with _capturing:
            level, skip_repeated = _captures.pop()
            # As it was before the first of those that do so at once.
            if not _captures:
                logging.set_level(level)
                logging.set_skip_repeated(skip_repeated)


def read_video(pipeline: Callable, results: dict, video: str, remedy: str) -> Optional[dict]:
    """Send a video through a pipeline that opens and decodes it.

    Returns what the pipeline gives, None if it drops the video.

    Raises:
        BrokenVideoError: If the video itself is bad, or is not there. It
            names the video, a file or folder, and the remedy.
        Exception: What is wrong with the machine or the code, as it is.
    """
    try:
        return pipeline(results)
    except Exception as error:
        fault = _fault_of_machine(error, video)
        if fault is not None:
            raise fault  # noqa: B904
        reason = str(error).strip() or 'no reason given'
        raise BrokenVideoError(f'{video} cannot be read ({type(error).__name__}: {reason}). {remedy}') from error


def _fault_of_machine(error: Exception, video: str) -> Optional[Exception]:
    """What is wrong, and the remedy, if it is not the video."""
    if _is_of_video(error):
        try:
            if os.path.isfile(video):
                with open(video, 'rb') as file:
                    file.read(1)
            bytearray(ENOUGH_MEMORY)
            return None
        except (OSError, MemoryError) as fault:
            error = fault
    if isinstance(error, MemoryError):
        return MemoryError(f'no memory is left: {FEWER}').with_traceback(error.__traceback__)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        error.strerror = f'{error.strerror}: {REMEDIES[error.errno]}'
    return error


def _is_of_video(error: Exception) -> bool:
    """Whether a video may be what is wrong, and not the machine or code."""
    decoder = _decoder_of(error)
    if isinstance(error, HTTPError):
        return error.code in (404, 410)
    is_missing = isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError))
    if isinstance(error, UnreadableVideoError) or decoder and is_missing:
        return True
    if not decoder or decoder.startswith('Exact'):
        return False
    # MMAction2's decoders raise whatever they like, whatever is wrong.
    is_clear = isinstance(error, (OSError, ImportError, MemoryError, NameError, NotImplementedError))
    return isinstance(error, av.FFmpegError) or not is_clear


def _decoder_of(error: Exception) -> str:
    """The transform that opens or decodes, if it has raised an error."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = type(frame.f_locals.get('self')).__name__
        if name.endswith(('Init', 'Decode')):
            return name
    return ''
