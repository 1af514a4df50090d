from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class Form(NamedTuple):
    """In which groups frames go into a temporal module and come out of it.

    Maps are counted from the first one of a group.
    """

    # Maps per group of the input.
    num_maps: int
    # Frames per group of the output. Where they are more, each map stands for
    # several successive frames.
    num_outputs: int

    def place(self, output: int, offset: int) -> int:
        """Which map is ``offset`` frames from an output of its group."""
        return (output + offset) * self.num_maps // self.num_outputs

    def span(self, offsets: Sequence[int]) -> Tuple[int, int]:
        """The first and the last map that a group of outputs needs."""
        return (self.place(0, min(offsets)), self.place(self.num_outputs - 1, max(offsets)))


# One map per frame and output.
EACH = Form(num_maps=1, num_outputs=1)
# One map per frame; even and odd frames come out apart.
SPLIT = Form(num_maps=2, num_outputs=2)
# One map per pair of frames; even and odd frames come out apart. With the map
# z[k] for 2k and 2k + 1, the frame 2k + d is z[k + floor(d / 2)] and the frame
# 2k + 1 + d is z[k + floor((d + 1) / 2)]: no copies are needed.
PAIRS = Form(num_maps=1, num_outputs=2)


def strided(x: Tensor, first: int, step: int, count: int) -> Tensor:
    """``count`` maps of ``(.., maps, C, H, W)``: first, first + step, .."""
    return x[..., first : first + step * (count - 1) + 1 : step, :, :, :]


@dataclass
class StreamStep:
    """One step of some streams through a network, group by group of frames.

    A group is a pair of frames where the network fuses pairs, or a frame. All
    streams of a step get the same number of new groups. A module that needs
    later frames runs late: in each step it finishes the frames whose
    neighbours have all arrived, and keeps the last maps for the next step::

        kept of earlier steps | new       -> finished: 1 2 (r = 3)
                          0 1 | 2 3          kept:     2 3
    """

    # What each module has kept of earlier steps, (streams * kept, C, H, W);
    # empty before the first. The step puts its own maps in their place.
    maps: Dict[str, Tensor]
    # The number of the first new group of each stream.
    first: Tensor
    # Frames of each stream; a large number while it has not ended.
    num_frames: Tensor
    # Frames per group.
    group: int
    # By how many frames the step starts before its first group, where pairs
    # are not fused yet.
    lead: int = 0
    # Whether all frames that any module sees are known to lie within streams.
    within: bool = False
    # Groups by which the maps at this place of the network are late.
    delay: int = field(default=0, init=False)

    def extend(self, name: str, x: Tensor, form: Form, offsets: Sequence[int]) -> Tuple[Tensor, int]:
        """Put the maps that a module has kept before the new ones.

        The new maps are ``(streams * maps, C, H, W)``. All of them are
        ``(streams, maps, C, H, W)``, and those of a single stream ``(maps, C,
        H, W)``: some run-times know no more than four dimensions. The second
        result is how many groups the module can finish by them.
        """
        num_streams, per_group = self.first.size(0), form.num_maps
        num_groups = x.size(0) // (num_streams * per_group)
        lead = self.lead if form == SPLIT else 0
        first, last = form.span(offsets)
        num_kept = per_group * (last // per_group) - lead - first
        x = self._mask_outside(x, per_group, lead)
        kept = self.maps.get(name)
        if kept is None:
            kept = x.new_zeros(num_streams * num_kept, *x.shape[1:])
        parts = [kept, x] if num_streams == 1 else [maps.unflatten(0, (num_streams, -1)) for maps in (kept, x)]
        maps = torch.cat(parts, -4)
        kept = strided(maps, maps.size(-4) - num_kept, 1, num_kept).flatten(0, -4)
        # Or else it would hold all maps of a large step.
        self.maps[name] = kept.clone() if num_groups > 1 else kept
        self.delay += last // per_group
        return maps, num_groups

    def _mask_outside(self, x: Tensor, per_group: int, lead: int) -> Tensor:
        """Put zeros in the place of maps before the start or after the end."""
        if self.within:
            return x
        num_maps = x.size(0) // self.first.size(0)
        start = (self.first - self.delay) * per_group - lead
        # [streams, maps]
        number = start[:, None] + torch.arange(num_maps, device=x.device)
        # Maps that are there of all frames, without a division.
        length = self.num_frames[:, None] * per_group
        ended = (number + 1) * self.group > length
        inside = (number >= 0) & ~ended
        return torch.where(inside.reshape(-1, 1, 1, 1), x, 0)


class TemporalModule(BaseModule):
    """What lets the frames of a clip, ``T``, or of a stream, meet.

    In a causal one a frame meets no later ones.
    """

    # Whether a downsampling shortcut around the module takes its output.
    feeds_downsample: bool

    def __init__(self, num_frames: int, causal: bool = False, init_cfg: dict = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_frames < 1:
            raise ValueError(f'num_segments = {num_frames} is less than 1: give the frames per clip')
        self.num_frames = num_frames
        self.causal = causal
        # Whether the clips of a batch follow each other in training.
        self.across_clips = False
        # The StreamStep that it runs in, and its name there; None for clips.
        self.step: Optional[StreamStep] = None
        self.name = ''

    def forward(self, x: Tensor, form: Form = EACH) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        """Run on frames, clip after clip.

        They are ``(N * T, C, H, W)`` or, as ``PAIRS``, ``(N * T / 2, C, H,
        W)``. As these and as ``SPLIT``, even and odd ones come out apart.
        """
        if self.step is not None:
            maps, num_groups = self.step.extend(self.name, x, form, self.offsets())
            outputs = self.run_padded(maps, form, num_groups)
        else:
            num_groups = self.num_frames // form.num_outputs
            if self.training and self.across_clips:
                num_groups = x.size(0) // form.num_maps
            outputs = self.run_clips(x.unflatten(0, (-1, num_groups * form.num_maps)), form, num_groups)
        outputs = tuple(y.flatten(0, -4) for y in outputs)
        return outputs if form.num_outputs > 1 else outputs[0]

    def with_input(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """The frames as they came and as they leave, for a shortcut."""
        if self.step is None:
            return x, self(x)
        # A stream's leave later than they came.
        maps, num_groups = self.step.extend(self.name, x, EACH, self.offsets())
        (y,) = self.run_padded(maps, EACH, num_groups)
        return strided(maps, -min(self.offsets()), 1, num_groups).flatten(0, -4), y.flatten(0, -4)

    def offsets(self) -> Sequence[int]:
        """Where the frames that meet are, counted from the current one."""
        raise NotImplementedError

    def run_padded(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        """Run on frames whose neighbours are given.

        The maps ``(.., maps, C, H, W)`` are those from the first that the
        first of K groups of outputs needs to the last that the last needs.
        The outputs are ``(.., K, C, H, W)`` each.
        """
        raise NotImplementedError

    def run_clips(self, x: Tensor, form: Form, num_groups: int) -> Tuple[Tensor, ...]:
        """Run on the maps of clips, ``(N, maps, C, H, W)``, K groups each."""
        first, last = form.span(self.offsets())
        padded = F.pad(x, (0, 0) * 3 + (-first, last - form.num_maps + 1))
        return self.run_padded(padded, form, num_groups)


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
        outputs = []
        for output in range(form.num_outputs):
            places = [form.place(output, offset) - first for offset in offsets]
            frames = [strided(part, place, form.num_maps, num_groups) for part, place in zip(parts, places)]
            outputs.append(torch.cat(frames, -3))
        return tuple(outputs)


def check_frames(backbone: nn.Module, frames: Tensor) -> None:
    """Refuse what is no batch of whole clips, which would mix videos.

    A backbone takes ``(N * num_segments, in_channels, H, W)`` with pixels, and
    without ``num_segments`` any number of images.
    """
    name, num_segments = type(backbone).__name__, getattr(backbone, 'num_segments', 1)
    if frames.dim() != 4 or frames.size(1) != backbone.in_channels or 0 in frames.shape[2:]:
        raise ValueError(
            f'{tuple(frames.shape)} are no frames (N * num_segments, {backbone.in_channels}, H, W) for {name}: set its '
            "in_channels, and format the frames with FormatShape(input_format='NCHW')"
        )
    if frames.size(0) % num_segments:
        raise ValueError(
            f'{frames.size(0)} frames are no whole clips of num_segments = {num_segments} frames: give '
            f'{name} the frames per clip of the sampler in the pipeline as num_segments'
        )
