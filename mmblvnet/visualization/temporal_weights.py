"""Where in time the temporal modules of a network look."""

from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Sequence, Union

import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor, nn

from mmblvnet.models.common import TemporalAggregation

PAST = LinearSegmentedColormap.from_list('past', ['#a8c8e4', '#1f5f9c'])
PRESENT = '#c9c9c9'
FUTURE = LinearSegmentedColormap.from_list('future', ['#f6c38f', '#c8590b'])
SIGNS = {'average': '#8fb996', 'difference': '#8c6bb1', 'silent': '#4a4a4a'}
# In inches: the height of a module, that of each of its offsets at least,
# and that of titles and legends.
ROW, OFFSET, BELOW = 0.4, 0.13, 1.3
TITLES = ('where each channel looks', 'mean over the channels', 'channels by their signs')


class TemporalWeights(NamedTuple):
    """The weights of a Temporal Aggregation Module."""

    name: str
    # Where the blended frames are, counted from the current one.
    offsets: Sequence[int]
    # A weight per blended frame and channel, (r, C).
    weight: Tensor
    # Per clip in this place; BLVNet has one per pair in layer4.
    num_frames: int

    @property
    def shares(self) -> Tensor:
        """Tensor: Of each channel's weights, with their signs, ``(r, C)``.

        The absolute values of a channel add up to 1, unless all are 0.
        """
        return F.normalize(self.weight, p=1, dim=0)

    @property
    def mean_shares(self) -> Tensor:
        """Tensor: Of each blended frame, without signs, ``(r, )``."""
        return self.shares.abs().mean(1)

    @property
    def signs(self) -> Dict[str, float]:
        """dict: The share of channels that average, subtract, or do neither.

        ``average`` has no negative weight, ``difference`` both signs and
        ``silent`` no positive one: behind a ReLU its output is 0.
        """
        positive = (self.weight > 0).any(0)
        negative = (self.weight < 0).any(0)
        kinds = dict(average=positive & ~negative, difference=positive & negative, silent=~positive)
        return {kind: is_it.float().mean().item() for kind, is_it in kinds.items()}

    def in_order(self) -> Tensor:
        """The shares of the channels, those alike side by side, ``(r, C)``.

        First come the channels whose largest weight is that of the earliest
        frame, last those with the latest, and within those from the most
        positive to the most negative.
        """
        largest = self.weight.abs().argmax(0)
        value = self.shares.gather(0, largest[None])[0]
        # Shares are in -1..1.
        return self.shares[:, (4 * largest - value).argsort()]


def temporal_weights(model: nn.Module) -> List[TemporalWeights]:
    """The weights of all Temporal Aggregation Modules, in their order.

    Raises:
        ValueError: If there are none.
    """
    found = [
        TemporalWeights(_place(name), module.offsets(), module.weight.detach().float().cpu(), module.num_frames)
        for name, module in model.named_modules()
        if isinstance(module, TemporalAggregation)
    ]
    if not found:
        raise ValueError(
            f'the {type(model).__name__} has no TemporalAggregation, so no '
            'temporal weights: BLVNet with temporal_module="TAM", ResNetTAM '
            'and TAMNeck have some'
        )
    return found


def _place(name: str) -> str:
    """What a module in a backbone or a neck belongs to."""
    place = name.removeprefix('backbone.').removesuffix('tam').rstrip('.')
    return place or 'stem'


def draw_temporal_weights(layers: Sequence[TemporalWeights], out: Union[str, Path]) -> None:
    """Draw temporal weights, a row for each module."""
    heights = [max(ROW, OFFSET * len(layer.offsets)) for layer in layers]
    figure = Figure((10, sum(heights) + BELOW), layout='constrained')
    rows = figure.subplots(len(heights), 3, width_ratios=(5, 2, 2), height_ratios=heights, squeeze=False)
    for (channels, shares, signs), layer in zip(rows, layers):
        image = _draw_channels(channels, layer)
        _draw_bar(shares, layer.mean_shares.tolist(), [offset_color(o, layer.offsets) for o in layer.offsets])
        _draw_bar(signs, layer.signs.values(), SIGNS.values())
    for axes, title in zip(rows[0], TITLES):
        axes.set_title(title, fontsize=10)
    bar = figure.colorbar(
        image, ax=list(rows[:, 0]), location='bottom', shrink=0.6, aspect=40, ticks=(-1, -0.5, 0, 0.5, 1)
    )
    bar.set_label('share of the weights, with their sign', fontsize=8)
    bar.ax.tick_params(labelsize=8)
    longest = max((layer.offsets for layer in layers), key=len)
    _add_legend(rows[-1, 1], map(_signed, longest), [offset_color(o, longest) for o in longest])
    _add_legend(rows[-1, 2], SIGNS.keys(), SIGNS.values())
    figure.savefig(out, dpi=100)


def offset_color(offset: int, offsets: Sequence[int]) -> Union[str, tuple]:
    """Blue before the current frame, orange after it, the darker the farther."""
    if offset == 0:
        return PRESENT
    color_map = PAST if offset < 0 else FUTURE
    return color_map(abs(offset) / max(map(abs, offsets)))


def _signed(offset: int) -> str:
    return f'{offset:+}' if offset else '0'


def _draw_channels(axes: Axes, layer: TemporalWeights) -> AxesImage:
    axes.set_yticks(range(len(layer.offsets)), map(_signed, layer.offsets), fontsize=7)
    axes.set_xticks([])
    axes.set_ylabel(
        f'{layer.name}\n{layer.weight.size(1)} channels, T = {layer.num_frames}',
        rotation=0,
        ha='right',
        va='center',
        fontsize=8,
        labelpad=4,
    )
    return axes.imshow(layer.in_order().numpy(), aspect='auto', vmin=-1, vmax=1, cmap='RdBu_r', interpolation='nearest')


def _draw_bar(axes: Axes, lengths: Iterable[float], colors: Iterable) -> None:
    start = 0
    for length, color in zip(lengths, colors):
        axes.barh(0, length, left=start, color=color, height=1)
        if length > 0.12:
            dark = sum(to_rgb(color)) < 1.5
            axes.text(
                start + length / 2,
                0,
                f'{length:.0%}',
                ha='center',
                va='center',
                fontsize=7,
                color='white' if dark else 'black',
            )
        start += length
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5), xticks=[], yticks=[])


def _add_legend(axes: Axes, labels: Iterable[str], colors: Iterable) -> None:
    axes.legend(
        [Patch(color=color) for color in colors],
        labels,
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        fontsize=8,
        ncols=4,
        handlelength=0.8,
        handletextpad=0.4,
        columnspacing=0.6,
        frameon=False,
    )
