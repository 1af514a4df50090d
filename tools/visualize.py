"""Draw temporal weights, input frames, Grad-CAM, training curves or a confusion matrix.

Examples:
    python tools/visualize.py weights CONFIG CHECKPOINT --out out.png
    python tools/visualize.py frames CONFIG VIDEO --out out.png
    python tools/visualize.py gradcam CONFIG CHECKPOINT VIDEO --out out.png
    python tools/visualize.py curves WORK_DIR --out out.png
    python tools/visualize.py confusion CONFIG SCORES --show-path out.png
"""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Callable, Sequence

import matplotlib
import mmaction
import numpy as np

from mmblvnet.apis import load_recognizer, read_class_names, top_predictions
from mmblvnet.datasets import BrokenVideoError
from mmblvnet.visualization.clips import draw_clips, explain, has_branches, prepare_video
from mmblvnet.visualization.curves import draw_curves, read_curves
from mmblvnet.visualization.temporal_weights import draw_temporal_weights, temporal_weights


def show_weights(args: argparse.Namespace) -> None:
    """Draw the weights of the Temporal Aggregation Modules."""
    model = load_recognizer(args.config, args.checkpoint, 'cpu')
    draw_temporal_weights(temporal_weights(model), args.out)


def show_frames(args: argparse.Namespace) -> None:
    """Draw the frames of a video that a network is given."""
    if args.draws < 1:
        raise ValueError(f'--draws: {args.draws} is less than 1')
    model = load_recognizer(args.config, None, 'cpu')
    np.random.seed(args.seed)
    random = args.split == 'train'
    clips = []
    for _ in range(args.draws if random else 1):
        clips += prepare_video(model, args.video, args.split)[1]
    kind, title = 'draw' if random else 'view', f'{clips[0].total_frames} frames'
    draw_clips(clips, args.out, kind, has_branches(model), title)


def show_gradcam(args: argparse.Namespace) -> None:
    """Draw where a recognizer sees the most probable class (Grad-CAM)."""
    model = load_recognizer(args.config, args.checkpoint, args.device)
    names = read_class_names(args.label_map, model.cls_head.num_classes)
    clips, probabilities = explain(model, args.video, args.layer, args.split)
    (best,) = top_predictions(probabilities, names, 1)
    title = f'{args.layer}: {best.probability:.0%} {best.name}'
    draw_clips(clips, args.out, 'view', has_branches(model), title)


def show_curves(args: argparse.Namespace) -> None:
    """Draw the loss and the accuracy of training runs."""
    runs = [read_curves(folder, args.metric) for folder in args.work_dirs]
    names = [Path(folder).resolve().name for folder in args.work_dirs]
    draw_curves(runs, names, args.metric, args.out)


def run_confusion_matrix(args: Sequence[str]) -> None:
    """Draw a confusion matrix with MMAction2's tool."""
    # Run in this process, where compat.provide_drn stands in for what its wheel lacks.
    tool = Path(mmaction.__file__).parent.joinpath('.mim', 'tools', 'analysis_tools', 'confusion_matrix.py')
    sys.argv = [f'{sys.argv[0]} confusion', *args]
    # The tool leaves no room for long class names.
    with matplotlib.rc_context({'savefig.bbox': 'tight'}):
        runpy.run_path(str(tool), run_name='__main__')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    def add_command(name: str, show: Callable, arguments: str) -> Callable:
        command = commands.add_parser(name, help=show.__doc__, description=show.__doc__)
        for argument in arguments.split():
            command.add_argument(argument.lower(), metavar=argument)
        command.add_argument('--out', required=True, help='the picture, as .png, .svg or .pdf')
        command.set_defaults(show=show)
        return command.add_argument

    add_command('weights', show_weights, 'CONFIG CHECKPOINT')
    add = add_command('frames', show_frames, 'CONFIG VIDEO')
    add('--split', choices=('train', 'val', 'test'), default='train', help='whose pipeline to use; train by default')
    add('--draws', type=int, default=3, help='how many training clips to draw at random; 3 by default')
    add('--seed', type=int, default=0)
    add = add_command('gradcam', show_gradcam, 'CONFIG CHECKPOINT VIDEO')
    add('--layer', default='backbone/layer4', help='layer of the feature maps; backbone/layer4 by default')
    add('--split', choices=('val', 'test'), default='val', help='whose pipeline to use; val by default')
    add('--label-map', help='a file with the name of a class per line')
    add('--device', help='the GPU by default, if there is one')
    add = add_command('curves', show_curves, '')
    add('work_dirs', nargs='+', metavar='WORK_DIR')
    add('--metric', default='acc/top1', help='acc/top1 by default')
    commands.add_parser('confusion', help=run_confusion_matrix.__doc__)
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ['confusion']:
        return run_confusion_matrix(sys.argv[2:])
    args = parse_args()
    try:
        args.show(args)
    except (BrokenVideoError, FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
