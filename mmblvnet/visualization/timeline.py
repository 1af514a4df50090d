"""A picture of what happens when in a long video."""

from pathlib import Path
from typing import List, NamedTuple, Sequence, Union

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from .style import STYLE

MAX_ROWS = 12
MAX_NAME = 48


class Column(NamedTuple):
    """Windows that share a column, with the sum of their probabilities."""

    start: float
    end: float
    total: Tensor
    num_windows: int = 1

    def join(self, later: 'Column') -> 'Column':
        return Column(self.start, later.end, self.total + later.total, self.num_windows + later.num_windows)


class Timeline:
    """The probabilities of the classes over time, in bounded memory.

    When there are too many columns (an even number), each two become one, and
    columns hold twice as many windows from then on.
    """

    def __init__(self, max_columns: int = 1024) -> None:
        self.max_columns = max_columns
        self.columns: List[Column] = []

    def add(self, start: float, end: float, probabilities: Tensor) -> None:
        """Add the next window: the seconds that it counts for, and classes."""
        columns, new = self.columns, Column(start, end, probabilities)
        if columns and columns[-1].num_windows < columns[0].num_windows:
            columns[-1] = columns[-1].join(new)
            return
        if len(columns) == self.max_columns:
            columns[:] = map(Column.join, columns[::2], columns[1::2])
        columns.append(new)

    @property
    def probabilities(self) -> Tensor:
        """Tensor: The means of the columns, ``(columns, num_classes)``."""
        return torch.stack([c.total / c.num_windows for c in self.columns])


@rc_context(STYLE)
def draw_timeline(timeline: Timeline, names: Sequence[str], out: Union[str, Path]) -> None:
    """Draw the most probable classes over time, a row for each."""
    probabilities = timeline.probabilities
    best = probabilities.amax(0).topk(min(MAX_ROWS, len(names))).indices
    # In the order in which they happen.
    labels = best[probabilities[:, best].argmax(0).argsort(stable=True)].tolist()
    figure = Figure((11, 1.3 + 0.32 * len(labels)))
    axes = figure.subplots()
    edges = [c.start for c in timeline.columns] + [timeline.columns[-1].end]
    rows = [row - 0.5 for row in range(len(labels) + 1)]
    mesh = axes.pcolormesh(edges, rows, probabilities[:, labels].T, vmin=0, vmax=1)
    shown = [names[label] if len(names[label]) <= MAX_NAME else names[label][: MAX_NAME - 1] + '…' for label in labels]
    axes.set_yticks(range(len(labels)), shown)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    axes.set_xlabel('time')
    figure.colorbar(mesh, label='probability')
    figure.savefig(out)


def clock(seconds: float) -> str:
    """A time as people read it, such as ``1:02:03.5``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{tenths / 10:04.1f}'
