from .blresnet import BLResNet
from .blvnet import BLVNet
from .resnet_tam import ResNetTAM

__all__ = ['BLResNet', 'BLVNet', 'ResNetTAM']
