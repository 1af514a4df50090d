"""Atomic writes of files."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO, Iterator, Union
from uuid import uuid4


@contextlib.contextmanager
def atomic_file(path: Union[str, Path], mode: str) -> Iterator[IO]:
    """Open a file for an atomic write: it gets its name only when it is complete.

    Until then it is called ``.checkpoint-*.tmp``, in the same folder. ``mode``
    is ``'w'`` or ``'wb'``. Several processes may write the same path: the last
    one wins. A symbolic link stays a link, and a file that is replaced passes
    its permissions, and its owner where possible, on to the new one.
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
            # Only root may change the owner, and not every system can.
            with contextlib.suppress(OSError, AttributeError):
                os.chown(unfinished, owner.st_uid, owner.st_gid)
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        if isinstance(error, OSError):
            error.filename = path
        raise
