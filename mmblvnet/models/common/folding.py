import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them, for good.

    The weights become channels-last, as convolutions like them best. In
    training they are not: PyTorch's FSDP takes the gradients of such weights
    in the wrong order where it keeps the original parameters, as MMEngine
    asks it to (``use_orig_params=True``).
    """
    # MMAction2's backbones return nothing here.
    module.eval()
    return fuse_conv_bn(module).to(memory_format=torch.channels_last)
