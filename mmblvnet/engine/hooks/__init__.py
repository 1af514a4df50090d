from .data_check_hook import DataCheckHook
from .fuse_conv_bn_hook import FuseConvBNHook
from .views_hook import TestViewsHook

__all__ = ['DataCheckHook', 'FuseConvBNHook', 'TestViewsHook']
