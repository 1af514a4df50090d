from typing import Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .frame_blending import blend_frames, make_taps


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

    def offsets(self) -> range:
        """Where the blended frames are, counted from the current one.

        Returns:
            range: One number for each row of :attr:`weight`.
        """
        first = -(self.blend_frames // 2)
        return range(first, first + self.blend_frames)

    def forward(self, x: Tensor) -> Tensor:
        """Blend the frames of each clip.

        Args:
            x (Tensor): Frames of shape ``(N * T, C, H, W)``.

        Returns:
            Tensor: Blended frames of the same shape.
        """
        y, = self._blend(x, self.num_frames, num_phases=1, num_outputs=1)
        return y

    def forward_split(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Blend the frames of each clip and tell even from odd ones.

        Args:
            x (Tensor): Frames of shape ``(N * T, C, H, W)``.

        Returns:
            tuple[Tensor]: The blended even frames (0, 2, ..) and the blended
            odd frames (1, 3, ..), each of shape ``(N * T / 2, C, H, W)``.
        """
        return self._blend(
            x, self.num_frames // 2, num_phases=2, num_outputs=2)

    def forward_pairs(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Blend frames of which each two successive ones are the same map.

        Where the frames ``2k`` and ``2k + 1`` are the map ``z[k]``, the frame
        ``2k + d`` is ``z[k + floor(d / 2)]`` and the frame ``2k + 1 + d`` is
        ``z[k + floor((d + 1) / 2)]``: no copies are needed, and weights that
        meet the same map add up.

        Args:
            x (Tensor): One map per pair, of shape ``(N * T / 2, C, H, W)``.

        Returns:
            tuple[Tensor]: The blended even frames (0, 2, ..) and the blended
            odd frames (1, 3, ..), each of the shape of ``x``.
        """
        return self._blend(
            x, self.num_frames // 2, num_phases=1, num_outputs=2, repeats=2)

    def _blend(self,
               x: Tensor,
               num_groups: int,
               num_phases: int,
               num_outputs: int,
               repeats: int = 1) -> Tuple[Tensor, ...]:
        taps = make_taps(self.offsets(), num_phases, num_outputs, repeats)
        # [N, groups, phases, C, H, W]
        clips = x.unflatten(0, (-1, num_groups, num_phases))
        outputs = blend_frames(clips, self.weight, taps)
        return tuple(y.flatten(0, 1) for y in outputs)
