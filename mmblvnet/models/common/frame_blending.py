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


class Tap(NamedTuple):
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

    Args:
        num_phases (int): Maps per group of the input.
        num_outputs (int): Frames per group of the output.
        repeats (int): How many successive frames each map stands for.
    """
    num_phases: int
    num_outputs: int
    repeats: int

    def place(self, output: int, offset: int) -> int:
        """Which map of the input is blended into an output.

        Args:
            output (int): The frame of the group.
            offset (int): Where the blended frame is, counted from it.

        Returns:
            int: The map, counted from the group's first one.
        """
        return (output + offset) // self.repeats

    def span(self, offsets: Sequence[int]) -> Tuple[int, int]:
        """The first and the last map that a group of outputs needs.

        Args:
            offsets (Sequence[int]): Where the blended frames are.

        Returns:
            tuple[int]: Both, counted from the group's first map.
        """
        return (self.place(0, min(offsets)),
                self.place(self.num_outputs - 1, max(offsets)))


# One map per frame and output.
EACH = Form(num_phases=1, num_outputs=1, repeats=1)
# One map per frame; even and odd frames come out apart.
SPLIT = Form(num_phases=2, num_outputs=2, repeats=1)
# One map per pair of frames; even and odd frames come out apart.
PAIRS = Form(num_phases=1, num_outputs=2, repeats=2)


def make_taps(offsets: Sequence[int], form: Form) -> Tuple[Tap, ...]:
    """The terms of frames that are blended with their neighbours.

    Weights that meet the same map are added up in one term.

    Args:
        offsets (Sequence[int]): Where the blended frames are, counted from
            the current one; one for each row of the weights.
        form (Form): The form of the frames.

    Returns:
        tuple[Tap]: The terms.
    """
    rows = {}
    for output in range(form.num_outputs):
        for row, offset in enumerate(offsets):
            shift, phase = divmod(form.place(output, offset), form.num_phases)
            rows.setdefault((output, phase, shift), []).append(row)
    return tuple(
        Tap(output, phase, shift, tuple(own))
        for (output, phase, shift), own in rows.items())


def every(x: Tensor, first: int, step: int, count: int) -> Tensor:
    """Every so many maps of ``(.., maps, C, H, W)``.

    Args:
        x (Tensor): The maps.
        first (int): The first that is taken.
        step (int): From one to the next.
        count (int): How many are taken.

    Returns:
        Tensor: The maps that are taken, ``(.., count, C, H, W)``.
    """
    last = first + step * (count - 1)
    return x[..., first:last + 1:step, :, :, :]


def _groups(num_groups: int, shift: int,
            part: slice) -> Tuple[slice, slice]:
    """Outputs of a part that a shift reaches, and the groups they read.

    Args:
        num_groups (int): Groups of a clip.
        shift (int): From which group a term comes, counted from the output's.
        part (slice): Groups of outputs.

    Returns:
        tuple[slice]: The outputs, counted from the start of the part, and the
        groups.
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


def _by_output(taps: Tuple[Tap, ...]) -> List[List[Tap]]:
    """The terms of each output."""
    num_outputs = 1 + max(tap.output for tap in taps)
    return [[tap for tap in taps if tap.output == output]
            for output in range(num_outputs)]


def _factor(weight: Tensor, tap: Tap, dtype: torch.dtype) -> Tensor:
    """What a term is multiplied with, ``(C, 1, 1)``."""
    factor = weight[tap.rows[0]]
    for row in tap.rows[1:]:
        factor = factor + weight[row]
    return factor.to(dtype)[:, None, None]


def _blend(x: Tensor, weight: Tensor, taps: Tuple[Tap, ...]) -> List[Tensor]:
    """Weighted sums of frames and ReLU, each term in place in one pass."""
    everything = slice(0, x.size(1))
    outputs = []
    for own in _by_output(taps):
        # A term of the group itself reaches every frame of the output.
        first = next(tap for tap in own if tap.shift == 0)
        y = x[:, :, first.phase] * _factor(weight, first, x.dtype)
        for tap in own:
            if tap is not first:
                to, source = _groups(x.size(1), tap.shift, everything)
                y[:, to].addcmul_(x[:, source, tap.phase],
                                  _factor(weight, tap, x.dtype))
        outputs.append(y.relu_())
    return outputs


def _blend_backward(x: Tensor, weight: Tensor, taps: Tuple[Tap, ...],
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
        for tap in taps:
            to, source = _groups(x.size(1), tap.shift, groups)
            grad = masked[tap.output][:, to]
            frames = x[clips, source, tap.phase]
            grad_x[clips, source, tap.phase].addcmul_(
                grad, _factor(weight, tap, x.dtype))
            # Half precision is too coarse for so long a sum.
            grad_factor = (grad * frames).sum((0, 1, 3, 4),
                                              dtype=weight.dtype)
            for row in tap.rows:
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
                taps: Tuple[Tap, ...]) -> Tuple[Tensor, ...]:
        ctx.kernels = _kernels_for(x)
        blend = ctx.kernels.blend if ctx.kernels else _blend
        outputs = blend(x, weight, taps)
        ctx.taps = taps
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
        return *backward(x, weight, ctx.taps, outputs, grads), None


def blend_padded(x: Tensor, weight: Tensor, taps: Tuple[Tap, ...],
                 first: int, num_phases: int,
                 num_groups: int) -> Tuple[Tensor, ...]:
    """Blended frames, where the neighbours of the outermost ones are given.

    Args:
        x (Tensor): Maps, ``(.., maps, C, H, W)``.
        weight (Tensor): Weights per row and channel, ``(rows, C)``.
        taps (tuple[Tap]): The terms.
        first (int): The first map that an output needs, counted from the
            first map of the first group.
        num_phases (int): Maps per group.
        num_groups (int): Groups of outputs, K.

    Returns:
        tuple[Tensor]: The outputs, each of shape ``(.., K, C, H, W)``.
    """
    outputs = []
    for own in _by_output(taps):
        terms = [(every(x, tap.shift * num_phases + tap.phase - first,
                        num_phases, num_groups),
                  _factor(weight, tap, x.dtype)) for tap in own]
        if is_compiling() or torch.is_grad_enabled():
            y = sum(frames * factor for frames, factor in terms)
        else:
            y = terms[0][0] * terms[0][1]
            for frames, factor in terms[1:]:
                y.addcmul_(frames, factor)
        outputs.append(y.relu())
    return tuple(outputs)


def _blend_in_a_graph(x: Tensor, weight: Tensor,
                      taps: Tuple[Tap, ...]) -> Tuple[Tensor, ...]:
    """The same out of place: exported, sums into slices become scatters."""
    num_groups, num_phases = x.shape[1:3]
    shifts = [tap.shift for tap in taps]
    before, after = -min(shifts), max(shifts)
    # [N, before + K + after, P, C, H, W]
    padded = F.pad(x, (0, 0) * 4 + (before, after))
    return blend_padded(
        padded.flatten(1, 2), weight, taps, -before * num_phases, num_phases,
        num_groups)


def blend_frames(x: Tensor, weight: Tensor,
                 taps: Tuple[Tap, ...]) -> Tuple[Tensor, ...]:
    """Weighted sums of the frames of each clip, channel by channel, and ReLU.

    Args:
        x (Tensor): Clips of groups of frames, ``(N, K, P, C, H, W)``.
        weight (Tensor): Weights per row and channel, ``(rows, C)``.
        taps (tuple[Tap]): The terms. Groups outside the clip count as zero.

    Returns:
        tuple[Tensor]: The outputs, each of shape ``(N, K, C, H, W)``.
    """
    # Compilers fuse these operations with what stands before and behind.
    if is_compiling():
        return _blend_in_a_graph(x, weight, taps)
    return _BlendFrames.apply(x, weight, taps)
