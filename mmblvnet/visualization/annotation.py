"""Videos with what a model sees in them.

The visualizer of MMAction2 1.2.0 finds no predictions, and so writes none.
"""

import os
from pathlib import Path
from typing import Optional, Sequence, Union

import cv2
import numpy as np

from mmblvnet.apis import Prediction, open_source

TEXT = (255, 255, 255)
BAR = (64, 128, 0)
# Frames with a shorter side than this are too small to read text on.
SHORT_SIDE = 240


def draw_predictions(picture: np.ndarray, predictions: Sequence[Prediction]) -> np.ndarray:
    """A copy of a frame, ``(H, W, 3)`` in RGB, with predictions as bars."""
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
    """An MP4 file, of so many frames per second, with predictions in them."""

    def __init__(self, out: Union[str, Path], fps: float) -> None:
        # A colon in a bare name would make it a protocol of FFmpeg.
        self.out = os.path.abspath(out)
        self.fps = fps
        self._writer: Optional[cv2.VideoWriter] = None

    def write(self, picture: np.ndarray, predictions: Sequence[Prediction]) -> None:
        """Add a frame, or raise a ValueError if the file cannot be written."""
        height, width = picture.shape[:2]
        factor = max(1, SHORT_SIDE / min(height, width))
        # MP4 wants even sides.
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
    """Write a video file again as MP4, with predictions in every frame.

    A ValueError tells if it cannot be read or the new one not written.
    """
    annotated = None
    for frame in open_source(video):
        # The first is shown for as long as each.
        annotated = annotated or AnnotatedVideo(out, 1 / frame.until)
        annotated.write(frame.read(), predictions)
    annotated.close()
