from typing import Tuple

import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift as _ResNetShift
from torch import Tensor, nn


class TemporalShift(nn.Module):
    """Temporal shift in the places of the Temporal Aggregation Module.

    The first eighth of the channels comes from the next frame, the second
    from the previous one, zeros beyond the clip. MMAction2's shift does the
    work; this adds the form for pairs of equal frames.

    Args:
        num_frames (int): Frames per clip, ``T``.
    """

    # In bLVNet-TSM every shortcut takes the block's input.
    feeds_downsample = False
    shift_div = 8

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames

    def forward(self, x: Tensor) -> Tensor:
        """Shift the frames of each clip.

        Args:
            x (Tensor): Frames of shape ``(N * T, C, H, W)``.

        Returns:
            Tensor: Shifted frames of the same shape.
        """
        return self._shift(x, self.num_frames)

    def forward_split(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Shift the frames of each clip and tell even from odd ones.

        Args:
            x (Tensor): Frames of shape ``(N * T, C, H, W)``.

        Returns:
            tuple[Tensor]: The shifted even and odd frames, each of shape
            ``(N * T / 2, C, H, W)``.
        """
        # [N * T / 2, 2, C, H, W]
        pairs = self(x).unflatten(0, (-1, 2))
        return pairs[:, 0], pairs[:, 1]

    def forward_pairs(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Shift frames of which each two successive ones are the same map.

        The next frame of an even one and the previous frame of an odd one
        are the same map again, so that half of the shifts changes nothing.

        Args:
            x (Tensor): One map per pair, of shape ``(N * T / 2, C, H, W)``.

        Returns:
            tuple[Tensor]: The shifted even and odd frames, each of the shape
            of ``x``.
        """
        fold = x.size(1) // self.shift_div
        shifted = self._shift(x, self.num_frames // 2)
        even = torch.cat((x[:, :fold], shifted[:, fold:]), 1)
        odd = torch.cat((shifted[:, :fold], x[:, fold:]), 1)
        return even, odd

    def _shift(self, x: Tensor, num_frames: int) -> Tensor:
        # MMAction2 views the maps as rows, which needs the plain layout.
        return _ResNetShift.shift(x.contiguous(), num_frames, self.shift_div)
