from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from .bottleneck import Bottleneck, conv, norm


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
        *,
        alpha: int,
        beta: int,
        temporal: Optional[nn.Module] = None,
        norm_cfg: dict = dict(type='BN'),
    ) -> None:
        super().__init__()
        num_big = num_blocks - 1
        self.big = Sequential(
            *[
                Bottleneck(
                    out_channels if i else in_channels,
                    out_channels,
                    1 if i else 2,
                    final_relu=num_big == 1 or i < num_big - 1,
                    norm_cfg=norm_cfg,
                )
                for i in range(num_big)
            ]
        )
        thin_channels = out_channels // alpha
        self.little = Sequential(
            *[
                Bottleneck(thin_channels if i else in_channels, thin_channels, norm_cfg=norm_cfg)
                for i in range(max(1, num_blocks // beta - 1))
            ]
        )
        self.little_e = Sequential(conv(thin_channels, out_channels, 1), norm(norm_cfg, out_channels))
        self.fusion = Sequential(Bottleneck(out_channels, out_channels, stride, norm_cfg=norm_cfg))
        self.relu = nn.ReLU(inplace=True)
        self.tam = temporal

    def forward(self, x: Tensor) -> Tensor:
        """Run both branches on ``(N, in_channels, H, W)`` and fuse them."""
        return self.fuse(*self.run_branches(x))

    def run_branches(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Maps of the Little branch, and of the Big one at half the size."""
        even, odd = (x, x) if self.tam is None else self.tam.forward_pairs(x)
        return self.little_e(self.little(even)), self.big(odd)

    def fuse(self, little: Tensor, big: Tensor) -> Tensor:
        """Fuse what :meth:`run_branches` returns."""
        big = resize(big, little.shape[2:])
        return self.fusion(self.relu(little + big))
