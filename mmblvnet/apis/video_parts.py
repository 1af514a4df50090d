"""Recognition of what happens when in a long or live video."""

import math
from collections import deque
from typing import Callable, Deque, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import dry_run
from mmblvnet.models.heads.probabilities import activate, activation_of, as_probabilities

from .streaming import StreamingRecognizer
from .video_source import Frame

# Rounding errors of timestamps that are tolerated, in seconds.
TOLERANCE = 1e-6


class Moment(NamedTuple):
    """The prediction for a segment of a video; all times are in seconds."""

    start: float
    end: float
    # Of each class, (num_classes, ).
    probabilities: Tensor
    # From its end until the prediction.
    delay: float = 0.0


Watcher = Callable[[np.ndarray, List[Moment], int], None]


class MomentClassifier:
    """Base class that samples a video at regular intervals and prepares each frame once.

    The transforms after the decoder in the ``val`` pipeline prepare frames.
    """

    # Seconds between successive sampled frames.
    interval: float

    def __init__(self, model: nn.Module) -> None:
        example = dry_run(model, 'val')
        if example.inputs.dim() != 4 or example.inputs.size(1) != 3:
            given = f'the val pipeline of {model.cfg.filename} gives {tuple(example.inputs.shape)}'
            raise ValueError(f'Streams and windows need single RGB frames, (frames, 3, H, W), but {given}')
        self.model = model
        self.num_frames = example.num_frames
        self._transforms = example.prepare

    def prepare(self, picture: np.ndarray) -> Tensor:
        """Return all crops, ``(crops, C, H, W)``, of a picture, ``(H, W, 3)`` in RGB, uint8."""
        size = picture.shape[:2]
        about = dict(img_shape=size, original_shape=size, clip_len=1, num_clips=1, modality='RGB', label=-1)
        return self._transforms(dict(about, imgs=[picture]))['inputs']

    def sample(self, frames: Iterable[Frame]) -> Iterator[Tuple[int, Frame]]:
        """Yield the frame shown at the middle of each interval, with a count.

        The count is the number of successive intervals that sample the frame.
        ``BigLittleSampleFrames`` samples the same frames in testing.
        """
        number = 0
        for frame in frames:
            count = math.ceil((frame.end_time - TOLERANCE) / self.interval - 0.5) - number
            if count > 0:
                number += count
                yield count, frame


class WindowClassifier(MomentClassifier):
    """Sliding-window classifier that prepares each frame once for all its windows.

    A window has as many frames as the model relates to each other or, if the
    model takes any number, as the ``val`` pipeline samples.

    Args:
        model (nn.Module): A ``Recognizer2D`` of :func:`load_recognizer`.
        length (float): Length of a window in seconds.
        stride (float): Seconds from a window to the next, rounded to whole
            sampled frames.

    Attributes:
        period (float): The rounded stride in seconds.

    Raises:
        ValueError: If the model does not take single RGB frames.
    """

    def __init__(self, model: nn.Module, length: float, stride: float) -> None:
        super().__init__(model)
        self.length = length
        self.interval = length / self.num_frames
        self.step = max(1, round(stride / self.interval))
        self.period = self.step * self.interval

    def classify(self, frames: Iterable[Frame]) -> Iterator[Moment]:
        """Yield the prediction of each window as soon as its last frame is there.

        The frames are those of :func:`open_source`, of which one window is held
        at a time. Of windows that end with the same frame (as where frames of a
        live stream were dropped) only the last is classified.
        """
        window: Deque[Tensor] = deque(maxlen=self.num_frames)
        number = 0
        for count, frame in self.sample(frames):
            prepared, ended = self.prepare(frame.read()), None
            for _ in range(count):
                window.append(prepared)
                number += 1
                first = number - self.num_frames
                if first >= 0 and first % self.step == 0:
                    ended = first * self.interval, tuple(window)
            if ended:
                start, shown = ended
                yield Moment(start, start + self.length, self.probabilities(shown))

    @torch.no_grad()
    def probabilities(self, window: Tuple[Tensor, ...]) -> Tensor:
        """Return the class probabilities, ``(num_classes, )``, of a window of prepared frames."""
        # [crops * T, C, H, W]
        frames = torch.stack(window, 1).flatten(0, 1)
        (sample,) = self.model.test_step(dict(inputs=[frames], data_samples=[ActionDataSample()]))
        return as_probabilities(sample.pred_score, self.model.cls_head).cpu()


class StreamClassifier(MomentClassifier):
    """Classifier of successive moments of a video that computes each frame only once.

    Args:
        model (nn.Module): A ``Recognizer2D`` of :func:`load_recognizer`.
        interval (float): Seconds between successive sampled frames.
        watch (Callable): Called with each sampled picture, the moments that it
            finishes, and the number of intervals that it was sampled for.

    Attributes:
        recognizer (StreamingRecognizer): The network that runs on the frames.
        period (float): Seconds from a moment to the next.
        num_missed (int): Number of intervals whose frames were dropped.

    Raises:
        ValueError: If the model does not take single RGB frames, or cannot
            run along a stream.
    """

    def __init__(self, model: nn.Module, interval: float, watch: Watcher = lambda *_: None) -> None:
        super().__init__(model)
        self.recognizer = StreamingRecognizer(model)
        self.interval = interval
        self.period = self.recognizer.group * interval
        self.watch = watch
        self.num_missed = 0
        self._times: Deque[float] = deque()

    def classify(self, frames: Iterable[Frame]) -> Iterator[Moment]:
        """Yield the prediction of each moment as soon as the frames it needs are there.

        The frames are those of :func:`open_source`. A moment is a pair of
        sampled frames or, for networks without pairs, one. Frames of a live
        stream that were dropped are left out.

        Raises:
            EOFError: If the video breaks off, after all moments before.
        """
        number, now = 0, 0.0
        try:
            for count, frame in self.sample(frames):
                if frame.restarted:
                    yield from self.close(now)
                picture, now = frame.read(), frame.end_time
                missed = count - 1 if frame.num_dropped else 0
                # Do not repeat the picture for intervals that were missed, or
                # while the source was away: what they showed is unknown.
                moments = []
                for i in range(1 if missed or frame.restarted else count):
                    time = min((number + i + 0.5) * self.interval, now)
                    moments += self.push(picture, time, now)
                number += count
                self.num_missed += missed
                self.watch(picture, moments, count)
                yield from moments
        except EOFError:
            yield from self.close(now)
            raise
        yield from self.close(now)

    def push(self, picture: np.ndarray, time: float, now: float) -> List[Moment]:
        """Push a picture sampled at ``time``; return the moments that it finishes ``now``."""
        self._times.append(time)
        predictions = self.recognizer.push_many({i: crop[None] for i, crop in enumerate(self.prepare(picture))})
        return self._moments(predictions.values(), now)

    def close(self, now: float) -> List[Moment]:
        """End the streams of all crops; return the moments that waited for later frames."""
        moments = self._moments(map(self.recognizer.close, list(self.recognizer.streams)), now)
        self._times.clear()
        return moments

    def _moments(self, predictions: Iterable[list], now: float) -> List[Moment]:
        moments, activation = [], activation_of(self.model.cls_head)
        for of_crops in zip(*predictions):
            times = [self._times.popleft() for _ in range(self.recognizer.group)]
            averages = torch.stack([p.average for p in of_crops])
            probabilities = activate(averages, activation).mean(0).cpu()
            moments.append(Moment(times[0], times[-1], probabilities, now - times[-1]))
        return moments
