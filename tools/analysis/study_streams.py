"""What streaming is worth: long videos, seen by windows and as streams.

In a video one action follows the other, without cuts (the scene goes on) or
with cuts (each action is another scene). A class is shown from the moment on
at which its prediction is there, until the next one.
"""
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Dict, Iterator, List, NamedTuple, Sequence

import _tools  # noqa: F401
import cv2
import make_motion_dataset as motion
import numpy as np
import torch
from benchmark_harness import spread, table
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


class Video(NamedTuple):
    """A video of several actions.

    Args:
        frames (Tensor): Sampled frames, uint8, ``(n, 3, H, W)``.
        labels (numpy.ndarray): The action in each of them.
        starts (list[int]): The first frame of each action.
    """
    frames: Tensor
    labels: np.ndarray
    starts: List[int]


class Shown(NamedTuple):
    """A prediction: since which frame it is known, the middle of the frames
    that it is of, and its class."""
    known: int
    middle: float
    label: int


def draw_video(seed: int, cuts: bool, size: int) -> Video:
    """Draw a video of several actions; with cuts each is another scene."""
    rng = np.random.default_rng([7, seed, cuts])
    labels, paths = [], []
    for _ in range(ACTIONS):
        # Never the same action twice in a row.
        others = [c for c in range(8) if [c] != labels[-1:]]
        labels.append(int(rng.choice(others)))
        length = int(rng.integers(*LENGTHS))
        path = draw_path(rng, labels[-1], length)
        if paths and not cuts:
            path += paths[-1][-1] - path[0]
        paths.append(path)
    scenes = [[path] for path in paths] if cuts else [paths]
    # One size, since the frames of a video have one.
    shape = motion.draw_frame_size(rng, motion.SHORT_SIDE)
    frames = np.concatenate([
        motion.make_frames(rng, np.concatenate(scene) % 1, shape)
        for scene in scenes
    ])
    of_frames = np.repeat(labels, [len(path) for path in paths])[::INTERVAL]
    starts = np.flatnonzero(np.diff(of_frames)) + 1
    return Video(prepare(frames[::INTERVAL], size), of_frames,
                 [0, *starts.tolist()])


def draw_path(rng: np.random.Generator, label: int,
              length: int) -> np.ndarray:
    """The states ``(length, 4)`` of an action, as fast as in a clip.

    They are not wrapped around.
    """
    coordinate, direction = motion.MOTIONS[label]
    per_clip = rng.uniform(*motion.TRAVELS[coordinate])
    clips = length / (2 * PAIRS * INTERVAL)
    path = np.tile(rng.random(4), (length, 1))
    path[:, coordinate] += direction * per_clip * clips * np.linspace(
        0, 1, length)
    return path


def prepare(frames: np.ndarray, size: int) -> Tensor:
    """What the ``val_pipeline`` does: resize, and crop the centre."""
    height, width = frames.shape[1:3]
    scale = size / min(height, width)
    shape = (round(width * scale), round(height * scale))
    frames = np.stack([cv2.resize(frame, shape) for frame in frames])
    top, left = ((side - size) // 2 for side in frames.shape[1:3])
    frames = frames[:, top:top + size, left:left + size]
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def windows(model: nn.Module, video: Video,
            stride: int) -> Iterator[Shown]:
    """The classes of windows that start every so many pairs."""
    length = 2 * PAIRS
    starts = range(0, len(video.frames) - length + 1, 2 * stride)
    for start in starts:
        frames = video.frames[start:start + length]
        sample = model.test_step(
            dict(inputs=[frames], data_samples=[ActionDataSample()]))[0]
        yield Shown(start + length - 1, start + (length - 1) / 2,
                    int(sample.pred_score.argmax()))


def stream(model: nn.Module, video: Video) -> Iterator[Shown]:
    """The classes along a stream."""
    recognizer = StreamingRecognizer(model)
    for number, frame in enumerate(video.frames):
        for prediction in recognizer.push(frame[None]):
            yield Shown(number, 2 * prediction.pair + 1.5 - PAIRS,
                        int(prediction.average.argmax()))


def judge(video: Video, predictions: Sequence[Shown]) -> Dict[str, float]:
    """How right the predictions of a video are.

    The first action is not judged, since windows have not begun by then.

    Args:
        video (Video): The video.
        predictions (Sequence[Shown]): In the order of time.

    Returns:
        dict: ``live``, the part of the frames at which the class shown is
        right, ``hindsight``, the same where each frame has the prediction
        whose middle is nearest, and ``delay``, the mean seconds from the
        start of an action until its class is shown (its whole length if it
        never is).
    """
    known, middles, classes = map(np.array, zip(*predictions))
    number = np.arange(len(video.labels))
    first = video.starts[1]
    shown = classes[np.maximum(np.searchsorted(known, number, 'right') - 1, 0)]
    nearest = np.abs(number[:, None] - middles).argmin(1)
    ends = [*video.starts[2:], len(number)]
    delays = []
    for start, end in zip(video.starts[1:], ends):
        right = np.flatnonzero(shown[start:end] == video.labels[start])
        delays.append(right[0] if len(right) else end - start)
    return dict(
        live=float((shown == video.labels)[first:].mean()),
        hindsight=float((classes[nearest] == video.labels)[first:].mean()),
        delay=float(np.mean(delays)) / FRAMES_PER_SECOND)


def evaluate(model: nn.Module, videos: int, size: int,
             with_windows: bool) -> Dict[str, dict]:
    """The means of what :func:`judge` tells, by kind of video and way."""
    line = {}
    for kind in KINDS:
        results = defaultdict(list)
        for number in range(videos):
            video = draw_video(number, kind == 'cuts', size)
            results['stream'].append(judge(video, list(stream(model, video))))
            for stride in STRIDES if with_windows else ():
                results[f'windows_{stride}'].append(
                    judge(video, list(windows(model, video, stride))))
        line[kind] = {
            way: {name: mean(r[name] for r in of_way) for name in of_way[0]}
            for way, of_way in results.items()
        }
    return line


def report(runs: Dict[str, List[dict]], macs: int, file: Path) -> str:
    """Make the table, and draw the plot into a file.

    Args:
        runs (dict[str, list]): By the models' names, the lines of their runs.
        macs (int): Multiply-adds of a window.
        file (Path): Of the plot.

    Returns:
        str: The table.
    """
    # With the share of a window's arithmetic that a pair takes.
    ways = [(f'windows, stride of {stride} pair{"s" * (stride > 1)}', name,
             f'windows_{stride}', 1 / stride)
            for stride in STRIDES for name, lines in runs.items()
            if f'windows_{stride}' in lines[0]['continuous']]
    ways += [(f'stream: {name}', name, 'stream', 1 / PAIRS) for name in runs]
    figure, lines = Figure((8, 4)), []
    axes = figure.subplots()
    for name, key, way, share in ways:
        cost = macs * share * FRAMES_PER_SECOND / 2 / 1e9
        cells = []
        for measure in ('live', 'hindsight', 'delay'):
            scale = 1 if measure == 'delay' else 100
            cells += [spread([scale * run[kind][way][measure]
                              for run in runs[key]], '.1f', mean)
                      for kind in KINDS]
        lines.append([name, f'{cost:.2f}', *cells])
        for measure, colour in (('live', 'C3'), ('hindsight', 'C0')):
            axes.plot(
                [100 * run['continuous'][way][measure] for run in runs[key]],
                [f'{name}, {cost:.1f} GMACs/s'] * len(runs[key]), 'o',
                color=colour, label=measure)
    axes.set(xlabel='frames with the right class, no cuts, % (a dot per seed)')
    axes.invert_yaxis()
    axes.grid(axis='y', alpha=0.3)
    axes.legend(*zip(*[pair[::-1] for pair in {
        label: line for line, label in zip(
            *axes.get_legend_handles_labels())}.items()]))
    figure.savefig(file, dpi=120, bbox_inches='tight')
    return table(['', 'GMACs/s', 'live, %', 'with cuts', 'hindsight, %',
                  'with cuts', 'delay, s', 'with cuts'], lines)
