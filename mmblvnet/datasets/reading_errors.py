"""Errors of reading videos: whether the video or the machine is at fault."""

import contextlib
import errno
import os
import threading
import traceback
from typing import Any, BinaryIO, Callable, Iterator, List, Optional
from urllib.error import HTTPError

import av

MEMORY_PROBE_BYTES = 2**26
LESS_MEMORY = 'use fewer workers or smaller batches'
REMEDIES = {
    errno.EMFILE: 'allow more open files (ulimit -n), or use fewer workers',
    errno.ENOMEM: LESS_MEMORY,
    errno.EAGAIN: LESS_MEMORY,
    errno.EIO: 'check the disk or the network mount',
    errno.ESTALE: 'mount the network file system again',
}
# From FFmpeg's warning, not an error, of missing packets in transport streams.
CORRUPT_PACKET = 'Packet corrupt'


class UnreadableVideoError(ValueError):
    """A video that cannot be read because of the content of its file."""


class BrokenVideoError(RuntimeError):
    """A video of a data set that cannot be read; the message says what to do about it."""


class WatchedFile:
    """A file object that stores its first error, which FFmpeg would take for the end of the file."""

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
        """Turn FFmpeg's errors into an UnreadableVideoError; raise the file object's own as they are."""
        try:
            try:
                yield
            finally:
                if self._error is not None:
                    raise self._error
        except av.FFmpegError as error:
            # While a file is opened (is_new), its header may be at fault: it
            # may ask for more memory or threads than any machine has.
            if isinstance(error, (MemoryError, BlockingIOError)) and not is_new:
                raise
            # Raises if memory is short: FFmpeg then fails on any file.
            bytearray(MEMORY_PROBE_BYTES)
            log = f' ({error.log[2].strip()})' if error.log else ''
            raise UnreadableVideoError(f'{error.strerror}{log}') from error


_capturing = threading.Lock()
_captures: List[tuple] = []


@contextlib.contextmanager
def errors_logged() -> Iterator[List[tuple]]:
    """Collect the errors that FFmpeg logs, as (level, component, text), in a list filled on exit."""
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
        errors += [log for log in logs if log[0] <= logging.ERROR or CORRUPT_PACKET in log[2]]
        with _capturing:
            level, skip_repeated = _captures.pop()
            # The settings before the first of several simultaneous captures.
            if not _captures:
                logging.set_level(level)
                logging.set_skip_repeated(skip_repeated)


def read_video(pipeline: Callable, results: dict, video: str, remedy: str) -> Optional[dict]:
    """Return the output of a pipeline that opens and decodes a video, None if it drops the video.

    Raises:
        BrokenVideoError: If the video, a file or folder, is broken or
            missing. The message names it and the remedy.
        Exception: Errors that the machine or the code causes, as they are.
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
    """Return the error to raise, with its remedy, or None if the video is at fault."""
    if _may_be_fault_of_video(error):
        try:
            if os.path.isfile(video):
                with open(video, 'rb') as file:
                    file.read(1)
            bytearray(MEMORY_PROBE_BYTES)
            return None
        except (OSError, MemoryError) as fault:
            error = fault
    if isinstance(error, MemoryError):
        return MemoryError(f'no memory is left: {LESS_MEMORY}').with_traceback(error.__traceback__)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        error.strerror = f'{error.strerror}: {REMEDIES[error.errno]}'
    return error


def _may_be_fault_of_video(error: Exception) -> bool:
    """Return whether the video, not the machine or the code, may have caused an error."""
    decoder = _decoder_of(error)
    if isinstance(error, HTTPError):
        return error.code in (404, 410)
    is_missing = isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError))
    if isinstance(error, UnreadableVideoError) or decoder and is_missing:
        return True
    if not decoder or decoder.startswith('Exact'):
        return False
    # MMAction2's decoders raise errors of any type for a broken video; these
    # types have other causes.
    is_clear = isinstance(error, (OSError, ImportError, MemoryError, NameError, NotImplementedError))
    return isinstance(error, av.FFmpegError) or not is_clear


def _decoder_of(error: Exception) -> str:
    """Return the name of the opening or decoding transform that raised an error, or ''."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = type(frame.f_locals.get('self')).__name__
        if name.endswith(('Init', 'Decode')):
            return name
    return ''
