"""Temporal modules along a stream instead of within clips.

A module that needs later frames runs late: in each step it finishes the frames
whose neighbours have all arrived, and keeps the last maps for the next step::

    kept of earlier steps | new       -> finished: 1 2 (r = 3)
                      0 1 | 2 3          kept:     2 3
"""

from dataclasses import dataclass, field
from typing import Dict, Tuple

import torch
from torch import Tensor, nn

from .temporal_module import EACH, Form, TemporalModule, strided


@dataclass
class StreamStep:
    """One step of some streams through a network, group by group of frames.

    A group is a pair of frames where the network fuses pairs, or a frame. All
    streams of a step get the same number of new groups.
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
    # Whether all frames that any module sees are known to lie within streams.
    within: bool = False
    # Groups by which the maps at this place of the network are late.
    delay: int = field(default=0, init=False)

    def mask_outside(self, x: Tensor, per_group: int, lead: int) -> Tensor:
        """Put zeros in the place of maps before the start or after the end.

        The maps ``(streams * maps, C, H, W)`` start ``lead`` of them before
        the first group.
        """
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

    def per_stream(self, x: Tensor) -> Tensor:
        """The maps of each stream, ``(streams, maps, C, H, W)``.

        Those of a single stream stay as they are: some run-times know no more
        than four dimensions.
        """
        num_streams = self.first.size(0)
        return x if num_streams == 1 else x.unflatten(0, (num_streams, -1))


class StreamingModule(TemporalModule):
    """A temporal module that sees a stream, and its name in the network."""

    def __init__(self, module: TemporalModule, name: str) -> None:
        super().__init__(module.num_frames)
        self.module = module
        self.name = name
        # By how many maps its steps start before their first group.
        self.lead = 0
        self.feeds_downsample = module.feeds_downsample
        self.step: StreamStep = None

    def with_input(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        maps, num_groups = self._extend(x, EACH)
        first, _ = EACH.span(self.module.offsets())
        current = strided(maps, -first, 1, num_groups)
        (y,) = self.module.run_padded(maps, EACH, num_groups)
        return _in_a_row(current), _in_a_row(y)

    def _run(self, x: Tensor, form: Form) -> Tuple[Tensor, ...]:
        maps, num_groups = self._extend(x, form)
        outputs = self.module.run_padded(maps, form, num_groups)
        return tuple(map(_in_a_row, outputs))

    def _extend(self, x: Tensor, form: Form) -> Tuple[Tensor, int]:
        """The kept maps and the new ones, and groups that they finish."""
        step, per_group = self.step, form.num_phases
        num_streams = step.first.size(0)
        num_groups = x.size(0) // (num_streams * per_group)
        first, last = form.span(self.module.offsets())
        delay = last // per_group
        x = step.mask_outside(x, per_group, self.lead)
        num_kept = per_group * delay - self.lead - first
        kept = step.maps.get(self.name)
        if kept is None:
            kept = x.new_zeros(num_streams * num_kept, *x.shape[1:])
        maps = torch.cat((step.per_stream(kept), step.per_stream(x)), -4)
        kept = _in_a_row(strided(maps, maps.size(-4) - num_kept, 1, num_kept))
        # Or else it would hold all maps of a large step.
        step.maps[self.name] = kept.clone() if num_groups > 1 else kept
        step.delay += delay
        return maps, num_groups


def _in_a_row(maps: Tensor) -> Tensor:
    return maps if maps.dim() == 4 else maps.flatten(0, 1)


def stream_through(network: nn.Module) -> Dict[str, StreamingModule]:
    """Let the temporal modules of a network see a stream; give them by name."""
    modules = {
        name: StreamingModule(module, name)
        for name, module in network.named_modules()
        if isinstance(module, TemporalModule)
    }
    for name, module in modules.items():
        network.set_submodule(name, module)
    return modules
