"""A picture of what happens when in a long video."""
from pathlib import Path
from typing import List, NamedTuple, Sequence, Union

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

MAX_ROWS = 12
MAX_NAME = 48


class Column(NamedTuple):
    """Windows that share a column of the picture.

    Args:
        start (float): Where the first of them starts to count, in seconds.
        end (float): Where the last of them stops to count, in seconds.
        total (Tensor): The sum of their probabilities, ``(num_classes, )``.
        count (int): How many they are.
    """
    start: float
    end: float
    total: Tensor
    count: int  # type: ignore[assignment]

    def join(self, later: 'Column') -> 'Column':
        return Column(self.start, later.end, self.total + later.total,
                      self.count + later.count)


class Timeline:
    """The probabilities of the classes over time, in bounded memory.

    When there are too many columns, each two become one, and columns hold
    twice as many windows from then on.

    Args:
        max_columns (int): Most columns of the picture, even.
            Defaults to 1024.
    """

    def __init__(self, max_columns: int = 1024) -> None:
        self.max_columns = max_columns
        self.columns: List[Column] = []
        self._per_column = 1

    def add(self, start: float, end: float, probabilities: Tensor) -> None:
        """Add the windows' classes in their order.

        Args:
            start (float): Where the window starts to count, in seconds.
            end (float): Where it stops, in seconds.
            probabilities (Tensor): Of the classes, ``(num_classes, )``.
        """
        column = Column(start, end, probabilities, 1)
        if self.columns and self.columns[-1].count < self._per_column:
            self.columns[-1] = self.columns[-1].join(column)
            return
        if len(self.columns) == self.max_columns:
            self.columns = [
                self.columns[i].join(self.columns[i + 1])
                for i in range(0, self.max_columns, 2)
            ]
            self._per_column *= 2
        self.columns.append(column)

    @property
    def probabilities(self) -> Tensor:
        """Tensor: The means of the columns, ``(columns, num_classes)``."""
        return torch.stack([c.total / c.count for c in self.columns])


def draw_timeline(timeline: Timeline, names: Sequence[str],
                  out: Union[str, Path]) -> None:
    """Draw the most probable classes over time, a row for each.

    Args:
        timeline (Timeline): The probabilities.
        names (Sequence[str]): The names of the classes.
        out (str or Path): The picture, in a format that its suffix tells.
    """
    probabilities = timeline.probabilities
    best = probabilities.amax(0).topk(min(MAX_ROWS, len(names))).indices
    # In the order in which they happen.
    order = probabilities[:, best].argmax(0).sort(stable=True).indices
    labels = best[order].tolist()

    figure = Figure(figsize=(11, 1.3 + 0.32 * len(labels)),
                    layout='constrained')
    axes = figure.subplots()
    edges = [c.start for c in timeline.columns] + [timeline.columns[-1].end]
    rows = [y - 0.5 for y in range(len(labels) + 1)]
    mesh = axes.pcolormesh(
        edges, rows, probabilities[:, labels].T.numpy(), vmin=0, vmax=1,
        cmap='viridis')
    axes.set_yticks(range(len(labels)),
                    [_shortened(names[label]) for label in labels])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))
    axes.set_xlabel('time')
    figure.colorbar(mesh, label='probability')
    figure.savefig(out, dpi=120)


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[:MAX_NAME - 1] + '…'


def clock(seconds: float) -> str:
    """A time as people read it.

    Args:
        seconds (float): The time in seconds.

    Returns:
        str: Such as ``1:02:03.5``.
    """
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{tenths / 10:04.1f}'
