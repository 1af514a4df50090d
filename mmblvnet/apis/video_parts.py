"""What happens when in a long or live video.

Windows lie on one grid of moments, so that they share frames::

    moments    0 1 2 3 4 5 6 7 8 9 ..
    window 0   x x x x
    window 1       x x x x
    window 2           x x x x

A stream goes on from moment to moment, each computed once.
"""
from collections import deque
from typing import Callable, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import example_of
from mmblvnet.models.heads.probabilities import (activate, activation_of,
                                          as_probabilities,
                                          average_as_trained)

from .streaming import StreamingRecognizer
from .video_source import Frame

# Seconds by which times may be wrong from rounding.
TOLERANCE = 1e-6


class Moment(NamedTuple):
    """What happens in a part of a video.

    Args:
        start (float): Where the part starts, in seconds.
        end (float): Where it ends, in seconds.
        probabilities (Tensor): Of each class, ``(num_classes, )``.
        delay (float): Seconds from its end until this was known. Defaults to
            0.
    """
    start: float
    end: float
    probabilities: Tensor
    delay: float = 0.


class FramePreparation:
    """What validation does after the decoder, for one frame at a time.

    Args:
        model (nn.Module): A ``Recognizer2D`` with its config as ``cfg``.

    Raises:
        ValueError: If the model does not take single RGB frames.
    """

    def __init__(self, model: nn.Module) -> None:
        example = example_of(model, 'val')
        if example.inputs.dim() != 4 or example.inputs.size(1) != 3:
            raise ValueError(
                'Parts of a video are made of single RGB frames: the val '
                f'pipeline of {model.cfg.filename} gives '
                f'{tuple(example.inputs.shape)}, not (frames, 3, H, W)')
        self.num_frames = example.num_frames
        self.transforms = example.prepare

    def __call__(self, picture: np.ndarray) -> Tensor:
        """Prepare a frame.

        Args:
            picture (np.ndarray): A frame, ``(H, W, 3)`` in RGB.

        Returns:
            Tensor: It in each of the pipeline's crops, ``(crops, C, H, W)``.
        """
        size = picture.shape[:2]
        return self.transforms(
            dict(imgs=[picture], img_shape=size, original_shape=size,
                 clip_len=1, num_clips=1, modality='RGB', label=-1))['inputs']


class WindowClassifier:
    """A recognizer of windows, whose frames are prepared once.

    Args:
        model (nn.Module): A ``Recognizer2D`` with its config as ``cfg``. The
            transforms after the decoder in the config's validation prepare
            the frames. A window has as many as the model relates to each
            other, or, where it takes any number, as validation samples.

    Raises:
        ValueError: If the model does not take single RGB frames.
    """

    def __init__(self, model: nn.Module) -> None:
        self.prepare = FramePreparation(model)
        average_as_trained(model.cls_head)
        self.num_frames = self.prepare.num_frames
        self.model = model

    @torch.no_grad()
    def classify(self, window: Iterable[Tensor]) -> Tensor:
        """The classes of a window.

        Args:
            window (Iterable[Tensor]): Its prepared frames.

        Returns:
            Tensor: Probabilities, ``(num_classes, )``.
        """
        # [crops * T, C, H, W]
        frames = torch.stack(tuple(window), 1).flatten(0, 1)
        sample, = self.model.test_step(
            dict(inputs=[frames], data_samples=[ActionDataSample()]))
        return as_probabilities(sample.pred_score, self.model.cls_head).cpu()


class StreamClassifier:
    """A recognizer of a stream, with the times of its frames.

    Args:
        model (nn.Module): A ``Recognizer2D`` with its config as ``cfg``. The
            transforms after the decoder in the config's validation prepare
            the frames.

    Raises:
        ValueError: If the model does not take single RGB frames, or cannot
            run along a stream.
    """

    def __init__(self, model: nn.Module) -> None:
        self.prepare = FramePreparation(model)
        self.recognizer = StreamingRecognizer(model)
        self.activation = activation_of(model.cls_head)
        self._waiting = deque()
        self._num_crops = 0

    def push(self, picture: np.ndarray, time: float,
             now: float) -> List[Moment]:
        """Go on with a frame.

        Args:
            picture (np.ndarray): The frame, ``(H, W, 3)`` in RGB.
            time (float): When it is, in seconds.
            now (float): When it is there, in seconds.

        Returns:
            list[Moment]: The moments that it finishes.
        """
        crops = self.prepare(picture)
        self._num_crops = len(crops)
        self._waiting.append(time)
        predictions = self.recognizer.push_many(
            {i: crop[None] for i, crop in enumerate(crops)})
        return self._moments(predictions.values(), now)

    def close(self, now: float) -> List[Moment]:
        """End the stream, so that the next frame begins another.

        Args:
            now (float): When it ends, in seconds.

        Returns:
            list[Moment]: The moments that were waiting for later frames.
        """
        predictions = [
            self.recognizer.close(crop) for crop in range(self._num_crops)
        ]
        moments = self._moments(predictions, now)
        self._waiting.clear()
        self._num_crops = 0
        return moments

    def _moments(self, predictions: Iterable[list],
                 now: float) -> List[Moment]:
        moments = []
        for of_crops in zip(*predictions):
            times = [
                self._waiting.popleft() for _ in range(self.recognizer.group)
            ]
            probabilities = torch.stack([
                activate(p.average, self.activation)
                for p in of_crops
            ]).mean(0).cpu()
            moments.append(
                Moment(times[0], times[-1], probabilities, now - times[-1]))
        return moments


def sample_moments(frames: Iterable[Frame],
                   interval: float) -> Iterator[Tuple[int, Frame]]:
    """What there is to see in the middle of each interval of a video.

    Those are the frames that :class:`BigLittleSampleFrames` takes in a test.

    Args:
        frames (Iterable[Frame]): The video.
        interval (float): Length of an interval in seconds.

    Yields:
        tuple: How many moments one after the other show a frame, and it.
    """
    moment = 0
    for frame in frames:
        first = moment
        while (moment + 0.5) * interval < frame.until - TOLERANCE:
            moment += 1
        if moment > first:
            yield moment - first, frame


def classify_windows(frames: Iterable[Frame], classifier: WindowClassifier,
                     length: float, step: int) -> Iterator[Moment]:
    """The classes of window after window of a video.

    Holds the frames of one window at a time. Of windows that end with the
    same frame (in a live stream those that there was no time for) only the
    last is classified.

    Args:
        frames (Iterable[Frame]): The video.
        classifier (WindowClassifier): Classifies the windows.
        length (float): Length of a window in seconds.
        step (int): From a window to the next, in frames of a window.

    Yields:
        Moment: Each window, as soon as its last frame is there.
    """
    num_frames = classifier.num_frames
    interval = length / num_frames
    window = deque(maxlen=num_frames)
    moment = 0
    for count, frame in sample_moments(frames, interval):
        moments = range(moment, moment + count)
        moment += count
        # Those between windows that leave gaps are not needed.
        needed = [m for m in moments if m % step < num_frames]
        if not needed:
            continue
        prepared = classifier.prepare(frame.read())
        starts = [m + 1 - num_frames for m in needed]
        starts = [s for s in starts if s >= 0 and s % step == 0]
        for m in needed:
            window.append(prepared)
            if starts and m + 1 - num_frames == starts[-1]:
                yield Moment(starts[-1] * interval,
                             starts[-1] * interval + length,
                             classifier.classify(window))


def classify_stream(
    frames: Iterable[Frame],
    classifier: StreamClassifier,
    interval: float,
    watch: Callable[[np.ndarray, List[Moment], int, int], None] = (
        lambda *_: None)
) -> Iterator[Moment]:
    """The classes of moment after moment of a video.

    Moments of a live stream that there was no time for are left out.

    Args:
        frames (Iterable[Frame]): The video.
        classifier (StreamClassifier): Classifies it.
        interval (float): From one frame that is taken to the next, in
            seconds.
        watch (Callable): Gets each picture that is taken, what it finishes,
            how many frames of the stream it stands for, and how many of these
            were missed. Defaults to nothing.

    Yields:
        Moment: Each moment, as soon as the frames that it needs are there.

    Raises:
        EOFError: Where the video breaks off, after the moments before.
    """
    number, now, end = 0, 0., None
    try:
        for count, frame in sample_moments(frames, interval):
            if frame.restarted:
                yield from classifier.close(now)
            picture, now = frame.read(), frame.until
            missed = count - 1 if frame.num_dropped else 0
            # What was missed, or while the source was away, shows something
            # else, which nobody knows.
            moments = []
            for i in range(1 if missed or frame.restarted else count):
                time = min((number + i + 0.5) * interval, now)
                moments += classifier.push(picture, time, now)
            number += count
            watch(picture, moments, count, missed)
            yield from moments
    except EOFError as error:
        end = error
    yield from classifier.close(now)
    if end is not None:
        raise end
