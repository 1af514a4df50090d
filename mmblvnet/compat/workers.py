"""The start of loader workers."""
from functools import partial


class WorkerStart(partial):
    """A ``worker_init_fn``; a worker that unpickles it imports this package.

    A worker that is no copy of its parent imports only what its arguments
    are made of, which may be MMAction2 alone.
    """


def do_nothing(worker_id: int) -> None:
    """Start a worker without a function of its own."""
