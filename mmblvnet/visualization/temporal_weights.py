"""Where in time the temporal modules of a network look."""
from pathlib import Path
from typing import Iterable, List, NamedTuple, Sequence, Union

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
# In inches.
WIDTH, ROW, TAP, TITLE, LEGEND, MARGIN = 10, 0.4, 0.13, 0.3, 0.6, 0.1
LEFT, GAP = 1.6, 0.05


class TemporalWeights(NamedTuple):
    """The weights of a Temporal Aggregation Module.

    Args:
        name (str): The module's name in the network.
        offsets (Sequence[int]): Where the blended frames are, counted from
            the current one.
        weight (Tensor): A weight per blended frame and channel, ``(r, C)``.
        num_frames (int): Frames per clip in this place. ``BLVNet`` has one
            per pair in layer4.
    """
    name: str
    offsets: Sequence[int]
    weight: Tensor
    num_frames: int

    @property
    def shares(self) -> Tensor:
        """Tensor: Of each channel's weights, with their signs, ``(r, C)``.

        The absolute values of a channel add up to 1, unless all are 0.
        """
        total = self.weight.abs().sum(0)
        return self.weight / total.where(total > 0, 1)

    @property
    def mean_shares(self) -> Tensor:
        """Tensor: Of each blended frame, without signs, ``(r, )``."""
        return self.shares.abs().mean(1)

    @property
    def signs(self) -> dict:
        """dict: The share of channels that average, subtract, or do neither.

        ``average`` has no negative weight, ``difference`` both signs and
        ``silent`` no positive one: behind a ReLU its output is 0.
        """
        silent = (self.weight <= 0).all(0)
        average = (self.weight >= 0).all(0) & ~silent
        return dict(
            average=average.float().mean().item(),
            difference=(~average & ~silent).float().mean().item(),
            silent=silent.float().mean().item())

    def in_order(self) -> Tensor:
        """The shares of the channels, those alike side by side.

        Returns:
            Tensor: ``(r, C)``; first the channels whose largest weight is
            that of the earliest frame, last those with the latest, and
            within those from the most positive to the most negative.
        """
        largest = self.weight.abs().argmax(0)
        value = self.shares.gather(0, largest[None])[0]
        # Shares are in -1..1.
        return self.shares[:, (4 * largest - value).argsort()]


def temporal_weights(model: nn.Module) -> List[TemporalWeights]:
    """The weights of all Temporal Aggregation Modules of a network.

    Args:
        model (nn.Module): A network.

    Returns:
        list[TemporalWeights]: In the order in which they are used.

    Raises:
        ValueError: If there are none.
    """
    found = [
        TemporalWeights(
            _place(name), module.offsets(),
            module.weight.detach().float().cpu(), module.num_frames)
        for name, module in model.named_modules()
        if isinstance(module, TemporalAggregation)
    ]
    if not found:
        raise ValueError(
            f'the {type(model).__name__} has no TemporalAggregation, so no '
            'temporal weights: BLVNet with temporal_module="TAM", ResNetTAM '
            'and TAMNeck have some')
    return found


def _place(name: str) -> str:
    """What a module in a backbone or a neck belongs to."""
    place = name.removeprefix('backbone.').removesuffix('tam').rstrip('.')
    return place or 'stem'


def draw_temporal_weights(layers: Sequence[TemporalWeights],
                          out: Union[str, Path]) -> None:
    """Draw temporal weights, a row for each module.

    Args:
        layers (Sequence[TemporalWeights]): The weights.
        out (str or Path): The picture, in a format that its suffix tells.
    """
    heights = [max(ROW, TAP * len(layer.offsets)) for layer in layers]
    height = TITLE + sum(heights) + LEGEND + MARGIN
    figure = Figure(figsize=(WIDTH, height))
    rows = figure.subplots(
        len(layers) + 1,
        3,
        squeeze=False,
        width_ratios=(5, 2, 2),
        height_ratios=[*heights, LEGEND],
        gridspec_kw=dict(
            left=LEFT / WIDTH, right=1 - MARGIN / WIDTH,
            top=1 - TITLE / height, bottom=MARGIN / height, wspace=0.05,
            hspace=GAP * len(layers) / sum(heights)))
    for (channels, shares, signs), layer in zip(rows, layers):
        image = _draw_channels(channels, layer)
        _draw_bar(shares, layer.mean_shares.tolist(),
                  [offset_color(o, layer.offsets) for o in layer.offsets])
        _draw_bar(signs, layer.signs.values(), SIGNS.values())
    titles = ('where each channel looks', 'mean over the channels',
              'channels by their signs')
    for axes, title in zip(rows[0], titles):
        axes.set_title(title, fontsize=10)

    for axes in rows[-1]:
        axes.set_axis_off()
    bar = figure.colorbar(
        image, cax=rows[-1, 0].inset_axes((0.2, 0.7, 0.6, 0.2)),
        orientation='horizontal', ticks=(-1, -0.5, 0, 0.5, 1))
    bar.set_label('share of the weights, with their sign', fontsize=8)
    bar.ax.tick_params(labelsize=8)
    longest = max(layers, key=lambda layer: len(layer.offsets)).offsets
    _add_legend(rows[-1, 1], map(_signed, longest),
                [offset_color(o, longest) for o in longest])
    _add_legend(rows[-1, 2], SIGNS.keys(), SIGNS.values())
    figure.savefig(out, dpi=100)


def offset_color(offset: int, offsets: Sequence[int]) -> Union[str, tuple]:
    """The colour of a frame: blue before the current one, orange after it.

    Args:
        offset (int): Which frame, counted from the current one.
        offsets (Sequence[int]): All of them.

    Returns:
        str or tuple: The colour, the darker the farther.
    """
    if offset == 0:
        return PRESENT
    farthest = max(map(abs, offsets))
    color_map = PAST if offset < 0 else FUTURE
    return color_map(abs(offset) / farthest)


def _signed(offset: int) -> str:
    return f'{offset:+}' if offset else '0'


def _draw_channels(axes: Axes, layer: TemporalWeights) -> AxesImage:
    axes.set_yticks(
        range(len(layer.offsets)), map(_signed, layer.offsets), fontsize=7)
    axes.set_xticks([])
    axes.set_ylabel(
        f'{layer.name}\n{layer.weight.size(1)} channels, '
        f'T = {layer.num_frames}',
        rotation=0, ha='right', va='center', fontsize=8, labelpad=4)
    return axes.imshow(
        layer.in_order().numpy(), aspect='auto', vmin=-1, vmax=1,
        cmap='RdBu_r', interpolation='nearest')


def _draw_bar(axes: Axes, lengths: Iterable[float],
              colors: Iterable) -> None:
    start = 0
    for length, color in zip(lengths, colors):
        axes.barh(0, length, left=start, color=color, height=1)
        if length > 0.12:
            dark = sum(to_rgb(color)) < 1.5
            axes.text(start + length / 2, 0, f'{length:.0%}', ha='center',
                      va='center', fontsize=7,
                      color='white' if dark else 'black')
        start += length
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5), xticks=[], yticks=[])


def _add_legend(axes: Axes, labels: Iterable[str],
                colors: Iterable) -> None:
    handles = [Patch(color=color) for color in colors]
    axes.legend(handles, labels, loc='upper center', fontsize=8,
                bbox_to_anchor=(0.5, 1), ncols=4, handlelength=0.8,
                handletextpad=0.4, columnspacing=0.6, frameon=False)
