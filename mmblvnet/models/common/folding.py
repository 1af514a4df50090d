import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them, in place, and return the module.

    The weights become channels-last, in which convolutions are fastest. Weights
    in training stay contiguous: PyTorch's FSDP gets the gradients of
    channels-last weights in the wrong order with ``use_orig_params=True``,
    MMEngine's default.
    """
    # Not chained: train() and eval() of MMAction2's backbones return None.
    module.eval()
    # Not Module.to(), which refuses the 3D convolutions of non-local blocks.
    for parameter in fuse_conv_bn(module).parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module
