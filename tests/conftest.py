import gc
import importlib.util
import os
import sys
from importlib.util import find_spec
from pathlib import Path

# For small networks, synchronizing threads costs more than it gains, most of
# all where other processes compete for the same cores.
os.environ.setdefault('OMP_NUM_THREADS', '1')

# Before Decord: PyAV would use Decord's libvpx, with which writing VP9 fails.
import av  # noqa: E402,F401
import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.config import config as mmengine_config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

ROOT = Path(__file__).parents[1]
# So that test helpers and the scripts under test can be imported by name.
sys.path[:0] = [str(ROOT / folder) for folder in ('tests', 'tools', 'tools/data', 'tools/analysis', 'tools/deployment')]

import mmblvnet  # noqa: E402,F401
from config_files import cached_by_repr  # noqa: E402
from make_motion_dataset import make_dataset  # noqa: E402


init_default_scope('mmaction')

# timm and torchvision are optional.
if not (find_spec('timm') and find_spec('torchvision')):
    collect_ignore = ['test_mixing_timm.py']


def pytest_addoption(parser):
    parser.addoption(
        '--gpu-tests-on', default='cuda', choices=['cuda', 'cpu'], help='the device that the tests for GPUs run on'
    )


@pytest.fixture(scope='session', autouse=True)
def quick_garbage_collection():
    """Exclude imported modules from garbage collection, which every new data set triggers."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope='session', autouse=True)
def quick_runs():
    """Cache the formatting and finding of configs, which every run repeats, and log no environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ('FormatCode', '_get_external_cfg_path'):
            # OneDL's fork formats with another package, without FormatCode.
            if function := getattr(mmengine_config, name, None):
                patch.setattr(mmengine_config, name, cached_by_repr(function))
        patch.setattr(Runner, '_log_env', lambda *args: None)
        yield


@pytest.fixture(scope='session')
def motion(tmp_path_factory):
    """Return the folder of a motion data set with 8 small training and 8 validation clips."""
    folder = tmp_path_factory.mktemp('motion')
    make_dataset(folder, train=8, val=8, seed=0, short_side=(32, 40))
    return folder


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def setup_script():
    """Return setup.py, imported as a module."""
    path = ROOT / 'setup.py'
    spec = importlib.util.spec_from_file_location('setup_script', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
