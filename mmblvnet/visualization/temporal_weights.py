"""Pictures of the weights with which temporal modules blend frames."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Union

import torch.nn.functional as F
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn

from mmblvnet.models.common import TemporalAggregation

from .style import STYLE

# Blue for earlier frames, orange for later ones, darker the farther they are.
OFFSET_COLORS = LinearSegmentedColormap.from_list('offsets', ['#1f5f9c', '#a8c8e4', '#c9c9c9', '#f6c38f', '#c8590b'])
SIGNS = {'average': '#8fb996', 'difference': '#8c6bb1', 'silent': '#4a4a4a'}
# Height of a bar; rows are 1 apart.
HEIGHT = 0.84


class TemporalWeights(NamedTuple):
    """The weights of a Temporal Aggregation Module."""

    name: str
    # Offsets of the blended frames from the current one.
    offsets: Sequence[int]
    # A weight per blended frame and channel, (r, C).
    weight: Tensor
    # Frames per clip at this module, or pairs of frames in layer4 of BLVNet.
    num_frames: int

    @property
    def shares(self) -> Tensor:
        """Tensor: The weights, scaled to an absolute sum of 1 per channel, ``(r, C)``."""
        return F.normalize(self.weight, p=1, dim=0)

    @property
    def mean_shares(self) -> Dict[int, float]:
        """dict: The mean absolute share of each offset over the channels."""
        return dict(zip(self.offsets, self.shares.abs().mean(1).tolist()))

    @property
    def signs(self) -> Dict[str, float]:
        """dict: The share of channels that average frames, subtract them, or are silent.

        ``silent`` ones have no positive weight: after a ReLU they output 0.
        """
        positive, negative = (self.weight > 0).any(0), (self.weight < 0).any(0)
        kinds = dict(average=positive & ~negative, difference=positive & negative, silent=~positive)
        return {kind: is_it.float().mean().item() for kind, is_it in kinds.items()}

    def sorted_shares(self) -> Tensor:
        """Return the shares with similar channels side by side, ``(r, C)``.

        Channels are sorted by the frame of their largest absolute weight, and
        then by its share, from the most positive to the most negative.
        """
        largest = self.weight.abs().argmax(0)
        value = self.shares.gather(0, largest[None])[0]
        # Shares are in -1..1, so the first key decides.
        return self.shares[:, (4 * largest - value).argsort()]


def temporal_weights(model: nn.Module) -> List[TemporalWeights]:
    """Return the weights of a network's Temporal Aggregation Modules, in order.

    The network is a recognizer or a part of one; a ValueError if it has none.
    """
    found = [
        TemporalWeights(
            # The name of the stage or block that the module belongs to.
            name.removeprefix('backbone.').removesuffix('tam').rstrip('.') or 'stem',
            module.offsets(),
            module.weight.detach().float().cpu(),
            module.num_frames,
        )
        for name, module in model.named_modules()
        if isinstance(module, TemporalAggregation)
    ]
    if not found:
        others = 'BLVNet with temporal_module="TAM", ResNetTAM and TAMNeck have some'
        raise ValueError(f'the {type(model).__name__} has no TemporalAggregation, so no temporal weights: {others}')
    return found


@rc_context(STYLE)
def draw_temporal_weights(layers: Sequence[TemporalWeights], out: Union[str, Path]) -> None:
    """Draw temporal weights, one row per module.

    The suffix of ``out`` gives the format of the picture.
    """
    offsets = max((layer.offsets for layer in layers), key=len)
    farthest = max(*map(abs, offsets), 1)
    figure = Figure((10, 1.3 + len(layers) * max(0.43, 0.13 * len(offsets))))
    channels, shares, signs = figure.subplots(1, 3, sharey=True, width_ratios=(5, 2, 2))
    _draw_channels(channels, layers)
    shares.set_title('mean over the channels')
    for offset in offsets:
        lengths = [layer.mean_shares.get(offset, 0) for layer in layers]
        _add_to_bars(shares, lengths, _signed(offset), OFFSET_COLORS(0.5 + offset / farthest / 2))
    signs.set_title('channels by their signs')
    for kind, color in SIGNS.items():
        _add_to_bars(signs, [layer.signs[kind] for layer in layers], kind, color)
    for axes, x, side in ((shares, 0, 'left'), (signs, 1, 'right')):
        axes.set(xlim=(0, 1), xticks=[])
        axes.tick_params(which='both', length=0)
        legend = axes.legend(loc=f'upper {side}', bbox_to_anchor=(x, 0), ncols=4)
        # The colour bar below the first plot already makes room for it.
        legend.set_in_layout(False)
    figure.savefig(out)


def _signed(offset: int) -> str:
    return f'{offset:+}' if offset else '0'


def _draw_channels(axes: Axes, layers: Sequence[TemporalWeights]) -> None:
    rows, ticks = range(len(layers)), {}
    for row, layer in enumerate(layers):
        extent = (0, 1, row + HEIGHT / 2, row - HEIGHT / 2)
        image = axes.imshow(layer.sorted_shares(), 'RdBu_r', extent=extent, vmin=-1, vmax=1, interpolation='nearest')
        for i, offset in enumerate(layer.offsets):
            # Centred on the row of cells of this offset.
            ticks[row + HEIGHT * ((i + 0.5) / len(layer.offsets) - 0.5)] = _signed(offset)
    names = [f'{layer.name}\n{layer.weight.size(1)} channels, T = {layer.num_frames}' for layer in layers]
    axes.set_yticks(rows, names)
    # Otherwise the tick of offset 0 is hidden by the one of the name.
    axes.yaxis.remove_overlapping_locs = False
    axes.set_yticks([*ticks], ticks.values(), minor=True, fontsize=7)
    axes.tick_params('y', length=0, pad=24)
    axes.set(title='where each channel looks', xticks=[], ylim=(len(rows) - 0.5, -0.5))
    label = 'share of the weights, with their sign'
    axes.figure.colorbar(image, location='bottom', shrink=0.6, aspect=40, ticks=(-1, -0.5, 0, 0.5, 1), label=label)


def _add_to_bars(axes: Axes, lengths: Sequence[float], label: str, color: Union[str, tuple]) -> None:
    """Add a segment to each module's bar, labelled with its length if there is room."""
    start = [sum(bars[row].get_width() for bars in axes.containers) for row in range(len(lengths))]
    bars = axes.barh(range(len(lengths)), lengths, HEIGHT, start, color=color, label=label)
    texts = [f'{length:.0%}' if length > 0.12 else '' for length in lengths]
    dark = sum(to_rgb(color)) < 1.5
    axes.bar_label(bars, texts, label_type='center', fontsize=7, color='white' if dark else 'black')
