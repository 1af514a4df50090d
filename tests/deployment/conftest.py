"""The helpers of these tests import by name."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def no_handler_of_children():
    """Workers of PyTorch's loaders leave a handler of SIGCHLD behind.

    Behind the runtimes of these tests the kernel cannot deliver the signal to
    it, and kills the process by SIGSEGV when any child of it ends.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
