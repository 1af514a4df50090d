"""Predict what happens in videos, and when it happens in a long one.

Examples:
    python tools/predict.py VIDEO.. CONFIG CHECKPOINT --label-map NAMES
    python tools/predict.py VIDEO CONFIG CHECKPOINT --window 2 --stride 0.5
    python tools/predict.py rtsp://.. CONFIG CHECKPOINT --stream
"""
import argparse
import contextlib
import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import (IO, Dict, Iterator, List, Optional, Sequence, Tuple,
                    Union)

import numpy as np
from mmengine.dataset import Compose
from mmengine.utils import track_iter_progress
from torch import nn

from mmblvnet.apis import (Moment, Prediction, StreamClassifier,
                           WindowClassifier, accelerate, classify_stream,
                           classify_video, classify_windows, find_videos,
                           keep_open, load_recognizer, open_source,
                           read_class_names, top_predictions)
from mmblvnet.datasets import BrokenVideoError
from mmblvnet.datasets.pipelines import video_pipeline_of
from mmblvnet.visualization import (AnnotatedVideo, Timeline, annotate_video,
                                    draw_timeline)
from mmblvnet.visualization.timeline import clock

BAR_LENGTH = 30
# What the options are for.
USEFUL_WITH = dict(
    json=['files and folders'],
    video_out=['files and folders', '--stream'],
    stride=['--window'],
    csv=['--window', '--stream'],
    json_lines=['--window', '--stream'],
    picture=['--window', '--stream'],
    fps=['--window', '--stream'],
    sample_fps=['--stream'],
    reopen=['--stream'])
Result = Union[List[Prediction], Exception]


def predict(video: str,
            config: str,
            checkpoint: str,
            label_map: Optional[str] = None,
            topk: int = 5) -> List[Tuple[str, float]]:
    """The most probable classes of a video.

    Args:
        video (str): A video file.
        config (str): The model's config.
        checkpoint (str): The model's checkpoint.
        label_map (str, optional): A file with the name of a class per line.
            Defaults to None, which gives the classes' numbers.
        topk (int): How many classes. Defaults to 5.

    Returns:
        list[tuple]: Names and probabilities, the highest first.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint or the label map does not fit the model.
    """
    videos = find_videos([video])
    model = load_recognizer(config, checkpoint)
    names = read_class_names(label_map, model.cls_head.num_classes)
    pipeline = Compose(video_pipeline_of(model.cfg, 'test'))
    probabilities = classify_video(model, videos[0], pipeline)
    return [(name, probability) for _, name, probability in top_predictions(
        probabilities, names, topk)]


def predict_all(model, videos: Sequence[str], names: Sequence[str], topk: int,
                video_out: Optional[str]) -> Dict[str, Result]:
    """Predict videos one by one, going on after those that fail.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        videos (Sequence[str]): Video files.
        names (Sequence[str]): The names of the classes.
        topk (int): How many classes.
        video_out (str, optional): A folder for annotated videos.

    Returns:
        dict: The predictions, or what went wrong, for each video.
    """
    pipeline = Compose(video_pipeline_of(model.cfg, 'test'))
    root = os.path.commonpath(
        [Path(video).absolute().parent for video in videos])
    results = {}
    if len(videos) > 1:
        videos = track_iter_progress(videos, file=sys.stderr)
    for video in videos:
        try:
            results[video] = top_predictions(
                classify_video(model, video, pipeline), names, topk)
            if video_out:
                out = annotated_file(video_out, video, root)
                annotate_video(video, out, results[video])
        except (BrokenVideoError, ValueError) as error:
            results[video] = error
    return results


def annotated_file(folder: str, video: str, root: str) -> Path:
    """Where a video with its predictions goes.

    Args:
        folder (str): The folder of all such videos.
        video (str): The video.
        root (str): The folder that the videos have in common, below which
            they keep their folders.

    Returns:
        Path: The file, whose folder is there.

    Raises:
        ValueError: If it is the video itself.
    """
    out = Path(folder, os.path.relpath(video, root))
    if out.suffix != '.mp4':
        out = out.with_name(f'{out.name}.mp4')
    if out.resolve() == Path(video).resolve():
        raise ValueError(f'{folder} has the video itself: give --video-out '
                         'another folder')
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def show_predictions(results: Dict[str, Result]) -> None:
    """Print the predictions of each video with a bar for each."""
    for video, predictions in results.items():
        if isinstance(predictions, Exception):
            continue
        if len(results) > 1:
            print(f'\n{video}')
        for _, name, probability in predictions:
            bar = '#' * round(probability * BAR_LENGTH)
            print(f'{probability:8.3f}  {bar:{BAR_LENGTH}}  {name}')


def write_json(results: Dict[str, Result], file: str) -> None:
    """Write the predictions of each video, and what went wrong."""
    content = []
    for video, result in results.items():
        if isinstance(result, Exception):
            content.append(dict(video=video, error=reason(result)))
        else:
            content.append(
                dict(video=video, predictions=[p._asdict() for p in result]))
    Path(file).write_text(json.dumps(content, indent=1) + '\n', 'utf-8')


def reason(error: Exception) -> str:
    """What went wrong, of which decoders make many lines."""
    if isinstance(error, BrokenVideoError):
        error = error.__cause__
    lines = str(error).strip().splitlines() or ['no reason given']
    return f'{type(error).__name__}: {lines[-1]}'


def predict_files(args: argparse.Namespace) -> Optional[str]:
    """Predict files and folders.

    Returns:
        str, optional: Which of them failed, None if none did.
    """
    videos = find_videos(args.videos)
    model, names = load(args)
    accelerate(model.backbone, args.precision, args.compile)
    results = predict_all(model, videos, names, args.topk, args.video_out)
    show_predictions(results)
    if args.json:
        write_json(results, args.json)
    broken = [f'{video}: {reason(result)}' for video, result in
              results.items() if isinstance(result, Exception)]
    if broken:
        return '\n'.join([f'\n{len(broken)} of {len(videos)} videos could not '
                          'be predicted:', *broken])
    return None


def load(args: argparse.Namespace) -> tuple:
    """The model and the names of its classes."""
    model = load_recognizer(args.config, args.checkpoint)
    return model, read_class_names(args.label_map, model.cls_head.num_classes)


class Watcher:
    """Shows what a live consumer sees, and counts what it misses.

    Args:
        args (Namespace): The options of the command.
        names (Sequence[str]): The names of the classes.
    """

    def __init__(self, args: argparse.Namespace,
                 names: Sequence[str]) -> None:
        self.names, self.topk = names, args.topk
        self.out = None
        if args.video_out:
            self.out = AnnotatedVideo(args.video_out, args.sample_fps)
        self.shown: List[Prediction] = []
        self.num_missed = 0

    def __call__(self, picture: np.ndarray, moments: Sequence[Moment],
                 count: int, missed: int) -> None:
        self.num_missed += missed
        if moments:
            self.shown = top_predictions(moments[-1].probabilities,
                                         self.names, self.topk)
        for _ in range(count if self.out else 0):
            self.out.write(picture, self.shown)

    def close(self) -> None:
        if self.out:
            self.out.close()
        if self.num_missed:
            print(f'{self.num_missed} sampled frames were dropped, for which '
                  'there was no time: lower --sample-fps', file=sys.stderr)


def windows_of(args: argparse.Namespace,
               model: nn.Module) -> Tuple[Iterator[Moment], float]:
    """The windows of a video, and the seconds from one to the next."""
    accelerate(model.backbone, args.precision, args.compile)
    classifier = WindowClassifier(model)
    interval = args.window / classifier.num_frames
    step = max(1, round((args.stride or args.window / 2) / interval))
    frames = open_source(args.videos[0], args.fps)
    return classify_windows(frames, classifier, args.window,
                            step), step * interval


def stream_of(args: argparse.Namespace, model: nn.Module,
              watcher: Watcher) -> Tuple[Iterator[Moment], float]:
    """The moments of a stream, and the seconds from one to the next."""
    classifier = StreamClassifier(model)
    accelerate(classifier.recognizer.model.backbone, args.precision,
               args.compile)
    source = args.videos[0]
    frames = open_source(source, args.fps) if args.reopen is None else (
        keep_open(source, args.reopen))
    interval = 1 / args.sample_fps
    return classify_stream(frames, classifier, interval,
                           watcher), classifier.recognizer.group * interval


def predict_parts(args: argparse.Namespace) -> Optional[str]:
    """Predict part after part of a file or a stream.

    Returns:
        str, optional: What went wrong, None if nothing did.
    """
    model, names = load(args)
    watcher = Watcher(args, names)
    moments, step = (stream_of(args, model, watcher) if args.stream else
                     windows_of(args, model))
    timeline, problem = Timeline(), None
    try:
        for moment in write_table(moments, args, names):
            best, = top_predictions(moment.probabilities, names, 1)
            delay = f'  {moment.delay:+.1f} s' if args.stream else ''
            print(f'{clock(moment.start)} - {clock(moment.end)}'
                  f'{best.probability:8.3f}  {best.name}{delay}', flush=True)
            middle = (moment.start + moment.end) / 2
            timeline.add(middle - step / 2, middle + step / 2,
                         moment.probabilities)
    except KeyboardInterrupt:
        # How one stops watching a stream.
        pass
    except EOFError as error:
        # Told after what could be seen has been drawn.
        problem = str(error)
    watcher.close()
    if not timeline.columns:
        part = (f'window of {args.window} s'
                if args.window else 'pair of frames')
        return problem or f'{args.videos[0]} ended before the first {part} did'
    if args.picture:
        draw_timeline(timeline, names, args.picture)
    return problem


def write_table(moments: Iterator[Moment], args: argparse.Namespace,
                names: Sequence[str]) -> Iterator[Moment]:
    """Write each part's classes as it passes, so that others can follow.

    Args:
        moments (Iterator[Moment]): The parts.
        args (Namespace): The options of the command.
        names (Sequence[str]): The names of the classes.

    Yields:
        Moment: The same parts.
    """
    with contextlib.ExitStack() as files:

        def open_file(path: Optional[str]) -> Optional[IO]:
            return path and files.enter_context(
                open(path, 'w', newline='', encoding='utf-8'))

        table, lines = open_file(args.csv), open_file(args.json_lines)
        writer = table and csv.writer(table)
        if writer:
            count = range(1, min(args.topk, len(names)) + 1)
            writer.writerow(['start', 'end', 'delay'] + [
                f'{column}_{i}' for i in count
                for column in ('class', 'probability')
            ])
        for moment in moments:
            best = top_predictions(moment.probabilities, names, args.topk)
            times = dict(start=round(moment.start, 3),
                         end=round(moment.end, 3),
                         delay=round(moment.delay, 3))
            if writer:
                row = [f'{time:.3f}' for time in times.values()]
                for _, name, probability in best:
                    row += [name, f'{probability:.4f}']
                writer.writerow(row)
                table.flush()
            if lines:
                content = dict(times,
                               predictions=[p._asdict() for p in best])
                lines.write(json.dumps(content) + '\n')
                lines.flush()
            yield moment


def positive(text: str) -> float:
    """A number of the command line that has to be greater than 0."""
    number = float(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not greater than 0')
    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'videos', nargs='+', metavar='VIDEO',
        help='files or folders; with --window or --stream one file, the '
        'number of a camera, an URL such as rtsp://.., or - for standard '
        'input')
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument(
        '--label-map', help='a file with the name of a class per line')
    parser.add_argument('--topk', type=int, default=5)
    parser.add_argument(
        '--precision', choices=['float32', 'bfloat16'], default='float32',
        help='bfloat16: faster where the processor has it (AVX-512 BF16, '
        'AMX, or a GPU)')
    parser.add_argument(
        '--compile', action='store_true',
        help='compile the network first, for many videos or a long one')
    parser.add_argument(
        '--video-out',
        help='a folder for the videos with predictions in them; with --stream '
        'an MP4 file for the sampled frames')
    files = parser.add_argument_group('of files and folders')
    files.add_argument('--json', help='a file for the predictions')
    parts = parser.add_argument_group('of a long or live video')
    parts.add_argument(
        '--window', type=positive,
        help='length in seconds of the parts that are classified')
    parts.add_argument(
        '--stride', type=positive,
        help='seconds from a part to the next, half a window by default')
    parts.add_argument(
        '--stream', action='store_true',
        help='classify every moment, each frame computed once')
    parts.add_argument(
        '--sample-fps', type=positive,
        help='with --stream: how many frames per second the network sees, as '
        'in its training clips; 8 by default')
    parts.add_argument(
        '--reopen', type=positive, metavar='SECONDS',
        help='with --stream: the source is live; when it breaks off, open it '
        'again so often')
    parts.add_argument('--csv', help='a file for the classes of each part')
    parts.add_argument(
        '--json-lines', help='the same, a JSON object per line')
    parts.add_argument('--picture', help='a file for the timeline, as .png')
    parts.add_argument(
        '--fps', type=positive,
        help='frames per second of a file that does not say them')
    args = parser.parse_args()
    check_options(parser, args)
    args.sample_fps = args.sample_fps or 8
    return args


def check_options(parser: argparse.ArgumentParser,
                  args: argparse.Namespace) -> None:
    """Refuse options that would do nothing."""
    if args.compile and not shutil.which(os.environ.get('CXX', 'g++')):
        parser.error('--compile needs a C++ compiler: install g++, or name '
                     'another in the variable CXX')
    if args.topk < 1:
        parser.error(f'--topk {args.topk} is less than 1')
    if args.window and args.stream:
        parser.error('--window and --stream exclude each other')
    mode = 'files and folders'
    if args.window or args.stream:
        mode = '--stream' if args.stream else '--window'
    for name, modes in USEFUL_WITH.items():
        if mode not in modes and getattr(args, name) is not None:
            parser.error(f'--{name.replace("_", "-")} does nothing with '
                         f'{mode}')
    if mode.startswith('--') and len(args.videos) > 1:
        parser.error(f'{mode} takes one video')


def main() -> None:
    args = parse_args()
    try:
        parts = args.window or args.stream
        sys.exit(predict_parts(args) if parts else predict_files(args))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
