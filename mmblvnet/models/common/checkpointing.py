from contextlib import contextmanager, nullcontext
from typing import Callable, Iterator, Tuple, Union

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def _running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let batch norms record the statistics of a batch in copies."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, kept):
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept):
            for name, value in buffers.items():
                setattr(norm, name, value)


# Compilers cannot follow the exchange of the statistics.
@torch.compiler.disable
def checkpoint_module(module: nn.Module, forward: Callable,
                      *args: Tensor) -> Union[Tensor, Tuple[Tensor, ...]]:
    """Run part of a module, keeping its inputs and computing the rest again.

    Unlike plain :func:`torch.utils.checkpoint.checkpoint`, batch norms count
    a batch once: the second pass leaves their running statistics alone.
    There must be nothing random in the part.

    Args:
        module (nn.Module): The module whose batch norms ``forward`` uses.
        forward (Callable): The part to run, from tensors to tensors.
        args (Tensor): Its inputs.

    Returns:
        Tensor or tuple[Tensor]: What ``forward`` returns.
    """

    def contexts() -> tuple:
        return nullcontext(), _running_statistics_kept(module)

    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=contexts)
