"""Workarounds for defects of MMEngine 0.10.7."""

import pkgutil
from functools import partial
from importlib.util import find_spec
from pickle import UnpicklingError
from typing import Any, Callable, Optional
from unittest.mock import patch

import mmengine.dist.utils as dist_utils
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmengine.utils.dl_utils.misc as dl_utils
import torch
from mmengine.device import get_device
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import FlexibleRunner, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmblvnet.checkpoints import unpickling

from .patching import StandIn, patch_function


def load_mmengine_checkpoints() -> None:
    """Let MMEngine load its own checkpoints.

    Since version 2.6, ``torch.load`` refuses by default all types outside an
    allow-list, and with them the training logs in MMEngine's checkpoints.
    https://github.com/open-mmlab/mmengine/issues/1655

    OneDL's fork then falls back to a loader that runs any code in the file.
    """
    mmengine_checkpoint.torch = StandIn(torch, load=_load)
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        mmengine_checkpoint._safe_torch_load = _load


def _load(f: Any, map_location: Any = None, **kwargs) -> Any:
    try:
        return torch.load(f, map_location=map_location, **kwargs)
    except UnpicklingError:
        if kwargs:
            raise
        if hasattr(f, 'seek'):
            f.seek(0)
            return unpickling.load(f, map_location)
        with open(f, 'rb') as file:
            return unpickling.load(file, map_location)


def provide_find_loader() -> None:
    """Provide ``pkgutil.find_loader``, which MMEngine needs to train and Python 3.14 has removed."""
    if not hasattr(pkgutil, 'find_loader'):
        dl_utils.pkgutil = StandIn(pkgutil, find_loader=find_spec)


load_mmengine_checkpoints()
provide_find_loader()


@patch_function(Runner, 'build_dataloader')
@patch_function(FlexibleRunner, 'build_dataloader')
def patch_spawned_workers(upstream: Callable, *args, **kwargs) -> DataLoader:
    """Apply the workarounds in data loader workers that are not forked from this process.

    Such a worker imports only what it has to unpickle, perhaps MMAction2 alone.
    Unpickling ``_start_worker`` imports this package.
    """
    loader = upstream(*args, **kwargs)
    if isinstance(loader, DataLoader) and loader.num_workers:
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    return loader


def _start_worker(init_fn: Optional[Callable], worker_id: int) -> None:
    if init_fn is not None:
        init_fn(worker_id)


@patch_function(dist_utils, '_init_dist_pytorch')
@patch_function(dist_utils, '_init_dist_mpi')
@patch_function(dist_utils, '_init_dist_slurm')
def start_distributed_without_cuda(upstream: Callable, backend: str, *args, **kwargs) -> None:
    """Let MMEngine's launchers start on a machine without CUDA.

    MMEngine 0.10.7 always calls ``torch.cuda.set_device``, which a CPU build
    of PyTorch does not have.
    """
    if torch.cuda.is_available() or get_device() != 'cpu':
        return upstream(backend, *args, **kwargs)
    if backend == 'nccl':
        raise RuntimeError(
            "dist_cfg.backend = 'nccl' needs CUDA, which this machine does not have; add --cfg-options "
            'env_cfg.dist_cfg.backend=gloo to train on CPUs'
        )
    with patch.object(torch.cuda, 'set_device'):
        return upstream(backend, *args, **kwargs)


@patch_function(MMDistributedDataParallel, '__init__')
def wrap_cpu_models_for_distribution(upstream: Callable, self: nn.Module, module: nn.Module, *args, **kwargs) -> None:
    """Let MMEngine wrap a model on the CPU for distributed training.

    MMEngine 0.10.7 always passes ``device_ids``, which PyTorch refuses for a
    model on the CPU.
    """
    if all(p.device.type == 'cpu' for p in module.parameters()):
        kwargs.pop('device_ids', None)
    upstream(self, module, *args, **kwargs)


@patch_function(Runner, 'register_default_hooks')
def leave_out_default_hooks(upstream: Callable, self: Runner, hooks: Optional[dict] = None) -> None:
    """Let ``default_hooks.NAME = None`` leave out a hook of any name.

    MMEngine 0.10.7 accepts None for its own default hooks only.
    """
    own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
    upstream(self, {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in own})


@patch_function(EarlyStoppingHook, 'before_run')
def ignore_early_stopping_in_tests(upstream: Callable, self: EarlyStoppingHook, runner: Runner) -> None:
    """Let a config with ``EarlyStoppingHook`` be tested.

    In a test, too, the hook of MMEngine 0.10.7 asks for the training loop. That
    builds the loop with its training data, or fails if the config has none.
    """
    # A run that trains has built its training loop before this hook.
    if not isinstance(runner._train_loop, (dict, type(None))):
        upstream(self, runner)
