"""What runs on a GPU: ``pytest -m gpu``, best with ``--numprocesses 4``.

Without a GPU, ``--gpu-tests-on cpu`` runs what needs no more than a device,
and with ``TRITON_INTERPRET=1`` and Triton installed our kernels as well.
"""

import os
from pathlib import Path

# What cuBLAS needs to be deterministic, and reads when it starts.
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
    """The device that the tests of this folder run on."""
    return torch.device(pytestconfig.getoption('--gpu-tests-on'))


@pytest.fixture
def cuda(device):
    """The same where a test means nothing without CUDA."""
    if device.type != 'cuda':
        pytest.skip('CUDA alone has what is tested')
    return device


def allow_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(autouse=True)
def full_float32():
    """Float32 without TF32, unless a test asks for it."""
    allow_tf32(False)
    yield
    allow_tf32(False)


@pytest.fixture
def tf32(full_float32):
    """Float32 as fast as the GPU has it."""
    allow_tf32(True)


@pytest.fixture
def deterministic():
    """PyTorch's deterministic mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope='module')
def process_group(device):
    """A process group of this process alone."""
    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
