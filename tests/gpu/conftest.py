"""Tests on a GPU: ``pytest -m gpu``, best with ``--numprocesses 4``.

Without a GPU, ``--gpu-tests-on cpu`` runs the tests that do not need CUDA,
and with ``TRITON_INTERPRET=1`` and Triton installed our kernels as well.
"""

import os
from pathlib import Path

# cuBLAS needs it to be deterministic, and reads it when it starts.
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')

import pytest  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    wanted = torch.device(config.getoption('--gpu-tests-on'))
    absent = wanted.type == 'cuda' and not torch.cuda.is_available()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker('gpu')
            if absent:
                item.add_marker(pytest.mark.skip(reason='no GPU'))


@pytest.fixture(scope='session')
def device(pytestconfig):
    """Return the device that the tests of this folder run on."""
    return torch.device(pytestconfig.getoption('--gpu-tests-on'))


@pytest.fixture
def cuda(device):
    """Return the CUDA device; skip tests that need CUDA elsewhere."""
    if device.type != 'cuda':
        pytest.skip('CUDA alone has what is tested')
    return device


def allow_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(autouse=True)
def full_float32():
    """Disable TF32, unless a test asks for it."""
    allow_tf32(False)
    yield
    allow_tf32(False)


@pytest.fixture
def tf32(full_float32):
    """Allow TF32 in matrix products and convolutions."""
    allow_tf32(True)


@pytest.fixture
def deterministic():
    """Enable PyTorch's deterministic mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope='module')
def process_group(device):
    """Start a process group with this process as its only rank."""
    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
