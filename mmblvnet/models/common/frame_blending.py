import os
from functools import lru_cache
from types import ModuleType
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.compiler import is_compiling

from .temporal_module import Form, TemporalModule

CACHE_BYTES = 4 * 2**20


class Term(NamedTuple):
    """One weighted term of a blended frame."""

    # Which output of a group it belongs to.
    output: int
    # Which map it takes, counted from the first one of the group.
    place: int
    # The rows of the weights whose sum it is multiplied with.
    rows: range

    def factor(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """What it is multiplied with, ``(C, 1, 1)``."""
        return weight[self.rows.start : self.rows.stop].sum(0).to(dtype)[:, None, None]

    def reach(self, num_maps: int, step: int, groups: slice) -> Tuple[slice, slice]:
        """Which of some groups have it, and which maps it takes for them.

        The groups are counted from the first of them.
        """
        start = max(groups.start, -(self.place // step))
        stop = max(start, min(groups.stop, (num_maps - 1 - self.place) // step + 1))
        first = start * step + self.place
        # No further than the last map, or exporters ask how many there are.
        maps = slice(first, max(first, first + (stop - start - 1) * step + 1), step)
        return slice(start - groups.start, stop - groups.start), maps


def make_terms(offsets: Sequence[int], form: Form, start: int = 0) -> Tuple[Term, ...]:
    """The terms of frames that are blended with those at ascending offsets.

    There is an offset for each row of the weights. Rows that meet the same
    map are added up in one term. The maps begin with number ``start`` of the
    first group.
    """
    rows: Dict[Tuple[int, int], List[int]] = {}
    for output in range(form.num_outputs):
        for row, offset in enumerate(offsets):
            rows.setdefault((output, form.place(output, offset) - start), []).append(row)
    return tuple(Term(*key, range(own[0], own[-1] + 1)) for key, own in rows.items())


def blend(
    x: Tensor, weight: Tensor, terms: Tuple[Term, ...], step: int, num_groups: int, num_maps: int
) -> List[Tensor]:
    """Weighted sums of frames and ReLU, each term in place in one pass.

    Maps ``(.., M, C, H, W)`` with ``step`` of them per group give outputs
    ``(.., K, C, H, W)``. Maps beyond them count as zero. M is told, since
    exporters take the size for a variable.
    """
    everything = slice(0, num_groups)
    outputs = []
    for output in range(1 + max(term.output for term in terms)):
        own = [(term, *term.reach(num_maps, step, everything)) for term in terms if term.output == output]
        # One that every group has comes first.
        complete = next(i for i, (_, groups, _) in enumerate(own) if groups == everything)
        own.insert(0, own.pop(complete))
        y = None
        for term, groups, maps in own:
            frames, factor = x[..., maps, :, :, :], term.factor(weight, x.dtype)
            if y is None:
                y = frames * factor
            elif is_compiling():
                y = y + frames * factor
            else:
                y[..., groups, :, :, :].addcmul_(frames, factor)
        outputs.append(y.relu_())
    return outputs


def _blend_backward(
    x: Tensor, weight: Tensor, terms: Tuple[Term, ...], step: int, outputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> Tuple[Tensor, Tensor]:
    """The gradients of :func:`blend`, part by part within a CPU's cache."""
    grad_x, grad_weight = torch.zeros_like(x), torch.zeros_like(weight)
    num_clips, num_maps = x.shape[:2]
    group_bytes = step * x.shape[2:].numel() * x.element_size()
    length = max(1, CACHE_BYTES // max(1, group_bytes))
    for clip in range(num_clips):
        for start in range(0, num_maps // step, length):
            part = slice(start, min(start + length, num_maps // step))
            masked = [
                torch.ops.aten.threshold_backward(grad[clip, part], y[clip, part], 0) for grad, y in zip(grads, outputs)
            ]
            for term in terms:
                groups, maps = term.reach(num_maps, step, part)
                grad = masked[term.output][groups]
                grad_x[clip, maps].addcmul_(grad, term.factor(weight, x.dtype))
                # Half precision is too coarse for so long a sum.
                total = (grad * x[clip, maps]).sum((0, 2, 3), dtype=weight.dtype)
                grad_weight[term.rows.start : term.rows.stop] += total
    return grad_x, grad_weight


@lru_cache(maxsize=None)
def _import_kernels() -> Optional[ModuleType]:
    # PyTorch for CPUs, macOS and Windows comes without Triton, and PyTorch
    # before 2.8 with one that is too old.
    try:
        from . import frame_blending_triton
    except ImportError:
        return None
    return frame_blending_triton


class BlendFrames(Function):
    """Weighted sums of the frames of each clip, channel by channel, and ReLU.

    One kernel on a GPU, and a pass per term elsewhere. The maps of clips,
    ``(N, M, C, H, W)``, of which each group has ``step``, and weights ``(rows,
    C)`` give outputs ``(N, M / step, C, H, W)``.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, terms: Tuple[Term, ...], step: int) -> Tuple[Tensor, ...]:
        on_gpu = x.is_cuda or os.environ.get('TRITON_INTERPRET') == '1'
        ctx.kernels = _import_kernels() if on_gpu else None
        if ctx.kernels:
            outputs = ctx.kernels.blend(x, weight, terms, step)
        else:
            outputs = blend(x, weight, terms, step, x.size(1) // step, x.size(1))
        ctx.terms, ctx.step = terms, step
        ctx.save_for_backward(x, weight, *outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple:
        x, weight, *outputs = ctx.saved_tensors
        # Of the kernel there are no second derivatives.
        with_kernels = ctx.kernels and not torch.is_grad_enabled()
        backward = ctx.kernels.blend_backward if with_kernels else _blend_backward
        return *backward(x, weight, ctx.terms, ctx.step, outputs, grads), None, None


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
        num_frames (int): Frames per clip, ``T``, at least 1.
        blend_frames (int): Frames that are blended, ``r``, at least 1.
        causal (bool): Whether only earlier frames are blended into a frame.
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
        layers = (self.prev, self.curr, self.next) if self.blend_frames == 3 else self.blending_layers
        return torch.stack([layer.weight.flatten() for layer in layers])

    def offsets(self) -> Sequence[int]:
        """Where the blended frames are, one for each row of the weights."""
        before = self.blend_frames - 1 if self.causal else self.blend_frames // 2
        return range(-before, self.blend_frames - before)

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        first, last = form.span(self.offsets())
        terms, num_maps = make_terms(self.offsets(), form, first), (num_groups - 1) * form.num_maps + last - first + 1
        return tuple(blend(x, self.weight, terms, form.num_maps, num_groups, num_maps))

    def run_clips(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        # Compilers fuse the operations with what stands before and behind,
        # and turn sums into slices, once exported, into scatters.
        if is_compiling():
            return super().run_clips(x, form, num_groups)
        return BlendFrames.apply(x, self.weight, make_terms(self.offsets(), form), form.num_maps)
