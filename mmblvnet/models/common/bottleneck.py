from typing import Optional

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A bias-free convolution that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)


def norm(norm_cfg: dict, channels: int) -> nn.Module:
    """The normalisation layer that a config asks for."""
    return build_norm_layer(norm_cfg, channels)[1]


class ShortcutPool(nn.AvgPool2d):
    """3x3 average pool of stride 2 over maps with a border of zeros.

    On a GPU it adds the border itself while gradients are computed: there
    PyTorch's gradient of a padded pool is wrong in the channels-last layout
    (pytorch#188344, mended in June 2026).
    """

    def __init__(self) -> None:
        super().__init__(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and x.requires_grad:
            return self.pool_bordered(x)
        return super().forward(x)

    def pool_bordered(self, x: Tensor) -> Tensor:
        """The same with a border that is added before."""
        bordered = F.pad(x, (self.padding,) * 4)
        return F.avg_pool2d(bordered, self.kernel_size, self.stride)


class Bottleneck(BaseModule):
    """Bottleneck of the Big-Little networks.

    Three convolutions with the stride in the 3x3 one and a quarter of the
    channels inside, behind a temporal module, if any. The shortcut is the
    identity or, where needed, a 3x3 average pool (stride 2) followed by a 1x1
    convolution with norm (other number of channels).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        norm_cfg: dict = dict(type='BN'),
        final_relu: bool = True,
        temporal: Optional[nn.Module] = None,
    ) -> None:
        # A fresh block is its shortcut.
        super().__init__(dict(type='Constant', val=0, override=dict(name='bn3')))
        mid_channels = out_channels // 4
        self.conv1 = conv(in_channels, mid_channels, 1)
        self.bn1 = norm(norm_cfg, mid_channels)
        self.conv2 = conv(mid_channels, mid_channels, 3, stride)
        self.bn2 = norm(norm_cfg, mid_channels)
        self.conv3 = conv(mid_channels, out_channels, 1)
        self.bn3 = norm(norm_cfg, out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.tam = temporal
        layers = [ShortcutPool()] if stride == 2 else []
        if in_channels != out_channels:
            layers.append(conv(in_channels, out_channels, 1))
            layers.append(norm(norm_cfg, out_channels))
        self.downsample = Sequential(*layers) if layers else None
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on maps of shape ``(N, in_channels, H, W)``."""
        shortcut, out = (x, x) if self.tam is None else self.tam.with_input(x)
        if self.downsample is not None:
            takes_output = self.tam is not None and self.tam.feeds_downsample
            shortcut = self.downsample(out if takes_output else shortcut)
        out = self.relu(self.bn1(self.conv1(out)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out)) + shortcut
        return self.relu(out) if self.final_relu else out
