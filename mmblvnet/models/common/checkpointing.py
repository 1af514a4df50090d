from typing import Callable, Iterable, List, Optional, Tuple, Union

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint


def _is_costly(operator: Callable, args: tuple) -> bool:
    """Whether an operator is a convolution that costs more than its map.

    A 1x1 convolution that widens its input does not: in a Bottleneck it is a
    quarter of the work and makes two thirds of what the convolutions make.
    """
    if operator != torch.ops.aten.convolution.default:
        return False
    out_channels, in_channels, *kernel_size = args[1].shape
    return kernel_size != [1, 1] or out_channels <= in_channels


class _KeepCostlyMaps(TorchDispatchMode):
    """The first pass, which keeps maps in a list."""

    def __init__(self, maps: List[Optional[Tensor]]) -> None:
        super().__init__()
        self.maps = maps

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        if _is_costly(operator, args):
            self.maps.append(out.detach())
        return out


class _ReuseCostlyMaps(TorchDispatchMode):
    """Every later pass, which takes each kept map once.

    PyTorch's own selective checkpointing refuses a second backward pass; here
    what has been taken is computed again. Batch norms record the statistics
    of these passes in copies, so that they count a batch once.
    """

    def __init__(self, maps: List[Optional[Tensor]],
                 modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.maps = maps
        self.norms = [
            m for module in modules for m in module.modules()
            if isinstance(m, _BatchNorm)
        ]

    def __enter__(self):
        self.number = 0
        self.statistics = [dict(n.named_buffers()) for n in self.norms]
        for norm, buffers in zip(self.norms, self.statistics):
            for name, value in buffers.items():
                setattr(norm, name, value.clone())
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        for norm, buffers in zip(self.norms, self.statistics):
            for name, value in buffers.items():
                setattr(norm, name, value)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if _is_costly(operator, args):
            kept, self.maps[self.number] = self.maps[self.number], None
            self.number += 1
            if kept is not None:
                return kept
        return operator(*args, **(kwargs or {}))


# Compilers cannot follow the exchange of the statistics.
@torch.compiler.disable
def checkpoint_selectively(
        modules: Iterable[nn.Module], forward: Callable,
        *args: Tensor) -> Union[Tensor, Tuple[Tensor, ...]]:
    """Run part of a network, keeping only what is costly and small.

    The inputs and the outputs of most convolutions are kept; norms, ReLUs,
    temporal modules, pooling and convolutions that widen their input are
    computed again in the backward pass. Unlike with plain
    :func:`torch.utils.checkpoint.checkpoint`, batch norms count a batch once.
    There must be nothing random in the part.

    Args:
        modules (Iterable[nn.Module]): The modules that ``forward`` runs.
        forward (Callable): The part to run, from tensors to tensors.
        args (Tensor): Its inputs.

    Returns:
        Tensor or tuple[Tensor]: What ``forward`` returns.
    """

    def contexts() -> tuple:
        maps = []
        return _KeepCostlyMaps(maps), _ReuseCostlyMaps(maps, modules)

    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=contexts)
