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

from .patching import StandIn, mend


def load_mmengine_checkpoints() -> None:
    """Let MMEngine load what it has saved.

    Since version 2.6 ``torch.load`` refuses by default whatever is not on a
    list of harmless types, and MMEngine's training logs are not.
    https://github.com/open-mmlab/mmengine/issues/1655

    The loader of OneDL's fork then runs whatever code the file holds.
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


def find_operators_of_mmcv() -> None:
    """Let MMEngine look for them on Python 3.14, as before each training."""
    if not hasattr(pkgutil, 'find_loader'):
        dl_utils.pkgutil = StandIn(pkgutil, find_loader=find_spec)


load_mmengine_checkpoints()
find_operators_of_mmcv()


@mend(Runner, 'build_dataloader')
@mend(FlexibleRunner, 'build_dataloader')
def mend_workers(upstream: Callable, *args, **kwargs) -> DataLoader:
    """Let workers be mended that are no copies of this process.

    They import only what they are given, which may be MMAction2 alone; a
    function of this package imports the package.
    """
    loader = upstream(*args, **kwargs)
    if isinstance(loader, DataLoader) and loader.num_workers:
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    return loader


def _start_worker(start: Optional[Callable], worker_id: int) -> None:
    if start is not None:
        start(worker_id)


@mend(dist_utils, '_init_dist_pytorch')
@mend(dist_utils, '_init_dist_mpi')
@mend(dist_utils, '_init_dist_slurm')
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


@mend(MMDistributedDataParallel, '__init__')
def wrap_cpu_models_for_distribution(upstream: Callable, self: nn.Module, module: nn.Module, *args, **kwargs) -> None:
    """Let MMEngine wrap a model on the CPU for distributed training.

    MMEngine 0.10.7 always names a CUDA device, which PyTorch refuses for a
    model that is on the CPU.
    """
    if all(p.device.type == 'cpu' for p in module.parameters()):
        kwargs.pop('device_ids', None)
    upstream(self, module, *args, **kwargs)


@mend(Runner, 'register_default_hooks')
def leave_out_default_hooks(upstream: Callable, self: Runner, hooks: Optional[dict] = None) -> None:
    """Let ``default_hooks.NAME = None`` leave out a hook of any name.

    MMEngine 0.10.7 asserts that it is one of its own.
    """
    own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
    upstream(self, {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in own})


@mend(EarlyStoppingHook, 'before_run')
def stop_early_in_training_alone(upstream: Callable, self: EarlyStoppingHook, runner: Runner) -> None:
    """Let a config with ``EarlyStoppingHook`` be tested.

    The hook of MMEngine 0.10.7 looks at the training loop in a test too,
    which builds it, and with it the training data, if they are there at all.
    """
    # Built by then where there is training.
    if not isinstance(runner._train_loop, (dict, type(None))):
        upstream(self, runner)
