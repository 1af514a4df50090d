"""Files that are there whole or not at all."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO, Iterator, Union
from uuid import uuid4


@contextlib.contextmanager
def atomic_file(path: Union[str, Path], mode: str) -> Iterator[IO]:
    """Open a file that takes its name only when it is complete.

    Any number of processes may write the same file: the last one wins. A
    link stays one, and a file that is replaced keeps its mode and owner. The
    mode is ``'w'`` or ``'wb'``, and the unfinished file
    ``.checkpoint-*.tmp`` in the same folder.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    unfinished = os.path.join(folder, f'.checkpoint-{uuid4().hex}.tmp')
    try:
        with open(unfinished, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, unfinished)
            owner = os.stat(path)
            # Not for everyone, nor on every system.
            with contextlib.suppress(OSError, AttributeError):
                os.chown(unfinished, owner.st_uid, owner.st_gid)
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        if isinstance(error, OSError):
            error.filename = path
        raise
