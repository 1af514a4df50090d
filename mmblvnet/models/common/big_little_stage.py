from typing import Callable, Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from .temporal_module import PAIRS


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
        return self.pool_bordered(x) if x.is_cuda and x.requires_grad else super().forward(x)

    @staticmethod
    def pool_bordered(x: Tensor) -> Tensor:
        """The same with a border that is added before."""
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=2)


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
        stride: int,
        norm_cfg: dict,
        *,
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
    """Blocks in a row, of which the first has the stride."""
    blocks = []
    for i in range(num_blocks):
        relu = last_relu or i < num_blocks - 1
        temporal = make_temporal(in_channels)
        blocks.append(Bottleneck(in_channels, out_channels, stride, norm_cfg, final_relu=relu, temporal=temporal))
        in_channels, stride = out_channels, 1
    return Sequential(*blocks)


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Resize maps to their nearest neighbours, in the type that they have."""
    if x.dtype not in (torch.bfloat16, torch.float16):
        return F.interpolate(x, size)
    # Autocast would make float32 of it, and of all up to a convolution.
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

    In a video network ``x`` has one map per pair of frames, which stands for
    both of them: the temporal module turns it into the odd frames, which the
    Big branch sees, and the even frames, which the Little branch sees.
    From section 3.1 of `More Is Less <https://arxiv.org/abs/1912.00869>`_.

    A plain ResNet's stage has ``num_blocks``. The fusion block has the
    stride. The Little branch is thinner by alpha and shallower by beta.
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
        """Maps of the Little branch, and of the Big one at half the size."""
        even, odd = (x, x) if self.tam is None else self.tam(x, PAIRS)
        return self.little_e(self.little(even)), self.big(odd)

    def fuse(self, little: Tensor, big: Tensor) -> Tensor:
        """Fuse what :meth:`run_branches` returns."""
        return self.fusion(self.relu(little + resize(big, little.shape[2:])))
