"""Predict what happens in videos, and when it happens in a long one.

Examples:
    python tools/predict.py VIDEO.. CONFIG CHECKPOINT --label-map NAMES
    python tools/predict.py VIDEO CONFIG CHECKPOINT --window 2 --stride 0.5
    python tools/predict.py rtsp://.. CONFIG CHECKPOINT --stream
"""

import argparse
import csv
import json
import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence, TextIO, Tuple

import numpy as np
from mmengine.utils import track_iter_progress
from torch import nn

from mmblvnet import apis
from mmblvnet.apis import Moment, Prediction, top_predictions
from mmblvnet.datasets import BrokenVideoError
from mmblvnet.datasets.pipelines import video_pipeline_of
from mmblvnet.visualization import predictions

BAR_LENGTH = 30
# The columns of a part's times, in seconds.
TIMES = ('start', 'end', 'delay')
# The modes, as in messages.
FILES, WINDOW, STREAM = 'files and folders', '--window', '--stream'


def predict_files(model: nn.Module, names: Sequence[str], args: Namespace) -> Optional[str]:
    """Predict files, and return a message that lists those that failed, or None."""
    videos = args.videos
    # Refuses a config without video files here, not once per video.
    video_pipeline_of(model.cfg, 'test')
    apis.accelerate(model.backbone, args.precision, args.compile)
    root = os.path.commonpath([Path(v).absolute().parent for v in videos])
    results = []
    for video in track_iter_progress(videos, file=sys.stderr) if (len(videos) > 1) else videos:
        results.append(dict(video=video))
        try:
            best = top_predictions(apis.classify_video(model, video), names, args.topk)
            results[-1].update(predictions_of(best))
            if args.video_out:
                predictions.annotate_video(video, annotated_file(args.video_out, video, root), best)
        except (BrokenVideoError, EOFError, ValueError) as error:
            results[-1]['error'] = reason(error)
    show(results)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
    broken = [f'{result["video"]}: {result["error"]}' for result in results if 'error' in result]
    if not broken:
        return None
    return '\n'.join([f'\n{len(broken)} of {len(videos)} videos could not be predicted or written:', *broken])


def annotated_file(folder: str, video: str, root: str) -> Path:
    """Return the path for an annotated video: in the folder as the video is below root."""
    out = Path(folder, os.path.relpath(video, root))
    if out.suffix != '.mp4':
        out = out.with_name(f'{out.name}.mp4')
    if out.resolve() == Path(video).resolve():
        raise ValueError(f'{folder} has the video itself: give --video-out another folder')
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def show(results: Sequence[dict]) -> None:
    """Print the predictions of each video with a bar for each."""
    for result in results:
        if len(results) > 1 and 'predictions' in result:
            print(f'\n{result["video"]}')
        for best in result.get('predictions', ()):
            probability = best['probability']
            bar = '#' * round(probability * BAR_LENGTH)
            print(f'{probability:8.3f}  {bar:{BAR_LENGTH}}  {best["name"]}')


def predictions_of(best: List[Prediction]) -> dict:
    return dict(predictions=[p._asdict() for p in best])


def reason(error: Exception) -> str:
    """Return the type and last line of an error, since decoders report many lines."""
    if isinstance(error, BrokenVideoError):
        error = error.__cause__
    lines = str(error).strip().splitlines() or ['no reason given']
    return f'{type(error).__name__}: {lines[-1]}'


def predict_parts(model: nn.Module, names: Sequence[str], args: Namespace) -> Optional[str]:
    """Predict part after part of a file or a stream, and return what failed, or None."""
    annotated = predictions.AnnotatedVideo(args.video_out, args.sample_fps) if args.video_out else None
    known: List[Prediction] = []

    def watch(picture: np.ndarray, moments: Sequence[Moment], count: int) -> None:
        if moments:
            known[:] = top_predictions(moments[-1].probabilities, names, args.topk)
        for _ in range(count if annotated else 0):
            annotated.write(picture, known)

    if args.stream:
        classifier = apis.StreamClassifier(model, 1 / args.sample_fps, watch)
        backbone = classifier.recognizer.model.backbone
    else:
        classifier = apis.WindowClassifier(model, args.window, args.stride or args.window / 2)
        backbone = model.backbone
    apis.accelerate(backbone, args.precision, args.compile)
    source = args.videos[0]
    frames = apis.open_source(source, args.fps) if args.reopen is None else apis.keep_open(source, args.reopen)
    timeline, half, problem = predictions.Timeline(), classifier.period / 2, None
    try:
        for moment, best in write_parts(classifier.classify(frames), names, args):
            delay = f'  {moment.delay:+.1f} s' if args.stream else ''
            line = f'{best[0].probability:8.3f}  {best[0].name}{delay}'
            print(f'{predictions.clock(moment.start)} - {predictions.clock(moment.end)}{line}', flush=True)
            middle = (moment.start + moment.end) / 2
            timeline.add(middle - half, middle + half, moment.probabilities)
    except KeyboardInterrupt:
        # Ctrl+C is how a user stops watching a stream.
        pass
    except EOFError as error:
        # Returned only after the parts before it have been drawn.
        problem = str(error)
    if annotated:
        annotated.close()
    if args.stream and classifier.num_missed:
        missed = f'{classifier.num_missed} sampled frames were dropped because inference is too slow'
        print(f'{missed}: lower --sample-fps', file=sys.stderr)
    if not timeline.columns:
        part = f'window of {args.window} s' if args.window else 'pair of frames'
        return problem or f'{source} ended before the first {part} did'
    if args.picture:
        predictions.draw_timeline(timeline, names, args.picture)
    return problem


def write_parts(
    moments: Iterable[Moment], names: Sequence[str], args: Namespace
) -> Iterator[Tuple[Moment, List[Prediction]]]:
    """Pass each part on with its best classes, written at once for programs that follow the files."""
    columns = [f'{name}_{i + 1}' for i in range(min(args.topk, len(names))) for name in ('class', 'probability')]
    with output(args.csv) as table, output(args.json_lines) as lines:
        rows = csv.writer(table)
        rows.writerow([*TIMES, *columns])
        for moment in moments:
            best = top_predictions(moment.probabilities, names, args.topk)
            times = {name: round(getattr(moment, name), 3) for name in TIMES}
            row = [f'{time:.3f}' for time in times.values()]
            for _, name, probability in best:
                row += [name, f'{probability:.4f}']
            rows.writerow(row)
            lines.write(json.dumps({**times, **predictions_of(best)}) + '\n')
            yield moment, best


def output(path: Optional[str]) -> TextIO:
    """Open a line-buffered text file, or the null device if there is no path."""
    return open(path or os.devnull, 'w', 1, encoding='utf-8', newline='')


def positive(text: str) -> float:
    """Parse a number of the command line that has to be finite and greater than 0."""
    number = float(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a finite number greater than 0')
    return number


def parse_args() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    videos = 'files or folders; with --window or --stream a file, the number of a camera, a URL, or - for stdin'
    add('videos', nargs='+', metavar='VIDEO', help=videos)
    add('config', metavar='CONFIG')
    add('checkpoint', metavar='CHECKPOINT')
    add('--label-map', help='a file with the name of a class per line')
    add('--topk', type=int, default=5, help='number of classes to list; 5 by default')
    precision = 'bfloat16: faster where the processor has it (AVX-512 BF16, AMX, or a GPU)'
    add('--precision', choices=['float32', 'bfloat16'], default='float32', help=precision)
    add('--compile', action='store_true', help='compile the network first: pays for many or long videos')
    add = parser.add_mutually_exclusive_group().add_argument
    add('--window', type=positive, help='classify windows of so many seconds in a long or live video')
    add('--stream', action='store_true', help='classify every moment of a long or live video, each frame computed once')
    useful_with = {}

    def add_for(modes: Sequence[str], name: str, text: str, **settings) -> None:
        option = parser.add_argument(name, help=f'with {" or ".join(modes)}: {text}', **settings)
        useful_with[option.dest] = modes

    add_for([FILES], '--json', 'a JSON file for the predictions and errors')
    add_for([FILES, STREAM], '--video-out', 'a folder, or for a stream an MP4 file, for the annotated videos')
    add_for([WINDOW], '--stride', 'seconds from a window to the next, half a window by default', type=positive)
    sample_fps = 'frames per second that the network sees, as in its training clips; 8 by default'
    add_for([STREAM], '--sample-fps', sample_fps, type=positive)
    reopen = 'take the source as live, and reopen it so many seconds after it breaks off'
    add_for([STREAM], '--reopen', reopen, type=positive, metavar='SECONDS')
    add_for([WINDOW, STREAM], '--csv', 'a CSV file for the times and classes of each part')
    add_for([WINDOW, STREAM], '--json-lines', 'a file for the same, a JSON object per line')
    add_for([WINDOW, STREAM], '--picture', 'a file for the timeline, as .png, .svg or .pdf')
    add_for([WINDOW, STREAM], '--fps', 'frame rate of a file that names none or a wrong one', type=positive)
    args = parser.parse_args()
    if args.compile and not shutil.which(os.environ.get('CXX', 'g++')):
        parser.error('--compile needs a C++ compiler: install g++, or name another in the variable CXX')
    if args.topk < 1:
        parser.error(f'--topk {args.topk} is less than 1')
    mode = STREAM if args.stream else WINDOW if args.window else FILES
    if mode != FILES and len(args.videos) > 1:
        parser.error(f'{mode} takes one video')
    for name, modes in useful_with.items():
        if mode not in modes and getattr(args, name) is not None:
            parser.error(f'--{name.replace("_", "-")} cannot be used with {mode}')
    for file in filter(None, (args.json, args.picture)):
        if not Path(file).absolute().parent.is_dir():
            parser.error(f'{file} cannot be written: {Path(file).parent} is not a folder')
    if args.picture and not args.picture.endswith(('.png', '.svg', '.pdf')):
        parser.error(f'--picture {args.picture} does not end in .png, .svg or .pdf')
    args.sample_fps = args.sample_fps or 8
    return args


def main() -> None:
    args = parse_args()
    predict = predict_parts
    try:
        if not (args.window or args.stream):
            predict, args.videos = predict_files, apis.find_videos(args.videos)
        model = apis.load_recognizer(args.config, args.checkpoint)
        names = apis.read_class_names(args.label_map, model.cls_head.num_classes)
        sys.exit(predict(model, names, args))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
