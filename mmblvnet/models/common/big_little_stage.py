from typing import Callable, Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from .temporal_module import PAIRS


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the spatial size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)


def norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Return the normalisation layer of a config."""
    return build_norm_layer(norm_cfg, channels)[1]


class ShortcutPool(nn.AvgPool2d):
    """3x3 average pool with stride 2 and a zero padding of 1.

    On a GPU it pads separately when gradients are needed, since PyTorch's CUDA
    gradient of a padded average pool is wrong for channels-last tensors
    (pytorch#188344, fixed in June 2026).
    """

    def __init__(self) -> None:
        super().__init__(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pad_and_pool(x) if x.is_cuda and x.requires_grad else super().forward(x)

    @staticmethod
    def pad_and_pool(x: Tensor) -> Tensor:
        """Pad maps with zeros, then pool them without padding: the same result."""
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=2)


class Bottleneck(BaseModule):
    """Bottleneck of the Big-Little networks.

    An optional temporal module, then 1x1, 3x3 and 1x1 convolutions with a
    quarter of the channels in between; the 3x3 one has the stride. The shortcut
    has a 3x3 average pool if the stride is 2 and a 1x1 convolution with norm if
    the number of channels changes; otherwise it is the identity.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        norm_cfg: dict,
        *,
        final_relu: bool = True,
        temporal: Optional[nn.Module] = None,
    ) -> None:
        # Zero bn3: a new block returns its shortcut.
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


def bottlenecks(
    in_channels: int,
    out_channels: int,
    num_blocks: int,
    stride: int,
    norm_cfg: dict,
    *,
    last_relu: bool = True,
    make_temporal: Callable = lambda channels: None,
) -> Sequential:
    """Return a sequence of Bottlenecks; the first has the stride and changes the channels."""
    blocks = []
    for i in range(num_blocks):
        relu = last_relu or i < num_blocks - 1
        temporal = make_temporal(in_channels)
        blocks.append(Bottleneck(in_channels, out_channels, stride, norm_cfg, final_relu=relu, temporal=temporal))
        in_channels, stride = out_channels, 1
    return Sequential(*blocks)


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Resize maps by nearest-neighbour interpolation, and keep their dtype."""
    if x.dtype not in (torch.bfloat16, torch.float16):
        return F.interpolate(x, size)
    # Autocast would cast to float32, also all that follows up to a convolution.
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, size)


class BigLittleStage(BaseModule):
    """Stage with a deep low-resolution and a light high-resolution branch.

    ::

                       +-> big: num_blocks - 1 blocks, stride 2 -> resize -+
        x -> temporal -|                                                   +
                       +-> little: few thin blocks -> little_e ------------+
                                                                           |
                             fused maps <- fusion: one block <- ReLU <-----+

    In a video network ``x`` has one feature map per pair of frames. From these
    the temporal module computes maps of the odd frames for the Big branch and
    of the even frames for the Little branch.
    From section 3.1 of `More Is Less <https://arxiv.org/abs/1912.00869>`_.

    ``num_blocks`` are those of a plain ResNet's stage. The fusion block has the
    stride. ``alpha`` divides the Little branch's channels, ``beta`` its blocks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        stride: int,
        norm_cfg: dict,
        alpha: int,
        beta: int,
        temporal: Optional[nn.Module] = None,
    ) -> None:
        super().__init__()
        num_big, num_little = num_blocks - 1, max(1, num_blocks // beta - 1)
        thin_channels = out_channels // alpha
        self.big = bottlenecks(in_channels, out_channels, num_big, 2, norm_cfg, last_relu=num_big == 1)
        self.little = bottlenecks(in_channels, thin_channels, num_little, 1, norm_cfg)
        self.little_e = Sequential(conv(thin_channels, out_channels, 1), norm(norm_cfg, out_channels))
        self.fusion = bottlenecks(out_channels, out_channels, 1, stride, norm_cfg)
        self.relu = nn.ReLU(inplace=True)
        self.tam = temporal

    def forward(self, x: Tensor) -> Tensor:
        """Run both branches on ``(N, in_channels, H, W)`` and fuse them."""
        return self.fuse(*self.run_branches(x))

    def run_branches(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the maps of the Little branch, and those of the Big branch at half the size."""
        even, odd = (x, x) if self.tam is None else self.tam(x, PAIRS)
        return self.little_e(self.little(even)), self.big(odd)

    def fuse(self, little: Tensor, big: Tensor) -> Tensor:
        """Fuse the two results of :meth:`run_branches`."""
        return self.fusion(self.relu(little + resize(big, little.shape[2:])))
