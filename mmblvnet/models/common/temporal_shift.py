from typing import Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .frame_blending import Form, strided
from .temporal_module import TemporalModule


class TemporalShift(TemporalModule):
    """Temporal shift in the places of the Temporal Aggregation Module.

    The first eighth of the channels comes from the next frame, the second
    from the previous one, zeros beyond the clip, as in `TSM
    <https://arxiv.org/abs/1811.08383>`_. A causal shift, as in its online
    models, takes the first eighth from the previous frame and nothing from
    the next.

    Args:
        num_frames (int): Frames per clip, ``T``.
        causal (bool): Whether nothing comes from later frames. Defaults to
            False.
    """

    # In bLVNet-TSM every shortcut takes the block's input.
    feeds_downsample = False
    shift_div = 8

    def __init__(self, num_frames: int, causal: bool = False) -> None:
        super().__init__(num_frames)
        self.causal = causal

    def offsets(self) -> Sequence[int]:
        """Where an eighth of the channels, another and the rest come from."""
        return (-1, 0) if self.causal else (1, -1, 0)

    def blend_padded(self, x: Tensor, form: Form,
                     num_groups: int) -> Tuple[Tensor, ...]:
        """See :meth:`TemporalModule.blend_padded`."""
        offsets = self.offsets()
        first, _ = form.span(offsets)
        channels = x.size(-3)
        sizes = [channels // self.shift_div] * (len(offsets) - 1)
        parts = x.split([*sizes, channels - sum(sizes)], -3)
        return tuple(
            torch.cat([
                strided(part, form.place(output, offset) - first,
                        form.num_phases, num_groups)
                for part, offset in zip(parts, offsets)
            ], -3) for output in range(form.num_outputs))

    def _run(self, x: Tensor, form: Form) -> Tuple[Tensor, ...]:
        clips = self._clips(x, form)
        first, last = form.span(self.offsets())
        padded = F.pad(
            clips.flatten(1, 2),
            (0, 0) * 3 + (-first, last - form.num_phases + 1))
        outputs = self.blend_padded(padded, form, clips.size(1))
        return tuple(y.flatten(0, 1) for y in outputs)
