from .blresnet import BLResNet
from .blvnet import BLVNet

__all__ = ['BLResNet', 'BLVNet']
