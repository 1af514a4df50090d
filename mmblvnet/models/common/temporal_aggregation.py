from typing import Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from .frame_blending import BlendFrames, blend, make_terms
from .temporal_module import Form, TemporalModule


class TemporalAggregation(TemporalModule):
    """Depthwise Temporal Aggregation Module (TAM) of bLVNet-TAM.

    ``y[t] = ReLU(sum_j w[j] * x[t + j - floor(r / 2)])`` with a weight vector
    ``w[j]`` over the channels for each of the ``r`` blended frames. Clips
    never see each other's frames. From section 3.2 of `More Is Less
    <https://arxiv.org/abs/1912.00869>`_. It is not the temporal *adaptive*
    module of TANet that MMAction2 calls TAM. A causal module blends a frame
    with those before it: ``y[t] = ReLU(sum_j w[j] * x[t + j - (r - 1)])``.

    The weights are kept in depthwise 1x1 convolutions under the names of the
    published checkpoints: ``prev``, ``curr`` and ``next`` for ``r = 3``,
    otherwise ``blending_layers``.

    Args:
        channels (int): Channels of the input.
        num_frames (int): Frames per clip, ``T``.
        blend_frames (int): Frames that are blended, ``r``. Defaults to 3.
        causal (bool): Whether only earlier frames are blended into a frame.
            Defaults to False.
    """

    feeds_downsample = True

    def __init__(self, channels: int, num_frames: int, blend_frames: int = 3, causal: bool = False) -> None:
        # Kaiming normal, fan-out, as in the paper's code.
        super().__init__(num_frames, causal, dict(type='Kaiming', layer='Conv2d'))
        if blend_frames < 1:
            raise ValueError(f'blend_frames = {blend_frames}, but at least 1 frame has to be blended; the paper uses 3')
        self.blend_frames = blend_frames
        layers = [nn.Conv2d(channels, channels, 1, groups=channels, bias=False) for _ in range(blend_frames)]
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

    def offsets(self) -> Sequence[int]:
        """Where the blended frames are, one for each row of the weights."""
        before = self.blend_frames // 2
        if self.causal:
            before = self.blend_frames - 1
        return range(-before, self.blend_frames - before)

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        start, _ = form.span(self.offsets())
        terms = make_terms(self.offsets(), form, start)
        return tuple(blend(x, self.weight, terms, form.num_maps, num_groups))

    def run_clips(self, x: Tensor, form: Form) -> Tuple[Tensor, ...]:
        # Compilers fuse the operations with what stands before and behind,
        # and turn sums into slices, once exported, into scatters.
        if is_compiling():
            return super().run_clips(x, form)
        return BlendFrames.apply(x, self.weight, make_terms(self.offsets(), form), form.num_maps)
