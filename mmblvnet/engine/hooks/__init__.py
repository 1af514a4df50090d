from .data_check_hook import DataCheckHook
from .fuse_conv_bn_hook import FuseConvBNHook

__all__ = ['DataCheckHook', 'FuseConvBNHook']
