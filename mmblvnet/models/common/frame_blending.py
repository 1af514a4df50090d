import os
from functools import lru_cache
from types import ModuleType
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd import Function

from .temporal_module import Form

CACHE_BYTES = 4 * 2**20


class Term(NamedTuple):
    """One weighted term of a blended frame."""

    # Which output it belongs to.
    output: int
    # Which map of a group is taken, and from which group, counted from the
    # output's.
    phase: int
    shift: int
    # The rows of the weights whose sum it is multiplied with.
    rows: range


def make_terms(offsets: Sequence[int], form: Form) -> Tuple[Term, ...]:
    """The terms of frames that are blended with those at ascending offsets.

    There is an offset for each row of the weights. Rows that meet the same
    map are added up in one term.
    """
    rows = {}
    for output in range(form.num_outputs):
        for row, offset in enumerate(offsets):
            shift, phase = divmod(form.place(output, offset), form.num_phases)
            key = (output, phase, shift)
            start = rows[key].start if key in rows else row
            rows[key] = range(start, row + 1)
    return tuple(Term(*key, own) for key, own in rows.items())


def by_output(terms: Tuple[Term, ...]) -> List[List[Term]]:
    """The terms of each output."""
    num_outputs = 1 + max(term.output for term in terms)
    return [[term for term in terms if term.output == output] for output in range(num_outputs)]


def factor_of(weight: Tensor, term: Term, dtype: torch.dtype) -> Tensor:
    """What a term is multiplied with, ``(C, 1, 1)``."""
    factor = weight[term.rows.start : term.rows.stop].sum(0)
    return factor.to(dtype)[:, None, None]


def _groups(num_groups: int, shift: int, part: slice) -> Tuple[slice, slice]:
    """Outputs of a part that a shift reaches, and the groups they read.

    The outputs are counted from the start of the part.
    """
    start = max(part.start, -shift)
    stop = max(start, min(part.stop, num_groups - shift))
    return (slice(start - part.start, stop - part.start), slice(start + shift, stop + shift))


def _cache_sized_parts(x: Tensor) -> Iterator[Tuple[slice, slice]]:
    """Clips and groups that a CPU works on without leaving its cache."""
    num_clips, num_groups = x.shape[:2]
    group_bytes = x.shape[2:].numel() * x.element_size()
    step = max(1, CACHE_BYTES // max(1, group_bytes))
    for clip in range(num_clips):
        for start in range(0, num_groups, step):
            yield (slice(clip, clip + 1), slice(start, min(start + step, num_groups)))


def _blend(x: Tensor, weight: Tensor, terms: Tuple[Term, ...]) -> List[Tensor]:
    """Weighted sums of frames and ReLU, each term in place in one pass."""
    everything = slice(0, x.size(1))
    outputs = []
    for own in by_output(terms):
        # A term of the group itself reaches every frame of the output.
        first = next(term for term in own if term.shift == 0)
        y = x[:, :, first.phase] * factor_of(weight, first, x.dtype)
        for term in own:
            if term is not first:
                to, source = _groups(x.size(1), term.shift, everything)
                y[:, to].addcmul_(x[:, source, term.phase], factor_of(weight, term, x.dtype))
        outputs.append(y.relu_())
    return outputs


def _blend_backward(
    x: Tensor, weight: Tensor, terms: Tuple[Term, ...], outputs: List[Tensor], grads: Sequence[Tensor]
) -> Tuple[Tensor, Tensor]:
    """The gradients of :func:`_blend`, part by part within the cache."""
    grad_x, grad_weight = torch.zeros_like(x), torch.zeros_like(weight)
    for clips, groups in _cache_sized_parts(x):
        masked = [
            torch.ops.aten.threshold_backward(grad[clips, groups], y[clips, groups], 0)
            for grad, y in zip(grads, outputs)
        ]
        for term in terms:
            to, source = _groups(x.size(1), term.shift, groups)
            grad = masked[term.output][:, to]
            frames = x[clips, source, term.phase]
            grad_x[clips, source, term.phase].addcmul_(grad, factor_of(weight, term, x.dtype))
            # Half precision is too coarse for so long a sum.
            grad_weight[term.rows.start : term.rows.stop] += (grad * frames).sum((0, 1, 3, 4), dtype=weight.dtype)
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

    One kernel on a GPU, and a pass per term elsewhere. Clips of groups of
    maps, ``(N, K, P, C, H, W)``, and weights ``(rows, C)`` give outputs ``(N,
    K, C, H, W)``. Groups outside a clip count as zero.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, terms: Tuple[Term, ...]) -> Tuple[Tensor, ...]:
        on_gpu = x.is_cuda or os.environ.get('TRITON_INTERPRET') == '1'
        ctx.kernels = _import_kernels() if on_gpu else None
        blend = ctx.kernels.blend if ctx.kernels else _blend
        outputs = blend(x, weight, terms)
        ctx.terms = terms
        ctx.save_for_backward(x, weight, *outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple:
        x, weight, *outputs = ctx.saved_tensors
        # Of the kernel there are no second derivatives.
        if ctx.kernels and not torch.is_grad_enabled():
            backward = ctx.kernels.blend_backward
        else:
            backward = _blend_backward
        return *backward(x, weight, ctx.terms, outputs, grads), None
