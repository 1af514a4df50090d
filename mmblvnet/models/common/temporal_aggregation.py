from typing import Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn


def blend_frames(x: Tensor, weight: Tensor, first_offset: int) -> Tensor:
    """Weighted sum of neighbouring frames, channel by channel, and ReLU.

    ``y[t] = ReLU(sum_j weight[j] * x[t + first_offset + j])``, where frames
    outside the clip count as zero.

    Args:
        x (Tensor): Clips of shape ``(N, T, C, H, W)``.
        weight (Tensor): One weight per blended frame and channel, of shape
            ``(r, C)``.
        first_offset (int): Which frame, counted from the current one, the
            first weight belongs to.

    Returns:
        Tensor: The blended clips, of the shape of ``x``.
    """
    num_frames = x.size(1)
    weight = weight.to(x.dtype)[:, :, None, None]
    y = torch.zeros_like(x)
    for j, frame_weight in enumerate(weight):
        offset = first_offset + j
        start, stop = max(0, -offset), min(num_frames, num_frames - offset)
        if start < stop:
            y[:, start:stop].addcmul_(x[:, start + offset:stop + offset],
                                      frame_weight)
    return y.relu_()


def fold_pair_weight(
        weight: Tensor) -> Tuple[Tuple[Tensor, int], Tuple[Tensor, int]]:
    """Weights that blend pairs of equal frames without copying them.

    Where the frames ``2k`` and ``2k + 1`` are the same map ``z[k]``, the
    frame ``2k + d`` is ``z[k + floor(d / 2)]`` and the frame ``2k + 1 + d``
    is ``z[k + floor((d + 1) / 2)]``. Weights that meet the same map add up.

    Args:
        weight (Tensor): Weights over frames, of shape ``(r, C)``.

    Returns:
        tuple: For the even and for the odd frames, the weights over pairs
        and the offset of the first, as :func:`blend_frames` takes them.
    """
    first = -(weight.size(0) // 2)
    folded = []
    for parity in (0, 1):
        pairs = [(d + parity) // 2 for d in range(first,
                                                  first + weight.size(0))]
        pair_weight = torch.stack([
            sum(w for w, pair in zip(weight, pairs) if pair == offset)
            for offset in range(pairs[0], pairs[-1] + 1)
        ])
        folded.append((pair_weight, pairs[0]))
    return tuple(folded)


class TemporalAggregation(BaseModule):
    """Depthwise Temporal Aggregation Module (TAM) of bLVNet-TAM.

    ``y[t] = ReLU(sum_j w[j] * x[t + j - floor(r / 2)])`` with a weight vector
    ``w[j]`` over the channels for each of the ``r`` blended frames. Clips
    never see each other's frames. From section 3.2 of `More Is Less
    <https://arxiv.org/abs/1912.00869>`_. It is not the temporal *adaptive*
    module of TANet that MMAction2 calls TAM.

    The weights are kept in depthwise 1x1 convolutions under the names of the
    published checkpoints: ``prev``, ``curr`` and ``next`` for ``r = 3``,
    otherwise ``blending_layers``.

    Args:
        channels (int): Channels of the input.
        num_frames (int): Frames per clip, ``T``.
        blend_frames (int): Frames that are blended, ``r``. Defaults to 3.
        init_cfg (dict, optional): Initialization config. Defaults to Kaiming
            normal, fan-out, as in the paper's code.
    """

    # A downsampling shortcut around the module takes the module's output.
    feeds_downsample = True

    def __init__(
        self,
        channels: int,
        num_frames: int,
        blend_frames: int = 3,
        init_cfg: dict = dict(type='Kaiming', layer='Conv2d')
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if blend_frames < 1:
            raise ValueError(
                f'blend_frames = {blend_frames}, but at least 1 frame has to '
                'be blended; the paper uses 3')
        self.num_frames = num_frames
        self.blend_frames = blend_frames
        layers = [
            nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
            for _ in range(blend_frames)
        ]
        if blend_frames == 3:
            self.prev, self.curr, self.next = layers
        else:
            self.blending_layers = nn.ModuleList(layers)

    @property
    def weight(self) -> Tensor:
        """Tensor: The weights in the order of the frames, ``(r, C)``."""
        if self.blend_frames == 3:
            layers = (self.prev, self.curr, self.next)
        else:
            layers = self.blending_layers
        return torch.stack([layer.weight.flatten() for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        """Blend the frames of each clip.

        Args:
            x (Tensor): Frames of shape ``(N * T, C, H, W)``.

        Returns:
            Tensor: Blended frames of the same shape.
        """
        # [N, T, C, H, W]
        clips = x.unflatten(0, (-1, self.num_frames))
        y = blend_frames(clips, self.weight, -(self.blend_frames // 2))
        return y.flatten(0, 1)

    def forward_pairs(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Blend frames of which each two successive ones are the same map.

        Args:
            x (Tensor): One map per pair, of shape ``(N * T / 2, C, H, W)``.

        Returns:
            tuple[Tensor]: The blended even frames (0, 2, ..) and the blended
            odd frames (1, 3, ..), each of the shape of ``x``.
        """
        # [N, T / 2, C, H, W]
        clips = x.unflatten(0, (-1, self.num_frames // 2))
        even, odd = [
            blend_frames(clips, weight, first_offset).flatten(0, 1)
            for weight, first_offset in fold_pair_weight(self.weight)
        ]
        return even, odd
