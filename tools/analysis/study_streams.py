"""What streaming is worth: long videos, seen by windows and as streams.

In a video one action follows the other, without cuts (the scene goes on) or
with cuts (each action is another scene). A class is shown from the moment on
at which its prediction is there, until the next one.
"""

from collections import defaultdict
from itertools import pairwise
from statistics import mean
from typing import Dict, Iterable, Iterator, NamedTuple, Tuple

import _tools  # noqa: F401
import make_motion_dataset as motion
import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import Compose
from torch import Tensor, nn

from mmblvnet.apis.streaming import StreamingRecognizer

PAIRS = 4
# Of a video: actions, frames of each, and from one sampled frame to the next,
# as in a clip of 8 of the data set's videos.
ACTIONS, LENGTHS, INTERVAL = 16, (32, 96), 4
FRAMES_PER_SECOND = 24 / INTERVAL
STRIDES = (1, 2, 4)
KINDS = ('continuous', 'cuts')


class Shown(NamedTuple):
    """A prediction: since which frame it is known, the middle of the frames
    that it is of, and its class."""

    known: int
    middle: float
    label: int


def draw_video(seed: int, cuts: bool, size: int) -> Tuple[Tensor, np.ndarray]:
    """Draw several actions, as sampled frames (n, 3, H, W) and their labels.

    With cuts each action is another scene.
    """
    rng = np.random.default_rng([7, seed, cuts])
    labels, paths = [], []
    for _ in range(ACTIONS):
        # Never the same action twice in a row.
        label = int(rng.choice([c for c in range(8) if [c] != labels[-1:]]))
        length = int(rng.integers(*LENGTHS))
        coordinate, direction = motion.MOTIONS[label]
        # As fast as in a clip.
        travel = rng.uniform(*motion.TRAVELS[coordinate]) * length / (2 * PAIRS * INTERVAL)
        path = np.tile(rng.random(4), (length, 1))
        path[:, coordinate] += direction * travel * np.linspace(0, 1, length)
        if paths and not cuts:
            path += paths[-1][-1] - path[0]
        labels.append(label)
        paths.append(path)
    # One size, since the frames of a video have one.
    shape = motion.draw_frame_size(rng, motion.SHORT_SIDE)
    scenes = paths if cuts else [np.concatenate(paths)]
    frames = np.concatenate([motion.make_frames(rng, scene % 1, shape) for scene in scenes])[::INTERVAL]
    # As the val_pipeline does.
    prepare = Compose([dict(type='Resize', scale=(-1, size)), dict(type='CenterCrop', crop_size=size)])
    prepared = prepare(dict(imgs=list(frames), img_shape=shape))['imgs']
    of_frames = np.repeat(labels, [len(path) for path in paths])
    return torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2), of_frames[::INTERVAL]


def windows(model: nn.Module, frames: Tensor, stride: int) -> Iterator[Shown]:
    """The classes of windows that start every so many pairs."""
    length = 2 * PAIRS
    for start in range(0, len(frames) - length + 1, 2 * stride):
        (sample,) = model.test_step(dict(inputs=[frames[start : start + length]], data_samples=[ActionDataSample()]))
        yield Shown(start + length - 1, start + (length - 1) / 2, int(sample.pred_score.argmax()))


def stream(model: nn.Module, frames: Tensor) -> Iterator[Shown]:
    """The classes along a stream."""
    recognizer = StreamingRecognizer(model)
    for number, frame in enumerate(frames):
        for prediction in recognizer.push(frame[None]):
            yield Shown(number, 2 * prediction.pair + 1.5 - PAIRS, int(prediction.average.argmax()))


def judge(labels: np.ndarray, predictions: Iterable[Shown]) -> Dict[str, float]:
    """How right the predictions of a video, in the order of time, are.

    ``live`` is the part of the frames at which the class shown is right,
    ``hindsight`` the same where each frame has the prediction whose middle is
    nearest, and ``delay`` the mean seconds from the start of an action until
    its class is shown (its whole length if it never is). The first action does
    not count, since windows have not begun by then.
    """
    known, middles, classes = map(np.array, zip(*predictions))
    number = np.arange(len(labels))
    first, *others = np.flatnonzero(np.diff(labels)) + 1
    shown = classes[np.maximum(np.searchsorted(known, number, 'right') - 1, 0)]
    nearest = np.abs(number[:, None] - middles).argmin(1)
    delays = []
    for start, end in pairwise([first, *others, len(labels)]):
        right = shown[start:end] == labels[start]
        delays.append(right.argmax() if right.any() else len(right))
    return dict(
        live=float((shown == labels)[first:].mean()),
        hindsight=float((classes[nearest] == labels)[first:].mean()),
        delay=float(np.mean(delays)) / FRAMES_PER_SECOND,
    )


def evaluate(model: nn.Module, videos: int, size: int, with_windows: bool) -> Dict[str, dict]:
    """The means of what :func:`judge` tells, by kind of video and way."""
    results = {}
    for kind in KINDS:
        judged = defaultdict(list)
        for number in range(videos):
            frames, labels = draw_video(number, kind == 'cuts', size)
            judged['stream'].append(judge(labels, stream(model, frames)))
            for stride in STRIDES if with_windows else ():
                judged[f'windows_{stride}'].append(judge(labels, windows(model, frames, stride)))
        results[kind] = {
            way: {name: mean(r[name] for r in of_way) for name in of_way[0]} for way, of_way in judged.items()
        }
    return results
