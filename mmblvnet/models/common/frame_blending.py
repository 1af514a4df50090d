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
    """One weighted term of the sum that makes a blended frame."""

    # Index of the output frame within its group.
    output: int
    # Index of the input map, counted from the first one of the group.
    map_index: int
    # Rows of the weights (r, C), whose sum is the factor of the map.
    rows: range

    def factor(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the factor of the term per channel, ``(C, 1, 1)``."""
        return weight[self.rows.start : self.rows.stop].sum(0).to(dtype)[:, None, None]

    def valid_slices(self, num_maps: int, step: int, groups: slice) -> Tuple[slice, slice]:
        """Return the groups for which the term's map exists, and the maps.

        The returned slice of groups is relative to the start of ``groups``.
        """
        start = max(groups.start, -(self.map_index // step))
        stop = max(start, min(groups.stop, (num_maps - 1 - self.map_index) // step + 1))
        first = start * step + self.map_index
        # Ends at the last map, or exporters would query the size of the maps.
        maps = slice(first, max(first, first + (stop - start - 1) * step + 1), step)
        return slice(start - groups.start, stop - groups.start), maps


def make_terms(offsets: Sequence[int], form: Form, start: int = 0) -> Tuple[Term, ...]:
    """Return the terms that blend each frame with those at ascending ``offsets``.

    Each row of the weights has one offset. Rows that multiply the same map
    become one term. ``start`` is the index, within the first group, of the first
    map of the input: negative if the input begins before that group.
    """
    rows: Dict[Tuple[int, int], List[int]] = {}
    for output in range(form.num_outputs):
        for row, offset in enumerate(offsets):
            rows.setdefault((output, form.map_index(output, offset) - start), []).append(row)
    return tuple(Term(*key, range(own[0], own[-1] + 1)) for key, own in rows.items())


def blend(
    x: Tensor, weight: Tensor, terms: Tuple[Term, ...], step: int, num_groups: int, num_maps: int
) -> List[Tensor]:
    """Return the ReLU of weighted sums of frames, adding each term in place in one pass.

    Maps ``(.., M, C, H, W)``, ``step`` per group, give one ``(.., K, C, H, W)``
    per output of a group, with K = ``num_groups``. Maps outside count as zero.
    ``num_maps`` is M, which exporters would read from ``x`` as a dynamic size.
    """
    all_groups = slice(0, num_groups)
    outputs = []
    for output in range(1 + max(term.output for term in terms)):
        own = [(term, *term.valid_slices(num_maps, step, all_groups)) for term in terms if term.output == output]
        # A term that all groups have comes first: its product has the full size.
        complete = next(i for i, (_, groups, _) in enumerate(own) if groups == all_groups)
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
    """Return the gradients of ``x`` and ``weight``, in chunks of groups that fit a CPU's cache."""
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
                groups, maps = term.valid_slices(num_maps, step, part)
                grad = masked[term.output][groups]
                grad_x[clip, maps].addcmul_(grad, term.factor(weight, x.dtype))
                # Half precision is too coarse for so long a sum.
                total = (grad * x[clip, maps]).sum((0, 2, 3), dtype=weight.dtype)
                grad_weight[term.rows.start : term.rows.stop] += total
    return grad_x, grad_weight


@lru_cache(maxsize=None)
def _import_kernels() -> Optional[ModuleType]:
    # PyTorch for CPUs, macOS and Windows comes without Triton, and PyTorch
    # before 2.8 with a version that is too old.
    try:
        from . import frame_blending_triton
    except ImportError:
        return None
    return frame_blending_triton


class BlendFrames(Function):
    """Channelwise weighted sums of the frames of each clip, and ReLU.

    It runs as one kernel on a GPU, and as one pass per term elsewhere. The maps
    of clips ``(N, M, C, H, W)``, ``step`` of them per group, and weights ``(r,
    C)`` give one ``(N, M / step, C, H, W)`` per output of a group.
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
        # The kernels have no second derivative; the PyTorch operations do.
        with_kernels = ctx.kernels and not torch.is_grad_enabled()
        backward = ctx.kernels.blend_backward if with_kernels else _blend_backward
        return *backward(x, weight, ctx.terms, ctx.step, outputs, grads), None, None


class TemporalAggregation(TemporalModule):
    """Depthwise Temporal Aggregation Module (TAM) of bLVNet-TAM.

    ``y[t] = ReLU(sum_j w[j] * x[t + j - floor(r / 2)])`` with a weight vector
    ``w[j]`` over the channels for each of the ``r`` blended frames, and zeros
    beyond the clip. From section 3.2 of `More Is Less
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
        causal (bool): Whether only the current and earlier frames are blended.
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
        """Tensor: The weights ``(r, C)``, from the earliest frame to the latest."""
        layers = (self.prev, self.curr, self.next) if self.blend_frames == 3 else self.blending_layers
        return torch.stack([layer.weight.flatten() for layer in layers])

    def offsets(self) -> Sequence[int]:
        """Return the offset of each blended frame from the current one, in the order of the weights."""
        before = self.blend_frames - 1 if self.causal else self.blend_frames // 2
        return range(-before, self.blend_frames - before)

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        first, last = form.map_bounds(self.offsets())
        terms, num_maps = make_terms(self.offsets(), form, first), (num_groups - 1) * form.num_maps + last - first + 1
        return tuple(blend(x, self.weight, terms, form.num_maps, num_groups, num_maps))

    def run_clips(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        # Compilers fuse plain operations with their neighbours. In an export,
        # in-place sums into slices would become scatters; padded sums do not.
        if is_compiling():
            return super().run_clips(x, form, num_groups)
        return BlendFrames.apply(x, self.weight, make_terms(self.offsets(), form), form.num_maps)
