from typing import Sequence, Tuple

from mmengine.model import BaseModule
from torch import Tensor

from .frame_blending import EACH, PAIRS, SPLIT, Form


class TemporalModule(BaseModule):
    """What lets the frames of a clip meet: the forms in which they come.

    Args:
        num_frames (int): Frames per clip, ``T``.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    # Whether a downsampling shortcut around the module takes its output.
    feeds_downsample: bool

    def __init__(self, num_frames: int, init_cfg: dict = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_frames = num_frames
        # Whether the clips of a batch follow each other in training.
        self.across_clips = False

    def forward(self, x: Tensor) -> Tensor:
        """Run on the frames of each clip.

        Args:
            x (Tensor): Frames of shape ``(N * T, C, H, W)``.

        Returns:
            Tensor: Frames of the same shape.
        """
        y, = self._run(x, EACH)
        return y

    def forward_split(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """The same, with even (0, 2, ..) and odd (1, 3, ..) frames apart."""
        return self._run(x, SPLIT)

    def forward_pairs(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Run on frames of which each two successive ones are the same map.

        Where the frames ``2k`` and ``2k + 1`` are the map ``z[k]``, the frame
        ``2k + d`` is ``z[k + floor(d / 2)]`` and the frame ``2k + 1 + d`` is
        ``z[k + floor((d + 1) / 2)]``: no copies are needed.

        Args:
            x (Tensor): One map per pair, of shape ``(N * T / 2, C, H, W)``.

        Returns:
            tuple[Tensor]: The even and the odd frames, each of the shape of
            ``x``.
        """
        return self._run(x, PAIRS)

    def with_input(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """The frames as they came and as they leave, for a shortcut."""
        return x, self(x)

    def offsets(self) -> Sequence[int]:
        """Where the frames that meet are, counted from the current one."""
        raise NotImplementedError

    def blend_padded(self, x: Tensor, form: Form,
                     num_groups: int) -> Tuple[Tensor, ...]:
        """Run on frames whose neighbours are given.

        Args:
            x (Tensor): Maps ``(.., maps, C, H, W)``, from the first that the
                first group of outputs needs to the last of the last group.
            form (Form): The form of the frames.
            num_groups (int): Groups of outputs, K.

        Returns:
            tuple[Tensor]: The outputs, each of shape ``(.., K, C, H, W)``.
        """
        raise NotImplementedError

    def _run(self, x: Tensor, form: Form) -> Tuple[Tensor, ...]:
        raise NotImplementedError

    def _clips(self, x: Tensor, form: Form) -> Tensor:
        """Maps ``(rows, C, H, W)`` as ``(N, groups, phases, C, H, W)``."""
        num_groups = self.num_frames // form.num_outputs
        if self.training and self.across_clips:
            num_groups = x.size(0) // form.num_phases
        return x.unflatten(0, (-1, num_groups, form.num_phases))
