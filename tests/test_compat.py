import subprocess
import sys
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from unittest.mock import MagicMock

import mmblvnet.compat.mmengine as compat_mmengine
import pytest
import torch
from mmaction.evaluation import ConfusionMatrix
from mmaction.registry import HOOKS
from mmblvnet.compat import imports, patching
from mmengine.dist import utils as dist_utils
from networks import recognizer


def run(code, *args):
    """Run code in a new process, which has imported nothing yet; return its output."""
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *args], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_unsafe_fallback_of_a_forks_loader_is_disabled(tmp_path, monkeypatch):
    """OneDL's fork of MMEngine has a loader of this name, which falls back so."""
    monkeypatch.setattr(
        compat_mmengine.mmengine_checkpoint, '_safe_torch_load', partial(torch.load, weights_only=False), raising=False
    )
    torch.save(dict(weight=Path), tmp_path / 'code.pth')
    compat_mmengine.load_mmengine_checkpoints()
    with pytest.raises(UnpicklingError, match='Path'):
        compat_mmengine.mmengine_checkpoint._safe_torch_load(tmp_path / 'code.pth', map_location='cpu')


def test_without_find_loader_the_operators_of_mmcv_are_found_missing():
    """Python 3.14 removed pkgutil.find_loader."""
    run(
        'import pkgutil\npkgutil.__dict__.pop("find_loader", None)\nimport mmblvnet\n'
        'from mmengine.utils.dl_utils import mmcv_full_available\nassert not mmcv_full_available()'
    )


def test_drn_says_what_is_missing():
    from mmaction.models import DRN

    with pytest.raises(ImportError, match='mmaction2/issues/2714'):
        DRN()


def test_a_drn_registered_by_the_user_is_kept():
    run(
        'from mmaction.registry import MODELS\n'
        'class DRN: pass\nMODELS.register_module()(DRN)\nimport mmblvnet\n'
        'import mmaction.models\nassert MODELS.get("DRN") is DRN'
    )


def test_multimodal_models_need_a_transformers_that_fits(tmp_path, monkeypatch):
    package = tmp_path / 'transformers'
    package.mkdir()
    (package / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports.dependency, 'WITH_MULTIMODAL', True)
    for name, with_multimodal in [('apply_chunking_to_forward', True), ('Conv1D', False)]:
        (package / 'modeling_utils.py').write_text(f'from .pytorch_utils import {name}')
        imports.leave_out_multimodal_models()
        assert imports.dependency.WITH_MULTIMODAL == with_multimodal


def test_an_existing_drn_is_left_alone(tmp_path, monkeypatch):
    package = tmp_path / 'mmaction'
    folder = package / 'models' / 'localizers' / 'drn'
    folder.mkdir(parents=True)
    (folder / 'drn.py').write_text('')
    monkeypatch.setattr(imports.mmaction, '__file__', str(package / '__init__.py'))
    name = 'mmaction.models.localizers.drn.drn'
    monkeypatch.delitem(sys.modules, name)
    imports.provide_drn()
    assert name not in sys.modules


def test_a_function_replaced_by_the_user_is_patched():
    calls = []
    owner = SimpleNamespace(function=calls.append)

    @patching.patch_function(owner, 'function')
    def replacement(upstream, number):
        upstream(number + 1)

    owner.function(1)
    assert calls == [2]


def test_nccl_without_cuda_is_explained(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RuntimeError, match='env_cfg.dist_cfg.backend=gloo'):
        dist_utils._init_dist_pytorch('nccl')


def test_with_cuda_the_device_is_set_as_upstream_does(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    compat_mmengine.start_distributed_without_cuda(lambda *args: calls.append(args), 'nccl')
    assert calls == [('nccl',)]


def test_testing_views_that_cut_a_clip_are_refused():
    model = recognizer(
        dict(type='BLVNet', depth=50, num_segments=4),
        dict(type='TSNHead', in_channels=2048),
        test_cfg=dict(max_testing_views=6),
    )
    with pytest.raises(ValueError, match='max_testing_views = 6.*= 4'):
        model.extract_feat(torch.randn(1, 8, 3, 32, 32), test_mode=True)


def test_fully_convolutional_testing_still_works():
    model = recognizer(
        dict(type='BLVNet', depth=50, num_segments=4),
        dict(type='TSNHead', in_channels=2048),
        test_cfg=dict(fcn_test=True, max_testing_views=4),
    ).eval()
    with torch.no_grad():
        feats, kwargs = model.extract_feat(torch.randn(2, 8, 3, 32, 32), test_mode=True)
    assert feats.shape == (4, 2048, 4, 1, 1)
    assert kwargs['fcn_test']


HOSTS = (
    'import mmcv, mmengine.runner, mmaction.registry, mmaction.engine\n'
    'import mmaction.datasets, mmaction.evaluation, mmaction.utils\n'
)


def test_importing_loads_no_compiler_and_needs_no_sources_of_the_hosts():
    """Importing does not change the environment variables either."""
    new = run(
        HOSTS + 'import inspect, os, sys\n'
        'found = inspect.findsource\n'
        'def findsource(x):\n'
        '    if str(getattr(x, "__module__", "")).startswith("mm"):\n'
        '        raise OSError("could not get source code")\n'
        '    return found(x)\n'
        'inspect.findsource = findsource\n'
        'modules, environment = set(sys.modules), dict(os.environ)\n'
        'import mmblvnet, mmaction.models\n'
        'assert "BLVNet" in mmaction.registry.MODELS.module_dict\n'
        'assert os.environ == environment\n'
        'print(*(set(sys.modules) - modules))'
    ).split()
    heavy = ('torch._dynamo', 'torch._inductor', 'triton', 'decord', 'onnx')
    assert 'mmblvnet.models' in new
    assert not [name for name in new if name.startswith(heavy)]


def test_a_confusion_matrix_leaves_unlabelled_samples_out():
    metric = ConfusionMatrix(num_classes=2)
    metric.process(
        None,
        [
            dict(gt_label=torch.tensor([label]), pred_label=torch.tensor([predicted]), num_classes=2)
            for label, predicted in [(0, 0), (1, 0), (-1, 1)]
        ],
    )
    result = metric.compute_metrics(metric.results)
    matrix = result['result']
    assert matrix.tolist() == [[1, 0], [1, 0]]


def test_default_hooks_of_any_name_can_be_left_out():
    runner = MagicMock()
    compat_mmengine.Runner.register_default_hooks(runner, dict(learning_rate=None, timer=None, sync_buffers='hook'))
    *hooks, last = [call.args[0] for call in runner.register_hook.call_args_list]
    assert last == 'hook' and len(hooks) == 5
    assert dict(type='IterTimerHook') not in hooks


def test_early_stopping_builds_no_training_loop_in_a_test():
    hook = HOOKS.build(dict(type='EarlyStoppingHook', monitor='acc/top1'))
    for loop in (dict(by_epoch=True), None):
        hook.before_run(SimpleNamespace(_train_loop=loop))
    # In training the hook still checks the loop.
    hook.before_run(MagicMock())
    with pytest.raises(AssertionError, match='stop_training'):
        hook.before_run(SimpleNamespace(_train_loop='', train_loop=''))
