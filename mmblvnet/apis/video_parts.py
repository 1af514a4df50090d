"""What happens when in a long or live video."""

import math
from collections import deque
from typing import Callable, Deque, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import example_of
from mmblvnet.models.heads.probabilities import activate, activation_of, as_probabilities

from .streaming import StreamingRecognizer
from .video_source import Frame

# Seconds by which times may be wrong from rounding.
TOLERANCE = 1e-6


class Moment(NamedTuple):
    """What happens in a part of a video; all times are in seconds."""

    start: float
    end: float
    # Of each class, (num_classes, ).
    probabilities: Tensor
    # From its end until this was known.
    delay: float = 0.0


Watcher = Callable[[np.ndarray, List[Moment], int], None]


class PartClassifier:
    """Samples a video at regular intervals and prepares each frame once.

    The transforms after the decoder in the config's validation prepare them.
    """

    # Seconds from a frame that is sampled to the next.
    interval: float

    def __init__(self, model: nn.Module) -> None:
        example = example_of(model, 'val')
        if example.inputs.dim() != 4 or example.inputs.size(1) != 3:
            given = f'the val pipeline of {model.cfg.filename} gives {tuple(example.inputs.shape)}'
            raise ValueError(f'Parts of a video are made of single RGB frames: {given}, not (frames, 3, H, W)')
        self.model = model
        self.num_frames = example.num_frames
        self._transforms = example.prepare

    def prepare(self, picture: np.ndarray) -> Tensor:
        """All crops, ``(crops, C, H, W)``, of a picture, ``(H, W, 3)``."""
        size = picture.shape[:2]
        about = dict(img_shape=size, original_shape=size, clip_len=1, num_clips=1, modality='RGB', label=-1)
        return self._transforms(dict(about, imgs=[picture]))['inputs']

    def sample(self, frames: Iterable[Frame]) -> Iterator[Tuple[int, Frame]]:
        """What there is to see in the middle of each interval of a video.

        Those are the frames that ``BigLittleSampleFrames`` takes in a test,
        each with how many intervals one after the other show it.
        """
        number = 0
        for frame in frames:
            count = math.ceil((frame.until - TOLERANCE) / self.interval - 0.5) - number
            if count > 0:
                number += count
                yield count, frame


class WindowClassifier(PartClassifier):
    """Classifies window after window of a video, which share their frames.

    A window has as many as the model relates to each other, or, where it
    takes any number, as validation samples.

    Args:
        model (nn.Module): A ``Recognizer2D`` of :func:`load_recognizer`.
        length (float): Seconds of a window.
        stride (float): Seconds from a window to the next, which are rounded
            to whole frames.

    Attributes:
        period (float): Seconds from a window to the next.

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
        """The classes of each window, as soon as its last frame is there.

        Of windows that end with the same frame (in a live stream those that
        there was no time for) only the last is classified. Of the frames, which
        are those of :func:`open_source`, one window at a time is held.
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
        """Those of the classes, ``(num_classes, )``, of prepared frames."""
        # [crops * T, C, H, W]
        frames = torch.stack(window, 1).flatten(0, 1)
        (sample,) = self.model.test_step(dict(inputs=[frames], data_samples=[ActionDataSample()]))
        return as_probabilities(sample.pred_score, self.model.cls_head).cpu()


class StreamClassifier(PartClassifier):
    """Classifies moment after moment of a video, each frame computed once.

    Args:
        model (nn.Module): A ``Recognizer2D`` of :func:`load_recognizer`.
        interval (float): Seconds from a frame that it sees to the next.
        watch (Callable): Gets each picture that is taken, the moments that it
            finishes, and how many sampled frames it stands for.

    Attributes:
        recognizer (StreamingRecognizer): Through which the frames go.
        period (float): Seconds from a moment to the next.
        num_missed (int): Sampled frames that there was no time for.

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
        """The classes of each moment, as soon as the frames it needs are there.

        A moment is a pair of the frames, which are those of
        :func:`open_source`, or, of networks without pairs, a frame. Those of a
        live stream that there was no time for are left out.

        Raises:
            EOFError: Where a video breaks off, after the moments before.
        """
        number, now = 0, 0.0
        try:
            for count, frame in self.sample(frames):
                if frame.restarted:
                    yield from self.close(now)
                picture, now = frame.read(), frame.until
                missed = count - 1 if frame.num_dropped else 0
                # What was missed, or while the source was away, shows
                # something else, which nobody knows.
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
        """What a picture of some time finishes, which is there now."""
        self._times.append(time)
        predictions = self.recognizer.push_many({i: crop[None] for i, crop in enumerate(self.prepare(picture))})
        return self._moments(predictions.values(), now)

    def close(self, now: float) -> List[Moment]:
        """What waited for later frames; the next picture begins a stream."""
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
