"""What streaming is worth: long videos, seen by windows and as streams.

In a video one action follows the other, without cuts (the scene goes on) or
with cuts (each action is another scene). A class is shown from the moment on
at which its prediction is there, until the next one.
"""

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Dict, Iterable, Iterator, List, NamedTuple, Tuple

import _tools  # noqa: F401
import cv2
import make_motion_dataset as motion
import numpy as np
import torch
from benchmark import spread, table
from matplotlib.figure import Figure
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.apis.streaming import StreamingRecognizer

PAIRS = 4
# Of a video: actions, frames of each, and from one sampled frame to the next,
# as in a clip of 8 of the data set's videos.
ACTIONS, LENGTHS, INTERVAL = 16, (32, 96), 4
FRAMES_PER_SECOND = 24 / INTERVAL
STRIDES = (1, 2, 4)
KINDS = ('continuous', 'cuts')
MEASURES = ('live', 'hindsight', 'delay')


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
        others = [c for c in range(8) if [c] != labels[-1:]]
        labels.append(int(rng.choice(others)))
        path = draw_path(rng, labels[-1], int(rng.integers(*LENGTHS)))
        if paths and not cuts:
            path += paths[-1][-1] - path[0]
        paths.append(path)
    scenes = paths if cuts else [np.concatenate(paths)]
    # One size, since the frames of a video have one.
    shape = motion.draw_frame_size(rng, motion.SHORT_SIDE)
    frames = np.concatenate([motion.make_frames(rng, scene % 1, shape) for scene in scenes])
    of_frames = np.repeat(labels, [len(path) for path in paths])[::INTERVAL]
    return prepare(frames[::INTERVAL], size), of_frames


def draw_path(rng: np.random.Generator, label: int, length: int) -> np.ndarray:
    """The states (length, 4) of an action, as fast as in a clip, unwrapped."""
    coordinate, direction = motion.MOTIONS[label]
    per_clip = rng.uniform(*motion.TRAVELS[coordinate])
    clips = length / (2 * PAIRS * INTERVAL)
    path = np.tile(rng.random(4), (length, 1))
    path[:, coordinate] += direction * per_clip * clips * np.linspace(0, 1, length)
    return path


def prepare(frames: np.ndarray, size: int) -> Tensor:
    """What the ``val_pipeline`` does: resize, and crop the centre."""
    height, width = frames.shape[1:3]
    scale = size / min(height, width)
    shape = (round(width * scale), round(height * scale))
    frames = np.stack([cv2.resize(frame, shape) for frame in frames])
    top, left = ((side - size) // 2 for side in frames.shape[1:3])
    frames = frames[:, top : top + size, left : left + size]
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


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


def judge(labels: np.ndarray, predictions: Iterable[Shown]) -> dict:
    """How right the predictions of a video, in the order of time, are.

    ``live`` is the part of the frames at which the class shown is right,
    ``hindsight`` the same where each frame has the prediction whose middle is
    nearest, and ``delay`` the mean seconds from the start of an action until
    its class is shown (its whole length if it never is). The first action does
    not count, since windows have not begun by then.
    """
    known, middles, classes = map(np.array, zip(*predictions))
    number = np.arange(len(labels))
    starts = np.flatnonzero(np.diff(labels)) + 1
    shown = classes[np.maximum(np.searchsorted(known, number, 'right') - 1, 0)]
    nearest = np.abs(number[:, None] - middles).argmin(1)
    delays = []
    for start, end in zip(starts, [*starts[1:], len(labels)]):
        right = np.flatnonzero(shown[start:end] == labels[start])
        delays.append(right[0] if len(right) else end - start)
    judged = slice(starts[0], None)
    return dict(
        live=float((shown == labels)[judged].mean()),
        hindsight=float((classes[nearest] == labels)[judged].mean()),
        delay=float(np.mean(delays)) / FRAMES_PER_SECOND,
    )


def evaluate(model: nn.Module, videos: int, size: int, with_windows: bool) -> Dict[str, dict]:
    """The means of what :func:`judge` tells, by kind of video and way."""
    line = {}
    for kind in KINDS:
        results = defaultdict(list)
        for number in range(videos):
            frames, labels = draw_video(number, kind == 'cuts', size)
            results['stream'].append(judge(labels, stream(model, frames)))
            for stride in STRIDES if with_windows else ():
                results[f'windows_{stride}'].append(judge(labels, windows(model, frames, stride)))
        line[kind] = {
            way: {name: mean(r[name] for r in of_way) for name in of_way[0]} for way, of_way in results.items()
        }
    return line


def report(runs: Dict[str, List[dict]], macs: int, file: Path) -> str:
    """The table of runs by model, and a plot in a file; MACs of a window."""
    # With the share of a window's arithmetic that a pair takes.
    ways = [
        (f'windows, stride of {stride} pair{"s" * (stride > 1)}', lines, f'windows_{stride}', 1 / stride)
        for stride in STRIDES
        for lines in runs.values()
        if f'windows_{stride}' in lines[0]['continuous']
    ]
    ways += [(f'stream: {name}', lines, 'stream', 1 / PAIRS) for name, lines in runs.items()]
    rows, dots = [], []
    for name, lines, way, share in ways:
        cost = macs * share * FRAMES_PER_SECOND / 2 / 1e9
        cells = [[line[kind][way][measure] for line in lines] for measure in MEASURES for kind in KINDS]
        rows.append(
            [
                name,
                f'{cost:.2f}',
                *(
                    spread([scale * value for value in values], '.1f', mean)
                    for values, scale in zip(cells, (100, 100, 100, 100, 1, 1))
                ),
            ]
        )
        dots += [(f'{name}, {cost:.1f} GMACs/s', line['continuous'][way]) for line in lines]
    figure = Figure((8, 4))
    axes = figure.subplots()
    for measure, colour in (('live', 'C3'), ('hindsight', 'C0')):
        axes.plot(
            [100 * result[measure] for _, result in dots], [name for name, _ in dots], 'o', color=colour, label=measure
        )
    axes.set(xlabel='frames with the right class, no cuts, % (a dot per seed)')
    axes.invert_yaxis()
    axes.grid(axis='y', alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120, bbox_inches='tight')
    return table(['', 'GMACs/s', 'live, %', 'with cuts', 'hindsight, %', 'with cuts', 'delay, s', 'with cuts'], rows)
