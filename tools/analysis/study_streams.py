"""Comparison of windows and streams on long videos, for study.py --streams.

In a video one action follows the other, without cuts (one scene goes on) or
with cuts (each action has a new scene). The class of a prediction is shown
from the frame at which it is known until the next prediction.
"""

import argparse
from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Dict, Iterable, Iterator, List, Tuple

import _tools  # noqa: F401
import benchmark
import make_motion_dataset as motion
import numpy as np
import torch
from benchmark import spread, table
from matplotlib.figure import Figure
from mmengine.dataset import Compose
from torch import Tensor, nn

from mmblvnet.apis import StreamingRecognizer
from mmblvnet.deployment.exportable import reference_scores

PAIRS = 4
# Actions per video, the range of frames per action, and frames from one sampled
# frame to the next, as in a clip of 8 frames of the data set's videos.
ACTIONS, LENGTHS, INTERVAL = 16, (32, 96), 4
FRAMES_PER_SECOND = 24 / INTERVAL
STRIDES = (1, 2, 4)
KINDS = ('continuous', 'cuts')

# The title of each measure's columns, and the factor to the columns' unit.
MEASURES = {'live': ('live, %', 100), 'hindsight': ('hindsight, %', 100), 'delay': ('delay, s', 1)}
# The title and the backbone of each model, trained on clips alone or for streams.
TRAINED = '_stream'
MODELS = {
    f'{key}{suffix}': (f'{name}{how}', dict(benchmark.BLVNET, **options))
    for key, name, options in (
        ('tam', 'TAM, lookahead', dict()),
        ('causal', 'TAM, causal', dict(causal=True)),
        ('online_tsm', 'TSM, online', dict(temporal_module='TSM', causal=True)),
    )
    for suffix, how in (('', ''), (TRAINED, ', trained for streams'))
}
# The one model that also runs on windows: neither causal nor trained for streams.
WINDOW_MODEL = 'tam'

# A prediction: the frame from which on it is known, the middle of the frames
# that it is computed from, and the class.
ShownPrediction = Tuple[int, float, int]


def draw_video(seed: int, cuts: bool, size: int) -> Tuple[Tensor, np.ndarray]:
    """Draw a video of several actions: its sampled frames (n, 3, size, size) and labels (n, )."""
    rng = np.random.default_rng([7, seed, cuts])
    labels, paths = [], []
    for _ in range(ACTIONS):
        # Never the same action twice in a row.
        label = int(rng.choice([c for c in range(8) if [c] != labels[-1:]]))
        length = int(rng.integers(*LENGTHS))
        coordinate, direction = motion.MOTIONS[label]
        # TRAVELS is how far a motion goes in the frames that one clip spans.
        travel = rng.uniform(*motion.TRAVELS[coordinate]) * length / (2 * PAIRS * INTERVAL)
        path = np.tile(rng.random(4), (length, 1))
        path[:, coordinate] += direction * travel * np.linspace(0, 1, length)
        if paths and not cuts:
            path += paths[-1][-1] - path[0]
        labels += [label] * length
        paths.append(path)
    # One size, since the frames of a video have one.
    shape = motion.draw_frame_size(rng, motion.SHORT_SIDE)
    scenes = paths if cuts else [np.concatenate(paths)]
    frames = np.concatenate([motion.make_frames(rng, scene % 1, shape) for scene in scenes])[::INTERVAL]
    # As the val_pipeline does.
    prepare = Compose([dict(type='Resize', scale=(-1, size)), dict(type='CenterCrop', crop_size=size)])
    prepared = prepare(dict(imgs=list(frames), img_shape=shape))['imgs']
    return torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2), np.array(labels[::INTERVAL])


def windows(model: nn.Module, frames: Tensor) -> Iterator[ShownPrediction]:
    """Yield the predictions of windows, one that ends with each pair of frames."""
    for last in range(2 * PAIRS - 1, len(frames), 2):
        window = frames[last + 1 - 2 * PAIRS : last + 1]
        yield last, last + 0.5 - PAIRS, int(reference_scores(model, window[None]).argmax())


def stream(model: nn.Module, frames: Tensor) -> Iterator[ShownPrediction]:
    """Yield the predictions along a stream, averaged as those of a window."""
    recognizer = StreamingRecognizer(model)
    for number, frame in enumerate(frames):
        for prediction in recognizer.push(frame[None]):
            yield number, 2 * prediction.pair + 1.5 - PAIRS, int(prediction.average.argmax())


def judge(labels: np.ndarray, predictions: Iterable[ShownPrediction]) -> Dict[str, float]:
    """Compare the predictions of a video, in the order of time, with its labels.

    ``live`` is the share of frames at which the class shown is right,
    ``hindsight`` the same where each frame has the prediction whose middle is
    nearest, and ``delay`` the mean time in seconds from the start of an action
    until its class is shown (its whole length if it never is). The first
    action does not count: when it starts, there is no window yet.
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


def evaluate(key: str, model: nn.Module, videos: int, size: int) -> Dict[str, dict]:
    """Return the means of the results of :func:`judge`, by kind of video, then by method."""
    results = {}
    for kind in KINDS:
        judged = defaultdict(list)
        for number in range(videos):
            frames, labels = draw_video(number, kind == 'cuts', size)
            judged['stream'].append(judge(labels, stream(model, frames)))
            predictions = list(windows(model, frames)) if key == WINDOW_MODEL else ()
            for stride in STRIDES if predictions else ():
                judged[f'windows_{stride}'].append(judge(labels, predictions[::stride]))
        results[kind] = {
            method: {name: mean(r[name] for r in values) for name in values[0]} for method, values in judged.items()
        }
    return results


def report(args: argparse.Namespace, runs: Dict[Tuple[str, int], List[dict]], file: Path) -> str:
    """Return a table of windows and streams in Markdown, and draw a plot into a file."""
    # Label, records, method, and how many new pairs share the MACs of one window.
    series = []
    for (key, _), records in runs.items():
        for stride in STRIDES if key == WINDOW_MODEL else ():
            series += [(f'windows, stride of {stride} pair{"s" * (stride > 1)}', records, f'windows_{stride}', stride)]
        rate = f', learning rate {records[0]["lr"]}' if len(args.lr) > 1 else ''
        series += [(f'stream: {MODELS[key][0]}{rate}', records, 'stream', PAIRS)]
    _, backbone = MODELS[WINDOW_MODEL]
    window = benchmark.build(2 * PAIRS, **backbone), torch.zeros(2 * PAIRS, 3, args.size, args.size)
    gmacs_per_second = benchmark.count(*window)['macs'] * FRAMES_PER_SECOND / 2e9
    figure = Figure((8, 4))
    axes = figure.subplots()
    rows = []
    for name, records, method, pairs in series:
        cost = gmacs_per_second / pairs
        rows.append([name, f'{cost:.2f}'])
        for (measure, (_, scale)), kind in product(MEASURES.items(), KINDS):
            rows[-1].append(spread([scale * record[kind][method][measure] for record in records], '.1f', mean))
        for measure, colour in (('live', 'C3'), ('hindsight', 'C0')):
            values = [100 * record['continuous'][method][measure] for record in records]
            label = measure if len(rows) == 1 else None
            axes.plot(values, [f'{name}, {cost:.1f} GMACs/s'] * len(records), 'o', color=colour, label=label)
    axes.set(xlabel='frames with the right class, no cuts, % (a dot per seed)')
    axes.invert_yaxis()
    axes.grid(axis='y', alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120, bbox_inches='tight')
    return table(['', 'GMACs/s', *(title for t, _ in MEASURES.values() for title in (t, 'with cuts'))], rows)
