"""What streaming is worth: one long video, windows and streams, one table.

Trains models on the clips of the embedded data set, and tries them on videos
in which one action follows the other, without cuts (the scene goes on) and
with cuts (each action is another scene). A class is shown from the moment on
at which its prediction is there, until the next one. Every finished run is a
line of OUT/runs.jsonl, and only missing ones are made.

Example:
    python tools/make_motion_dataset.py data/motion
    python tools/streaming_study.py
    python tools/streaming_study.py --report-only
"""
import argparse
import json
import logging
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import benchmark
import cv2
import make_motion_dataset as motion
import matplotlib.pyplot as plt
import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from study_models import base_config, build_backbone, make_runner
from torch import Tensor, nn

from mmblvnet.apis.streaming import StreamingRecognizer

PAIRS = 4
# Of a video: actions, frames of each, and from one sampled frame to the next,
# as in a clip of 8 of the data set's videos.
ACTIONS, LENGTHS, INTERVAL = 16, (32, 96), 4
FRAMES_PER_SECOND = 24 / INTERVAL
MODELS = {
    'tam': ('TAM, lookahead', dict(), False),
    'tam_stream': ('TAM, lookahead, trained for streams', dict(), True),
    'causal': ('TAM, causal', dict(causal=True), False),
    'causal_stream': ('TAM, causal, trained for streams',
                      dict(causal=True), True),
    'tsm': ('TSM, online', dict(temporal_module='TSM', causal=True), False),
    'tsm_stream': ('TSM, online, trained for streams',
                   dict(temporal_module='TSM', causal=True), True),
}
STRIDES = (1, 2, 4)


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


def draw_video(seed: int, cuts: bool, size: int) -> Video:
    """Draw a video of several actions.

    Args:
        seed (int): Of the video.
        cuts (bool): Whether each action is another scene.
        size (int): Height and width.

    Returns:
        Video: The video.
    """
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
    """The states of an action, which moves as fast as in a clip.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        label (int): The action.
        length (int): Frames.

    Returns:
        numpy.ndarray: The states, ``(length, 4)``, not wrapped around.
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
            stride: int) -> Iterator[Tuple[int, float, int]]:
    """The classes of windows that start every so many pairs.

    Yields:
        tuple: The frame from which on a class is known, the middle of the
        frames that it is of, and the class.
    """
    length = 2 * PAIRS
    starts = range(0, len(video.frames) - length + 1, 2 * stride)
    for start in starts:
        frames = video.frames[start:start + length]
        sample = model.test_step(
            dict(inputs=[frames], data_samples=[ActionDataSample()]))[0]
        yield (start + length - 1, start + (length - 1) / 2,
               int(sample.pred_score.argmax()))


def stream(model: nn.Module,
           video: Video) -> Iterator[Tuple[int, float, int]]:
    """The classes along a stream, as :func:`windows` yields them."""
    recognizer = StreamingRecognizer(model)
    for number, frame in enumerate(video.frames):
        for prediction in recognizer.push(frame[None]):
            yield (number, 2 * prediction.pair + 1.5 - PAIRS,
                   int(prediction.average.argmax()))


def judge(video: Video,
          predictions: Sequence[Tuple[int, float, int]]) -> Dict[str, float]:
    """How right the predictions of a video are.

    The first action is not judged, since windows have not begun by then.

    Args:
        video (Video): The video.
        predictions (Sequence[tuple]): What :func:`windows` yields.

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


def run(args: argparse.Namespace, key: str, seed: int) -> dict:
    """Train a model and try it on all videos."""
    _, backbone, for_streams = MODELS[key]
    cfg = base_config(args, f'{key}_{seed}', seed)
    cfg.merge_from_dict(dict(model=dict(backbone=backbone)))
    if for_streams:
        cfg.custom_hooks.append(dict(type='StreamTrainingHook'))
    runner = make_runner(cfg)
    accuracy = float(runner.val()['acc/top1'])
    model = runner.model.eval()
    line = dict(model=key, seed=seed, epochs=args.epochs, clips=accuracy)
    for cuts in (False, True):
        results = defaultdict(list)
        for number in range(args.videos):
            video = draw_video(number, cuts, args.size)
            results['stream'].append(judge(video, list(stream(model, video))))
            if not (for_streams or backbone):
                for stride in STRIDES:
                    results[f'windows_{stride}'].append(
                        judge(video, list(windows(model, video, stride))))
        line['cuts' if cuts else 'continuous'] = {
            way: {name: mean(r[name] for r in of_way) for name in of_way[0]}
            for way, of_way in results.items()
        }
    return line


def finished(out: Path) -> List[dict]:
    """The runs that are done."""
    file = out / 'runs.jsonl'
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def train_missing(args: argparse.Namespace) -> None:
    """Make the runs that are missing, seed after seed."""
    for seed in args.seeds:
        for key in args.models:
            if any((r['model'], r['seed'], r['epochs']) == (
                    key, seed, args.epochs) for r in finished(args.out)):
                continue
            line = run(args, key, seed)
            with open(args.out / 'runs.jsonl', 'a') as file:
                file.write(json.dumps(line) + '\n')
            print(key, seed, json.dumps(line), flush=True)


def ways(args: argparse.Namespace) -> Iterator[Tuple[str, str, str, float]]:
    """All ways to see a stream, with the share of a window's arithmetic.

    Yields:
        tuple: Name, model, way, and windows computed per pair.
    """
    for stride in STRIDES:
        yield (f'windows, stride of {stride} pair{"s" * (stride > 1)}', 'tam',
               f'windows_{stride}', 1 / stride)
    for key in args.models:
        yield f'stream: {MODELS[key][0]}', key, 'stream', 1 / PAIRS


def report(args: argparse.Namespace) -> str:
    """The table, and the plot as a file."""
    runs = [r for r in finished(args.out) if r['epochs'] == args.epochs]
    backbone = build_backbone('tam_r3', 2 * PAIRS)
    clip = torch.zeros(2 * PAIRS, 3, args.size, args.size)
    macs = benchmark.count_macs(backbone, clip) * FRAMES_PER_SECOND / 2 / 1e9
    lines = ['| | GMACs/s | live, % | with cuts | hindsight, % | with cuts | '
             'delay, s | with cuts |', '| --- ' * 8 + '|']
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, key, way, share in ways(args):
        own = [r for r in runs if r['model'] == key]
        if not own:
            continue
        cells = []
        for measure in ('live', 'hindsight', 'delay'):
            for kind in ('continuous', 'cuts'):
                values = [r[kind][way][measure] for r in own]
                cells.append(spread(values, measure == 'delay'))
        lines.append(f'| {name} | {macs * share:.2f} | '
                     + ' | '.join(cells) + ' |')
        live = [100 * r['continuous'][way]['live'] for r in own]
        axes.errorbar(
            macs * share, mean(live),
            [[mean(live) - min(live)], [max(live) - mean(live)]],
            fmt='s' if way == 'stream' else 'o', label=name, capsize=3)
    axes.set(xlabel='GMACs per second of video', xscale='log',
             ylabel='frames with the right class, %')
    axes.legend(fontsize='x-small', loc='center left',
                bbox_to_anchor=(1, 0.5))
    figure.savefig(args.out / 'streaming.png', dpi=150, bbox_inches='tight')
    text = '\n'.join(lines)
    (args.out / 'streaming.md').write_text(text + '\n')
    return text


def spread(values: Sequence[float], seconds: bool) -> str:
    """A mean with the lowest and the highest value."""
    form = '{:.1f}'
    if not seconds:
        values = [100 * value for value in values]
    return (f'{form} ({form} to {form})').format(
        mean(values), min(values), max(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--models', nargs='+', choices=MODELS,
                        default=list(MODELS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=int, default=12)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--size', type=int, default=64, help='in pixels')
    parser.add_argument('--videos', type=int, default=20,
                        help='with cuts, and as many without')
    parser.add_argument('--data', type=Path, default=Path('data/motion'))
    parser.add_argument('--out', type=Path,
                        default=Path('work_dirs/streaming_study'))
    parser.add_argument('--report-only', action='store_true')
    args = parser.parse_args()
    init_default_scope('mmaction')
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report_only:
        train_missing(args)
    print(report(args))


if __name__ == '__main__':
    main()
