from typing import Callable, Iterable, List, Optional, Tuple, Union

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint


class _KeepMaps(TorchDispatchMode):
    """Mode of the forward pass, which records the outputs of convolutions in a list."""

    def __init__(self, maps: List[Optional[Tensor]], keep_larger: bool) -> None:
        super().__init__()
        self.maps = maps
        self.keep_larger = keep_larger

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        if operator == torch.ops.aten.convolution.default:
            keep = self.keep_larger or out.numel() <= args[0].numel()
            self.maps.append(out.detach() if keep else None)
        return out


class _ReuseMaps(TorchDispatchMode):
    """Mode of a recomputation, which uses each recorded map in place of a convolution, once.

    PyTorch's own selective checkpointing refuses a second backward pass; here
    it recomputes the maps that the first one used. Batch norms do not update
    their statistics and count in a dummy (SyncBatchNorm needs a counter).
    """

    def __init__(self, maps: List[Optional[Tensor]], modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.maps = maps
        self.norms = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm)]

    def __enter__(self):
        self.number = 0
        self.settings = [(n.momentum, n.num_batches_tracked) for n in self.norms]
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, torch.tensor(0, device='cpu')
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        for norm, settings in zip(self.norms, self.settings):
            norm.momentum, norm.num_batches_tracked = settings

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator == torch.ops.aten.convolution.default:
            kept, self.maps[self.number] = self.maps[self.number], None
            self.number += 1
            if kept is not None:
                return kept
        return operator(*args, **(kwargs or {}))


# TorchDynamo cannot trace the changes to the norms. PyTorch itself uses this
# decorator: torch.compiler.disable imports the compiler, which takes a second.
@torch._disable_dynamo
def checkpoint_selectively(
    modules: Iterable[nn.Module], forward: Callable, *args: Tensor, keep_larger: bool = False
) -> Union[Tensor, Tuple[Tensor, ...]]:
    """Run part of a network; store only its inputs and convolution outputs for the backward pass.

    ``forward`` runs ``modules`` on ``args`` and must not be random. Outputs
    larger than the convolution's input are stored only with ``keep_larger``:
    the 1x1 convolutions that widen a Bottleneck do a quarter of its operations,
    but their outputs are two thirds of the memory of all its convolutions.
    """

    def contexts() -> tuple:
        maps = []
        return _KeepMaps(maps, keep_larger), _ReuseMaps(maps, modules)

    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
