"""Pictures of predictions: bars in the frames of a video, and a timeline."""

import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from mmblvnet.apis import Prediction, open_source

from .style import STYLE

TEXT = (255, 255, 255)
BAR = (64, 128, 0)
# Frames with a shorter side than this are too small to read text on.
SHORT_SIDE = 240
MAX_ROWS = 12
MAX_NAME = 48


def draw_predictions(picture: np.ndarray, predictions: Sequence[Prediction]) -> np.ndarray:
    """Return a copy of a frame with predictions drawn as bars, from the top.

    The frame is ``(H, W, 3)``, RGB, uint8.
    """
    picture = picture.copy()
    height, width = picture.shape[:2]
    row = max(12, height // 18)
    panel = picture[: row * len(predictions) + row // 2]
    panel[:] = panel // 3
    for number, prediction in enumerate(predictions):
        top = row * number + row // 4
        length = round(prediction.probability * width)
        cv2.rectangle(picture, (0, top + 1), (length, top + row - 2), BAR, -1)
        # OpenCV's own font has ASCII only.
        name = prediction.name.encode('ascii', 'replace').decode()
        text, place = f'{prediction.probability:4.0%} {name}', (row // 4, top + row * 3 // 4)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, row / 32, TEXT, 1, cv2.LINE_AA)
    return picture


class AnnotatedVideo:
    """A writer of an MP4 file at ``fps`` frames per second, with predictions drawn in."""

    def __init__(self, out: Union[str, Path], fps: float) -> None:
        # Absolute, since FFmpeg takes what is before a colon for a protocol.
        self.out = os.path.abspath(out)
        self.fps = fps
        self._writer: Optional[cv2.VideoWriter] = None

    def write(self, picture: np.ndarray, predictions: Sequence[Prediction]) -> None:
        """Add a frame, ``(H, W, 3)`` in RGB; raise a ValueError if the file cannot be written."""
        height, width = picture.shape[:2]
        factor = max(1, SHORT_SIDE / min(height, width))
        # The codec needs an even width and height.
        size = tuple(round(side * factor / 2) * 2 for side in (width, height))
        picture = draw_predictions(cv2.resize(picture, size), predictions)
        if self._writer is None:
            self._writer = cv2.VideoWriter(self.out, cv2.VideoWriter_fourcc(*'mp4v'), self.fps, size)
            if not self._writer.isOpened():
                raise ValueError(f'{self.out} cannot be written')
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


def annotate_video(video: str, out: Union[str, Path], predictions: Sequence[Prediction]) -> None:
    """Write a copy of a video file as MP4, with predictions in every frame.

    Raises:
        ValueError: If the video cannot be read or the copy cannot be written.
    """
    annotated = None
    for frame in open_source(video):
        # The frame rate follows from how long the first frame is shown.
        annotated = annotated or AnnotatedVideo(out, 1 / frame.end_time)
        annotated.write(frame.read(), predictions)
    annotated.close()


class Column(NamedTuple):
    """A column of a timeline: successive windows and the sum of their probabilities."""

    start: float
    end: float
    total: Tensor
    num_windows: int = 1

    def join(self, later: 'Column') -> 'Column':
        return Column(self.start, later.end, self.total + later.total, self.num_windows + later.num_windows)


class Timeline:
    """The probabilities of the classes over time, in bounded memory.

    When there are ``max_columns`` (an even number), neighbours are merged, and
    each column holds twice as many windows from then on.
    """

    def __init__(self, max_columns: int = 1024) -> None:
        self.max_columns = max_columns
        self.columns: List[Column] = []

    def add(self, start: float, end: float, probabilities: Tensor) -> None:
        """Add the next window, from ``start`` to ``end`` in seconds.

        ``probabilities`` are those of the classes in it, ``(num_classes, )``.
        """
        columns, new = self.columns, Column(start, end, probabilities)
        if columns and columns[-1].num_windows < columns[0].num_windows:
            columns[-1] = columns[-1].join(new)
            return
        if len(columns) == self.max_columns:
            columns[:] = map(Column.join, columns[::2], columns[1::2])
        columns.append(new)

    @property
    def probabilities(self) -> Tensor:
        """Tensor: The mean probabilities in each column, ``(columns, num_classes)``."""
        return torch.stack([c.total / c.num_windows for c in self.columns])


@rc_context(STYLE)
def draw_timeline(timeline: Timeline, names: Sequence[str], out: Union[str, Path]) -> None:
    """Draw the most probable classes of a timeline, one row per class.

    It needs at least one window. The suffix of ``out`` gives the format.
    """
    probabilities = timeline.probabilities
    best = probabilities.amax(0).topk(min(MAX_ROWS, len(names))).indices
    # Sorted by the time at which each class is most probable.
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
    """Format a time in seconds as hours, minutes and seconds, such as ``1:02:03.5``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{tenths / 10:04.1f}'
