from contextlib import contextmanager, nullcontext
from typing import Callable, Iterator

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


def checkpoint_module(module: nn.Module, forward: Callable[..., Tensor],
                      *args: Tensor) -> Tensor:
    """Run part of a module, keeping its inputs and computing the rest again.

    Unlike plain :func:`torch.utils.checkpoint.checkpoint`, batch norms count
    a batch once: the second pass leaves their running statistics alone.

    Args:
        module (nn.Module): The module whose batch norms ``forward`` uses.
        forward (Callable): The part to run, from tensors to a tensor.
        args (Tensor): Its inputs.

    Returns:
        Tensor: What ``forward`` returns.
    """

    def contexts() -> tuple:
        return nullcontext(), _running_statistics_kept(module)

    return checkpoint(
        forward, *args, use_reentrant=False, context_fn=contexts)
