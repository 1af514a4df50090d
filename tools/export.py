"""Export a recognizer to a file that runs without this package.

Examples:
    python tools/export.py CONFIG CHECKPOINT model.onnx --with-preprocessing
    python tools/export.py CONFIG CHECKPOINT model.pt2 --format torch
    python tools/export.py CONFIG CHECKPOINT int8.onnx --int8
"""
import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

from mmblvnet.apis import load_recognizer, read_class_names
from mmblvnet.deployment import (ExportableRecognizer, check_agreement,
                                 describe_frames, example_frames, export_onnx,
                                 export_torch, frames_shape, load_exported)
from mmblvnet.deployment.frames import FREE_DIMENSIONS
from mmblvnet.deployment.quantization import calibration_clips, quantize

SUFFIXES = dict(onnx='.onnx', torch='.pt2', aotinductor='.pt2')


def export(model, out: Path, args: argparse.Namespace) -> None:
    """Write a file of a recognizer and check it.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        out (Path): The file. It is not there before it was found to agree.
        args (Namespace): The options of the command.

    Raises:
        ValueError: If the file does not agree with the model.
    """
    shape = frames_shape(model.cfg, args.size)
    module = ExportableRecognizer(model, args.with_preprocessing)
    # Traced with one video, it would hold for one only.
    example = example_frames(shape, num_videos=2, num_views=args.views)
    if not args.with_preprocessing:
        example = example.float()
    names = read_class_names(args.label_map, model.cls_head.num_classes)
    about = dict(
        describe_frames(model, shape, args.views, args.with_preprocessing),
        class_names=json.dumps(names))
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder, out.name)
        if args.format == 'onnx':
            export_onnx(module, example, FREE_DIMENSIONS, draft, about)
        else:
            export_torch(module, example, FREE_DIMENSIONS, draft, about,
                         compiled=args.format == 'aotinductor')
        difference = check_agreement(
            load_exported(draft).run, model, shape, args.views,
            args.with_preprocessing)
        print(f'Agrees with the model: scores differ by {difference:.1e} at '
              'most')
        if args.int8:
            clips = calibration_clips(model, args.calibration_clips,
                                      args.calibration_list,
                                      args.with_preprocessing)
            difference = quantize(draft, clips)
            print(f'INT8: scores of the {args.calibration_clips} calibration '
                  f'clips differ by {difference:.4f} on average')
        os.replace(draft, out)
    for name, text in about.items():
        print(f'{name}: {text}')
    print(f'{out}: {out.stat().st_size / 1e6:.1f} MB')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT', type=Path)
    parser.add_argument(
        '--format', choices=SUFFIXES, default='onnx',
        help='torch: a program of torch.export; aotinductor: the same '
        'compiled to machine code, for this kind of machine')
    parser.add_argument(
        '--with-preprocessing', action='store_true',
        help='take frames from 0 to 255 and normalise them in the file')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
        help='of the frames, those of the val_pipeline by default')
    parser.add_argument(
        '--views', type=int, default=1, metavar='N',
        help='clips and crops of each video; 1 by default')
    parser.add_argument(
        '--label-map', help='a file with the name of a class per line')
    int8 = parser.add_argument_group('quantisation')
    int8.add_argument(
        '--int8', action='store_true', help='compute in 8-bit integers')
    int8.add_argument(
        '--calibration-clips', type=int, default=64, metavar='N',
        help='training videos that show how large the maps are')
    int8.add_argument(
        '--calibration-list',
        help="an annotation file in the place of the training set's")
    args = parser.parse_args()
    if args.out.suffix != SUFFIXES[args.format]:
        parser.error(f'{args.out} does not end in {SUFFIXES[args.format]}')
    if args.int8 and args.format != 'onnx':
        parser.error('--int8 needs --format onnx')
    if args.views < 1:
        parser.error(f'--views {args.views} is less than 1')
    if args.int8 and args.views > 1:
        parser.error('--int8 is calibrated with one view: --views 1')
    if args.calibration_clips < 1:
        parser.error(f'--calibration-clips {args.calibration_clips} is less '
                     'than 1')
    if not args.out.absolute().parent.is_dir():
        parser.error(f'{args.out.parent} is no folder')
    return args


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    try:
        model = load_recognizer(args.config, args.checkpoint, device='cpu')
        export(model, args.out, args)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
