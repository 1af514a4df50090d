from typing import List, Optional, Sequence, Tuple, Union

from mmaction.registry import MODELS
from mmaction.utils import SampleList
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from ..common import TemporalAggregation


@MODELS.register_module()
class TAMNeck(BaseModule):
    """Temporal aggregation of the feature maps of any backbone.

    Each level goes through a Temporal Aggregation Module of its own.

    In a ``Recognizer2D`` the neck returns the last level only, since 2D heads
    take one map. It keeps the views apart and averages the frames of each, so
    that ``TSNHead`` and all other heads that accept one map per clip can
    follow. In a ``Recognizer3D`` it returns all levels with all frames.

    Args:
        in_channels (int or Sequence[int]): Channels of the maps: one number
            per level, or a single one for the last level alone.
        num_segments (int): Frames per clip that reach the neck.
        blend_frames (int): Frames that are blended. Defaults to 3.
        keep_frames (bool): Whether to return, in a ``Recognizer2D``, one map
            per frame instead of one per clip, for heads that are configured
            with the number of frames (``TSMHead``, ``TRNHead``).
            Defaults to False.
        causal (bool): Whether only the current and earlier frames are
            blended. Defaults to False.
        init_cfg (dict or list[dict], optional): Initialization config.
            Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: Union[int, Sequence[int]],
        num_segments: int,
        blend_frames: int = 3,
        keep_frames: bool = False,
        causal: bool = False,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if isinstance(in_channels, int):
            in_channels = (in_channels,)
        if not in_channels:
            raise ValueError(f'in_channels = {in_channels} of TAMNeck is empty: give the channels of each map')
        self.in_channels = tuple(in_channels)
        self.num_segments = num_segments
        self.keep_frames = keep_frames
        self.tams = ModuleList(
            [TemporalAggregation(channels, num_segments, blend_frames, causal) for channels in self.in_channels]
        )

    def forward(
        self, x: Union[Tensor, Sequence[Tensor]], data_samples: Optional[SampleList] = None
    ) -> Tuple[Union[Tensor, Tuple[Tensor, ...]], dict]:
        """Aggregate the maps of each level.

        Args:
            x (Tensor or Sequence[Tensor]): From ``Recognizer2D`` a list of
                maps ``(N, C, views * T, H, W)``; from ``Recognizer3D`` one
                tensor, or a tuple of tensors, ``(N, C, T, H, W)``.
            data_samples (list[:obj:`ActionDataSample`], optional): Unused.

        Returns:
            tuple: The maps and an empty dict of auxiliary losses. For a list,
            the last level as ``(N * views, C, 1, H, W)`` or, with
            ``keep_frames``, ``(N * views * T, C, 1, H, W)``; otherwise the
            shapes of the input.

        Raises:
            ValueError: If number, channels or frames of the maps do not fit.
        """
        levels = [x] if isinstance(x, Tensor) else list(x)
        if len(self.tams) == 1:
            levels = levels[-1:]
        self._check_levels(levels)
        # Only Recognizer2D passes a list.
        if isinstance(x, list):
            # [N * views * T, C, H, W]
            frames = _aggregate(self.tams[-1], levels[-1]).flatten(0, 1)
            if not self.keep_frames:
                # [N * views, C, H, W]
                frames = frames.unflatten(0, (-1, self.num_segments)).mean(1)
            return frames.unsqueeze(2), dict()
        outs = tuple(_aggregate(tam, level).transpose(1, 2) for tam, level in zip(self.tams, levels))
        return (outs[0] if len(outs) == 1 else outs), dict()

    def _check_levels(self, levels: Sequence[Tensor]) -> None:
        shapes = [tuple(level.shape) for level in levels]
        if any(len(shape) != 5 for shape in shapes):
            raise ValueError(
                f'TAMNeck expects 5-D maps, got the shapes {shapes}: Recognizer2D splits a single tensor along its '
                'batch; let the backbone return a tuple, e.g. with out_indices=(2, 3)'
            )
        channels = tuple(shape[1] for shape in shapes)
        if channels != self.in_channels:
            raise ValueError(f'TAMNeck got maps of {channels} channels, but has in_channels = {self.in_channels}')
        frames = [shape[2] for shape in shapes]
        if any(count % self.num_segments for count in frames):
            raise ValueError(f'TAMNeck got {frames} frames, not multiples of num_segments = {self.num_segments}')


def _aggregate(tam: TemporalAggregation, level: Tensor) -> Tensor:
    """Run a TAM on maps ``(N, C, T, H, W)``; return ``(N, T, C, H, W)``."""
    frames = level.transpose(1, 2)
    return tam(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
