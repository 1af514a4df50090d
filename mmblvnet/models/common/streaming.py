"""Temporal modules along a stream instead of within clips.

A module that needs later frames runs late: in each step it finishes the frames
whose neighbours have all arrived, and keeps the last maps for the next step::

    kept of earlier steps | new       -> finished: 1 2 (r = 3)
                      0 1 | 2 3          kept:     2 3
"""

from dataclasses import dataclass, field
from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor

from .temporal_module import SPLIT, Form, strided


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
        """Put zeros in the place of maps before the start or after the end.

        The maps start ``lead`` of them before the first group.
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
