from typing import Dict, Optional, Tuple

from mmaction.registry import MODELS
from torch import Tensor

from ..common import TemporalAggregation, TemporalModule, TemporalShift
from ..common.temporal_module import SPLIT
from .blresnet import BLResNet


@MODELS.register_module()
class BLVNet(BLResNet):
    """Big-Little Video Network: bLVNet-TAM, bLVNet-TSM and bLVNet.

    ::

        frames 0 2 4 ..  -> Little -+
                                    + -> one fused map per pair -> layer1 ..
        frames 1 3 5 ..  -> Big ----+

    Even frames go to the light high-resolution branch, odd frames to the deep
    low-resolution one; the temporal module in front of each stage mixes them.
    Frames ``(N * T, in_channels, H, W)`` give feature maps ``(N * T, C', H',
    W')``, or half as many, see ``frame_output``.
    From `More Is Less <https://arxiv.org/abs/1912.00869>`_.

    Args:
        depth, alpha, beta, in_channels, kwargs: As for :class:`BLResNet`.
        num_segments (int): Frames per clip, ``T``, an even number: 16 for
            the "8x2" of the paper. Defaults to 16.
        temporal_module (str, optional): ``'TAM'``, ``'TSM'`` or None.
            Defaults to ``'TAM'``.
        blend_frames (int): Frames that a TAM blends. Defaults to 3.
        frame_output (str): ``'repeat'`` returns each pair's map for both of
            its frames, as heads and necks with ``num_segments=T`` expect;
            ``'pair'`` returns it once, for heads that are configured with
            the number of pairs, like ``TSMHead(num_segments=T // 2)``. The
            scores are the same. Defaults to ``'repeat'``.
        causal (bool): Whether temporal modules see the current and earlier
            frames only, as live video needs. Defaults to False.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        depth: int,
        alpha: int = 2,
        beta: int = 4,
        in_channels: int = 3,
        num_segments: int = 16,
        temporal_module: Optional[str] = 'TAM',
        blend_frames: int = 3,
        frame_output: str = 'repeat',
        causal: bool = False,
        **kwargs,
    ) -> None:
        # BLResNet.__init__ reads these when it builds the temporal modules.
        self.num_segments = num_segments
        self.temporal_module = temporal_module
        self.blend_frames = blend_frames
        self.causal = causal
        self.frame_output = frame_output
        super().__init__(depth, alpha, beta, in_channels, **kwargs)

    def _argument_checks(self) -> Dict[str, Tuple[bool, str]]:
        return dict(
            super()._argument_checks(),
            num_segments=(
                self.num_segments >= 2 and self.num_segments % 2 == 0,
                'a positive even number: give the sampled frames per clip, e.g. 16 for "8x2"',
            ),
            temporal_module=(self.temporal_module in ('TAM', 'TSM', None), "one of 'TAM', 'TSM' and None"),
            frame_output=(self.frame_output in ('repeat', 'pair'), "one of 'repeat' and 'pair'"),
        )

    def _make_temporal(self, channels: int, paired: bool = False) -> Optional[TemporalModule]:
        num_frames = self.num_segments // 2 if paired else self.num_segments
        if self.temporal_module == 'TAM':
            return TemporalAggregation(channels, num_frames, self.blend_frames, self.causal)
        if self.temporal_module == 'TSM':
            return TemporalShift(num_frames, self.causal)
        return None

    def _split_branches(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        if self.tam is not None:
            return self.tam(x, SPLIT)
        # [N * T / 2, 2, C, H, W]
        pairs = x.unflatten(0, (-1, 2))
        return pairs[:, 0], pairs[:, 1]

    def _as_output(self, x: Tensor) -> Tensor:
        if self.frame_output == 'pair':
            return x
        return x.repeat_interleave(2, dim=0)
