"""Classes of overlapping windows of a long video.

The windows lie on one grid of moments, so that they share frames::

    moments    0 1 2 3 4 5 6 7 8 9 ..
    window 0   x x x x
    window 1       x x x x
    window 2           x x x x
"""
from collections import deque
from typing import Iterable, Iterator, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.models.backbones.big_little_backbone import BigLittleBackbone
from mmblvnet.utils.pipelines import example_of
from mmblvnet.utils.probabilities import as_probabilities, average_as_trained

from .video_source import Frame

# Seconds by which times may be wrong from rounding.
TOLERANCE = 1e-6


class Window(NamedTuple):
    """What happens in a part of a video.

    Args:
        start (float): Where it starts, in seconds.
        end (float): Where it ends, in seconds.
        probabilities (Tensor): Of each class, ``(num_classes, )``.
    """
    start: float
    end: float
    probabilities: Tensor


class WindowClassifier:
    """A recognizer of windows that does once what it can do frame by frame.

    That is the preprocessing and, for the Big-Little networks, the first
    convolution with its norm and ReLU: the temporal module after it looks at
    the neighbours, which a window's first and last frame do not have.

    Args:
        model (nn.Module): A ``Recognizer2D`` with its config as ``cfg``. The
            transforms after the decoder in the config's validation prepare
            the frames. A window has as many as the model relates to each
            other, or, where it takes any number, as validation samples.

    Raises:
        ValueError: If the model does not take single RGB frames.
    """

    def __init__(self, model: nn.Module) -> None:
        example = example_of(model, 'val')
        if example.inputs.dim() != 4 or example.inputs.size(1) != 3:
            raise ValueError(
                'Windows are made of single RGB frames: the val pipeline of '
                f'{model.cfg.filename} gives {tuple(example.inputs.shape)}, '
                'not (frames, 3, H, W)')
        average_as_trained(model.cls_head)
        self.num_frames = example.num_frames
        self.model = model
        self.transforms = example.prepare
        test_cfg = model.test_cfg or dict()
        self.shares_maps = isinstance(
            model.backbone, BigLittleBackbone) and not (
                model.with_neck or test_cfg.get('fcn_test'))

    @torch.no_grad()
    def prepare(self, picture: np.ndarray) -> Tensor:
        """Do what can be done with a frame alone.

        Args:
            picture (np.ndarray): A frame, ``(H, W, 3)`` in RGB.

        Returns:
            Tensor: The frame, or its maps, of each of the pipeline's crops.
        """
        size = picture.shape[:2]
        # [crops, C, H, W]
        inputs = self.transforms(
            dict(imgs=[picture], img_shape=size, original_shape=size,
                 clip_len=1, num_clips=1, modality='RGB', label=-1))['inputs']
        if not self.shares_maps:
            return inputs
        # [1, crops, C, H, W]
        inputs = self.model.data_preprocessor(_batch(inputs))['inputs']
        return self.model.backbone.forward_frames(inputs.flatten(0, 1))

    @torch.no_grad()
    def classify(self, window: Sequence[Tensor]) -> Tensor:
        """The classes of a window.

        Args:
            window (Sequence[Tensor]): Its prepared frames.

        Returns:
            Tensor: Probabilities, ``(num_classes, )``.
        """
        # [crops * T, C, H, W]
        frames = torch.stack(tuple(window), 1).flatten(0, 1)
        if self.shares_maps:
            maps = self.model.backbone.forward_clips(frames)
            samples = self.model.cls_head.predict(
                maps, [ActionDataSample()], num_segs=len(frames))
        else:
            samples = self.model.test_step(_batch(frames))
        return as_probabilities(samples[0].pred_score,
                                self.model.cls_head).cpu()


def _batch(inputs: Tensor) -> dict:
    return dict(inputs=[inputs], data_samples=[ActionDataSample()])


def sample_moments(frames: Iterable[Frame],
                   interval: float) -> Iterator[Tuple[int, np.ndarray]]:
    """What there is to see in the middle of each interval of a video.

    Those are the frames that :class:`BigLittleSampleFrames` takes in a test.

    Args:
        frames (Iterable[Frame]): The video.
        interval (float): Length of an interval in seconds.

    Yields:
        tuple: A picture, and how many moments one after the other show it.
    """
    moment = 0
    for frame in frames:
        first = moment
        while (moment + 0.5) * interval < frame.until - TOLERANCE:
            moment += 1
        if moment > first:
            yield moment - first, frame.read()


def classify_windows(frames: Iterable[Frame], classifier: WindowClassifier,
                     length: float, step: int) -> Iterator[Window]:
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
        Window: Each window, as soon as its last frame is there.
    """
    num_frames = classifier.num_frames
    interval = length / num_frames
    window = deque(maxlen=num_frames)
    moment = 0
    for count, picture in sample_moments(frames, interval):
        moments = range(moment, moment + count)
        moment += count
        # Those between windows that leave gaps are not needed.
        needed = [m for m in moments if m % step < num_frames]
        if not needed:
            continue
        prepared = classifier.prepare(picture)
        starts = [m + 1 - num_frames for m in needed]
        starts = [s for s in starts if s >= 0 and s % step == 0]
        for m in needed:
            window.append(prepared)
            if starts and m + 1 - num_frames == starts[-1]:
                yield Window(starts[-1] * interval,
                             starts[-1] * interval + length,
                             classifier.classify(window))
