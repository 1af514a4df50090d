import os
from functools import lru_cache
from types import ModuleType
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

CACHE_BYTES = 4 * 2**20


class Term(NamedTuple):
    """One weighted term of a blended frame.

    Args:
        output (int): Which output the term belongs to.
        phase (int): Which of the frames of a group is taken.
        shift (int): From which group, counted from the output's.
        rows (tuple[int]): The rows of the weights whose sum it is multiplied
            with.
    """
    output: int
    phase: int
    shift: int
    rows: Tuple[int, ...]


class Form(NamedTuple):
    """In which form frames go into a temporal module and come out of it.

    Maps are counted from the first one of a group.

    Args:
        num_phases (int): Maps per group of the input.
        num_outputs (int): Frames per group of the output.
        repeats (int): How many successive frames each map stands for.
    """
    num_phases: int
    num_outputs: int
    repeats: int

    def place(self, output: int, offset: int) -> int:
        """Which map is ``offset`` frames from an output of its group."""
        return (output + offset) // self.repeats

    def span(self, offsets: Sequence[int]) -> Tuple[int, int]:
        """The first and the last map that a group of outputs needs."""
        return (self.place(0, min(offsets)),
                self.place(self.num_outputs - 1, max(offsets)))


# One map per frame and output.
EACH = Form(num_phases=1, num_outputs=1, repeats=1)
# One map per frame; even and odd frames come out apart.
SPLIT = Form(num_phases=2, num_outputs=2, repeats=1)
# One map per pair of frames; even and odd frames come out apart.
PAIRS = Form(num_phases=1, num_outputs=2, repeats=2)


def make_terms(offsets: Sequence[int], form: Form) -> Tuple[Term, ...]:
    """The terms of frames that are blended with those at some offsets.

    There is an offset for each row of the weights. Rows that meet the same
    map are added up in one term.
    """
    rows = {}
    for output in range(form.num_outputs):
        for row, offset in enumerate(offsets):
            shift, phase = divmod(form.place(output, offset), form.num_phases)
            rows.setdefault((output, phase, shift), []).append(row)
    return tuple(
        Term(output, phase, shift, tuple(own))
        for (output, phase, shift), own in rows.items())


def strided(x: Tensor, first: int, step: int, count: int) -> Tensor:
    """``count`` maps of ``(.., maps, C, H, W)``: first, first + step, .."""
    last = first + step * (count - 1)
    return x[..., first:last + 1:step, :, :, :]


def _groups(num_groups: int, shift: int,
            part: slice) -> Tuple[slice, slice]:
    """Outputs of a part that a shift reaches, and the groups they read.

    The outputs are counted from the start of the part.
    """
    start = max(part.start, -shift)
    stop = max(start, min(part.stop, num_groups - shift))
    return (slice(start - part.start, stop - part.start),
            slice(start + shift, stop + shift))


def _cache_sized_parts(x: Tensor) -> Iterator[Tuple[slice, slice]]:
    """Clips and groups that a CPU works on without leaving its cache."""
    num_clips, num_groups = x.shape[:2]
    group_bytes = x.shape[2:].numel() * x.element_size()
    step = max(1, CACHE_BYTES // max(1, group_bytes))
    for clip in range(num_clips):
        for start in range(0, num_groups, step):
            yield (slice(clip, clip + 1),
                   slice(start, min(start + step, num_groups)))


def _by_output(terms: Tuple[Term, ...]) -> List[List[Term]]:
    """The terms of each output."""
    num_outputs = 1 + max(term.output for term in terms)
    return [[term for term in terms if term.output == output]
            for output in range(num_outputs)]


def _factor(weight: Tensor, term: Term, dtype: torch.dtype) -> Tensor:
    """What a term is multiplied with, ``(C, 1, 1)``."""
    factor = weight[term.rows[0]]
    for row in term.rows[1:]:
        factor = factor + weight[row]
    return factor.to(dtype)[:, None, None]


def _blend(x: Tensor, weight: Tensor, terms: Tuple[Term, ...]) -> List[Tensor]:
    """Weighted sums of frames and ReLU, each term in place in one pass."""
    everything = slice(0, x.size(1))
    outputs = []
    for own in _by_output(terms):
        # A term of the group itself reaches every frame of the output.
        first = next(term for term in own if term.shift == 0)
        y = x[:, :, first.phase] * _factor(weight, first, x.dtype)
        for term in own:
            if term is not first:
                to, source = _groups(x.size(1), term.shift, everything)
                y[:, to].addcmul_(x[:, source, term.phase],
                                  _factor(weight, term, x.dtype))
        outputs.append(y.relu_())
    return outputs


def _blend_backward(x: Tensor, weight: Tensor, terms: Tuple[Term, ...],
                    outputs: List[Tensor],
                    grads: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
    """The gradients of :func:`_blend`, part by part within the cache."""
    grad_x = torch.zeros_like(x)
    grad_weight = [torch.zeros_like(row) for row in weight]
    for clips, groups in _cache_sized_parts(x):
        masked = [
            torch.ops.aten.threshold_backward(grad[clips, groups],
                                              y[clips, groups], 0)
            for grad, y in zip(grads, outputs)
        ]
        for term in terms:
            to, source = _groups(x.size(1), term.shift, groups)
            grad = masked[term.output][:, to]
            frames = x[clips, source, term.phase]
            grad_x[clips, source, term.phase].addcmul_(
                grad, _factor(weight, term, x.dtype))
            # Half precision is too coarse for so long a sum.
            grad_factor = (grad * frames).sum((0, 1, 3, 4),
                                              dtype=weight.dtype)
            for row in term.rows:
                grad_weight[row] = grad_weight[row] + grad_factor
    return grad_x, torch.stack(grad_weight)


@lru_cache(maxsize=None)
def _import_kernels() -> Optional[ModuleType]:
    # PyTorch for CPUs, macOS and Windows comes without Triton, and PyTorch
    # before 2.8 with one that is too old.
    try:
        from . import frame_blending_triton
    except ImportError:
        return None
    return frame_blending_triton


def _kernels_for(x: Tensor) -> Optional[ModuleType]:
    """The kernels, if there are some for the device of a tensor."""
    if x.is_cuda or os.environ.get('TRITON_INTERPRET') == '1':
        return _import_kernels()
    return None


class _BlendFrames(Function):
    """Blended frames: one kernel on a GPU, a pass per term on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor,
                terms: Tuple[Term, ...]) -> Tuple[Tensor, ...]:
        ctx.kernels = _kernels_for(x)
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


def blend_padded(x: Tensor, weight: Tensor, terms: Tuple[Term, ...],
                 first: int, num_phases: int,
                 num_groups: int) -> Tuple[Tensor, ...]:
    """Blended frames, where the neighbours of the outermost ones are given.

    Args:
        x (Tensor): Maps, ``(.., maps, C, H, W)``.
        weight (Tensor): Weights per row and channel, ``(rows, C)``.
        terms (tuple[Term]): The terms.
        first (int): The first map that an output needs, counted from the
            first map of the first group.
        num_phases (int): Maps per group.
        num_groups (int): Groups of outputs, K.

    Returns:
        tuple[Tensor]: The outputs, each of shape ``(.., K, C, H, W)``.
    """
    outputs = []
    for own in _by_output(terms):
        weighted = [
            (strided(x, term.shift * num_phases + term.phase - first,
                     num_phases, num_groups), _factor(weight, term, x.dtype))
            for term in own
        ]
        if is_compiling() or torch.is_grad_enabled():
            y = sum(frames * factor for frames, factor in weighted)
        else:
            y = weighted[0][0] * weighted[0][1]
            for frames, factor in weighted[1:]:
                y.addcmul_(frames, factor)
        outputs.append(y.relu())
    return tuple(outputs)


def _blend_in_a_graph(x: Tensor, weight: Tensor,
                      terms: Tuple[Term, ...]) -> Tuple[Tensor, ...]:
    """The same out of place: exported, sums into slices become scatters."""
    num_groups, num_phases = x.shape[1:3]
    shifts = [term.shift for term in terms]
    before, after = -min(shifts), max(shifts)
    # [N, before + K + after, P, C, H, W]
    padded = F.pad(x, (0, 0) * 4 + (before, after))
    return blend_padded(
        padded.flatten(1, 2), weight, terms, -before * num_phases, num_phases,
        num_groups)


def blend_frames(x: Tensor, weight: Tensor,
                 terms: Tuple[Term, ...]) -> Tuple[Tensor, ...]:
    """Weighted sums of the frames of each clip, channel by channel, and ReLU.

    Args:
        x (Tensor): Clips of groups of frames, ``(N, K, P, C, H, W)``.
        weight (Tensor): Weights per row and channel, ``(rows, C)``.
        terms (tuple[Term]): The terms. Groups outside the clip count as zero.

    Returns:
        tuple[Tensor]: The outputs, each of shape ``(N, K, C, H, W)``.
    """
    # Compilers fuse these operations with what stands before and behind.
    if is_compiling():
        return _blend_in_a_graph(x, weight, terms)
    return _BlendFrames.apply(x, weight, terms)
