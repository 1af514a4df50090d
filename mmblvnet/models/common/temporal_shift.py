from typing import Sequence, Tuple

import torch
from torch import Tensor

from .temporal_module import Form, TemporalModule, strided


class TemporalShift(TemporalModule):
    """Temporal shift in the places of the Temporal Aggregation Module.

    The first eighth of the channels comes from the next frame, the second
    from the previous one, zeros beyond the clip, as in `TSM
    <https://arxiv.org/abs/1811.08383>`_. A causal shift, as in its online
    models, takes the first eighth from the previous frame and nothing from
    the next. For its arguments see :class:`TemporalModule`.
    """

    # In bLVNet-TSM every shortcut takes the block's input.
    feeds_downsample = False
    shift_div = 8

    def offsets(self) -> Sequence[int]:
        """Where an eighth of the channels, another and the rest come from."""
        return (-1, 0) if self.causal else (1, -1, 0)

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        offsets = self.offsets()
        first, _ = form.span(offsets)
        channels = x.size(-3)
        sizes = [channels // self.shift_div] * (len(offsets) - 1)
        parts = x.split([*sizes, channels - sum(sizes)], -3)
        return tuple(
            torch.cat(
                [
                    strided(part, form.place(output, offset) - first, form.num_maps, num_groups)
                    for part, offset in zip(parts, offsets)
                ],
                -3,
            )
            for output in range(form.num_outputs)
        )
