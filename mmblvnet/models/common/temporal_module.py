from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class Form(NamedTuple):
    """Grouping of a temporal module's input maps and output frames.

    Indices of maps count from the first map of a group, which has index 0.
    """

    # Input maps per group.
    num_maps: int
    # Output frames per group. If there are more of them than maps, each map
    # stands for several successive frames.
    num_outputs: int

    def map_index(self, output: int, offset: int) -> int:
        """Return the index of the map that contains the frame at ``offset`` from an output frame."""
        return (output + offset) * self.num_maps // self.num_outputs

    def map_bounds(self, offsets: Sequence[int]) -> Tuple[int, int]:
        """Return the indices of the first and the last map that the outputs of a group need."""
        return (self.map_index(0, min(offsets)), self.map_index(self.num_outputs - 1, max(offsets)))


# One map per frame, in and out.
EACH = Form(num_maps=1, num_outputs=1)
# One map per frame; even and odd frames are returned separately.
SPLIT = Form(num_maps=2, num_outputs=2)
# One map per pair; even and odd frames are returned separately. As the map z[k]
# stands for the frames 2k and 2k + 1, the frame 2k + d is z[k + floor(d / 2)], and
# 2k + 1 + d is z[k + floor((d + 1) / 2)]: maps need not be repeated per frame.
PAIRS = Form(num_maps=1, num_outputs=2)


def strided(x: Tensor, first: int, step: int, count: int) -> Tensor:
    """Return ``count`` maps of ``(.., maps, C, H, W)``: those at first, first + step, .."""
    return x[..., first : first + step * (count - 1) + 1 : step, :, :, :]


@dataclass
class StreamStep:
    """State of one forward pass (step) over the new frames of one or more streams.

    A group is a pair of frames if the network fuses pairs, otherwise one frame.
    All streams of a step have the same number of new groups. A module that looks
    ahead lags behind: in each step it finishes the frames whose neighbours
    have all arrived, and keeps the last maps for the next step::

        kept from earlier steps | new     -> finished: 1 2 (r = 3)
                            0 1 | 2 3        kept:     2 3
    """

    # The maps each module kept from earlier steps, (streams * kept, C, H, W),
    # by module name; empty before the first step. The step replaces them.
    maps: Dict[str, Tensor]
    # Index of the first new group of each stream, (streams, ).
    first: Tensor
    # Frames of each stream, (streams, ); a large number until it has ended.
    num_frames: Tensor
    # Frames per group.
    group: int
    # Frames by which the input starts before the first new group; it applies
    # up to the module that splits frames into pairs.
    lead_frames: int = 0
    # Whether every map surely lies inside its stream, so that none is masked.
    all_inside: bool = False
    # Lag, in groups, of the maps that enter the next module; modules add to it.
    delay: int = field(default=0, init=False)

    def prepend_kept(self, name: str, x: Tensor, form: Form, offsets: Sequence[int]) -> Tuple[Tensor, int]:
        """Prepend the maps that a module has kept to its new ones.

        New maps ``(streams * maps, C, H, W)`` become ``(streams, maps, C, H, W)``,
        or ``(maps, C, H, W)`` for a single stream, since some runtimes support
        at most four dimensions. The second result is the number of groups of
        each stream that the module can finish.
        """
        num_streams, per_group = self.first.size(0), form.num_maps
        num_groups = x.size(0) // (num_streams * per_group)
        lead = self.lead_frames if form == SPLIT else 0
        first, last = form.map_bounds(offsets)
        num_kept = per_group * (last // per_group) - lead - first
        x = self._mask_outside(x, per_group, lead)
        kept = self.maps.get(name)
        if kept is None:
            kept = x.new_zeros(num_streams * num_kept, *x.shape[1:])
        parts = [kept, x] if num_streams == 1 else [maps.unflatten(0, (num_streams, -1)) for maps in (kept, x)]
        maps = torch.cat(parts, -4)
        kept = strided(maps, maps.size(-4) - num_kept, 1, num_kept).flatten(0, -4)
        # Without the clone, the view would keep all maps of the step alive.
        self.maps[name] = kept.clone() if num_groups > 1 else kept
        self.delay += last // per_group
        return maps, num_groups

    def _mask_outside(self, x: Tensor, per_group: int, lead: int) -> Tensor:
        """Set maps before the start or after the end of their stream to zero."""
        if self.all_inside:
            return x
        num_maps = x.size(0) // self.first.size(0)
        start = (self.first - self.delay) * per_group - lead
        # [streams, maps]
        index = start[:, None] + torch.arange(num_maps, device=x.device)
        # A map is past the end if any of its frames is; written without a division.
        length = self.num_frames[:, None] * per_group
        ended = (index + 1) * self.group > length
        inside = (index >= 0) & ~ended
        return torch.where(inside.reshape(-1, 1, 1, 1), x, 0)


class TemporalModule(BaseModule):
    """Base of the layers that mix the ``T`` = ``num_frames`` frames of a clip, or a stream.

    A causal module mixes a frame with earlier ones only.
    """

    # Whether a downsampling shortcut around the module takes its output.
    feeds_downsample: bool

    def __init__(self, num_frames: int, causal: bool = False, init_cfg: dict = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_frames < 1:
            raise ValueError(f'num_segments = {num_frames} is less than 1: give the frames per clip')
        self.num_frames = num_frames
        self.causal = causal
        # Whether the clips of a training batch are consecutive parts of a stream.
        self.across_clips = False
        # The current StreamStep and the module's name in it; None for clips.
        self.step: Optional[StreamStep] = None
        self.name = ''

    def forward(self, x: Tensor, form: Form = EACH) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        """Run on the frames of clips, or on the new frames of the current step.

        ``x`` is ``(N * T, C, H, W)`` or, for ``PAIRS``, ``(N * T / 2, C, H, W)``.
        For ``PAIRS`` and ``SPLIT`` the result is a tuple: even and odd frames.
        """
        if self.step is not None:
            maps, num_groups = self.step.prepend_kept(self.name, x, form, self.offsets())
            outputs = self.run_padded(maps, form, num_groups)
        else:
            num_groups = self.num_frames // form.num_outputs
            if self.training and self.across_clips:
                num_groups = x.size(0) // form.num_maps
            outputs = self.run_clips(x.unflatten(0, (-1, num_groups * form.num_maps)), form, num_groups)
        outputs = tuple(y.flatten(0, -4) for y in outputs)
        return outputs if form.num_outputs > 1 else outputs[0]

    def with_input(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Return input and output frames of the same times: the former feed a residual's shortcut."""
        if self.step is None:
            return x, self(x)
        # A stream's output lags behind its input, so kept maps are returned.
        maps, num_groups = self.step.prepend_kept(self.name, x, EACH, self.offsets())
        (y,) = self.run_padded(maps, EACH, num_groups)
        return strided(maps, -min(self.offsets()), 1, num_groups).flatten(0, -4), y.flatten(0, -4)

    def offsets(self) -> Sequence[int]:
        """Return the offsets of the mixed frames from the current one."""
        raise NotImplementedError

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        """Run on maps that already include the neighbours of all output frames.

        ``x`` is ``(.., maps, C, H, W)``: all maps from the first that the first
        of the K = ``num_groups`` groups needs to the last that the last one
        needs. Each of the outputs is ``(.., K, C, H, W)``.
        """
        raise NotImplementedError

    def run_clips(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        """Run on the maps of clips, ``(N, maps, C, H, W)``, with zeros beyond each clip."""
        first, last = form.map_bounds(self.offsets())
        padded = F.pad(x, (0, 0) * 3 + (-first, last - form.num_maps + 1))
        return self.run_padded(padded, form, num_groups)


class TemporalShift(TemporalModule):
    """Temporal shift that replaces the Temporal Aggregation Module in bLVNet-TSM.

    The first eighth of the channels comes from the next frame, the second
    from the previous one, with zeros beyond the clip, as in `TSM
    <https://arxiv.org/abs/1811.08383>`_. A causal shift, as in its online
    models, takes the first eighth from the previous frame and nothing from
    the next. For its arguments see :class:`TemporalModule`.
    """

    # In bLVNet-TSM every shortcut takes the block's input.
    feeds_downsample = False
    shift_div = 8

    def offsets(self) -> Sequence[int]:
        """Return the source offset of each shifted eighth of the channels, and of the rest."""
        return (-1, 0) if self.causal else (1, -1, 0)

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        offsets = self.offsets()
        first, _ = form.map_bounds(offsets)
        channels = x.size(-3)
        sizes = [channels // self.shift_div] * (len(offsets) - 1)
        parts = x.split([*sizes, channels - sum(sizes)], -3)
        outputs = []
        for output in range(form.num_outputs):
            starts = [form.map_index(output, offset) - first for offset in offsets]
            frames = [strided(part, start, form.num_maps, num_groups) for part, start in zip(parts, starts)]
            outputs.append(torch.cat(frames, -3))
        return tuple(outputs)


def check_frames(backbone: nn.Module, frames: Tensor) -> None:
    """Raise a ValueError if frames are not a batch of whole clips, which would mix videos.

    A backbone takes ``(N * num_segments, in_channels, H, W)`` with H, W > 0, and
    one without ``num_segments`` any number of images.
    """
    name, num_segments = type(backbone).__name__, getattr(backbone, 'num_segments', 1)
    if frames.dim() != 4 or frames.size(1) != backbone.in_channels or 0 in frames.shape[2:]:
        raise ValueError(
            f'{name} expects frames (N * num_segments, {backbone.in_channels}, H, W), got {tuple(frames.shape)}: set '
            "its in_channels, and format the frames with FormatShape(input_format='NCHW')"
        )
    if frames.size(0) % num_segments:
        raise ValueError(
            f'{name} got {frames.size(0)} frames, not a multiple of num_segments = {num_segments}: set its '
            'num_segments to the frames per clip of the sampler in the pipeline'
        )
