"""Export a recognizer to a file that runs without this package.

Examples:
    python tools/export.py CONFIG CHECKPOINT model.onnx --with-preprocessing
    python tools/export.py CONFIG CHECKPOINT model.pt2 --format torch
    python tools/export.py CONFIG CHECKPOINT int8.onnx --int8
    python tools/export.py CONFIG CHECKPOINT model.xml --format openvino
    python tools/export.py CONFIG CHECKPOINT stream.onnx --streaming
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmblvnet.apis import load_recognizer, read_class_names
from mmblvnet.deployment import exportable, formats

# The files of each format; the user names the first one.
SUFFIXES = dict(onnx=['.onnx'], openvino=['.xml', '.bin'], torch=['.pt2'])


def export_clips(model: nn.Module, module: Any, metadata: dict, draft: Path, args: Namespace) -> Path:
    """Write a draft file of a recognizer of clips, compare it with the model, and return its path."""
    examples = module.examples()
    exportable.check_repeatable(model, *examples)
    onnx_file = draft.with_suffix('.onnx')
    if args.format == 'torch':
        formats.export_torch(module, examples, module.dynamic_axes, draft, metadata)
    else:
        formats.export_onnx(module, examples, module.dynamic_axes, onnx_file, metadata)
    if args.format == 'openvino':
        formats.export_openvino(onnx_file, draft)
    run = formats.load_exported(draft).run
    report(exportable.check_parity(run, model, module))
    if not args.int8 and args.precision == 'float32':
        return draft
    converted = draft.with_stem('converted')
    if args.int8:
        clips = exportable.calibration_clips(
            model, args.calibration_clips, args.calibration_list, args.with_preprocessing
        )
        source, onnx_file = onnx_file, converted.with_suffix('.onnx')
        formats.quantize(source, onnx_file, clips)
    if args.format == 'openvino':
        formats.export_openvino(onnx_file, converted, args.precision)
    converted_run = formats.load_exported(converted).run
    if args.int8:
        scores, expected = (torch.cat([file(clip) for clip in clips]) for file in (converted_run, run))
        same = (scores.argmax(-1) == expected.argmax(-1)).float().mean()
        mean = (scores - expected).abs().mean()
        print(f'INT8: {same:.0%} of {len(clips)} clips keep their top-1 class, scores differ by {mean:.4f} on average')
    else:
        report(exportable.check_parity(converted_run, model, module, args.precision), args.precision)
    return converted


def export_step(model: nn.Module, module: Any, metadata: dict, draft: Path, args: Namespace) -> Path:
    """Write a draft file of one step of a stream, compare it with the model, and return its path."""
    onnx_file = draft.with_suffix('.onnx')
    formats.export_onnx(module, module.examples(), {}, onnx_file, metadata)
    report(exportable.check_stream_parity(onnx_file, model, module))
    if args.format == 'openvino':
        formats.export_openvino(onnx_file, draft, args.precision)
    return draft


def report(difference: float, precision: str = 'float32') -> None:
    print(f'Agrees with the model in {precision}: scores differ by {difference:.1e} at most')


def parse_args() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', metavar='CONFIG')
    add('checkpoint', metavar='CHECKPOINT')
    add('out', metavar='OUT', type=Path)
    kinds = 'openvino: an .xml file and a .bin file beside it; torch: a program of torch.export'
    add('--format', choices=SUFFIXES, default='onnx', help=kinds)
    precision = 'of an OpenVINO file; bfloat16 is faster where the CPU has it (AVX-512 BF16 or AMX)'
    add('--precision', choices=formats.PRECISIONS, default='float32', help=precision)
    add('--with-preprocessing', action='store_true', help='take frames from 0 to 255 and normalise them in the file')
    add('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='of the frames; as in validation by default')
    add('--label-map', help='a file with the name of a class per line')
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--streaming', action='store_true', help='export one step, with its state as input and output')
    kind.add_argument('--int8', action='store_true', help='quantize to 8-bit integers')
    clips = 'with --int8: number of training videos to calibrate with; 64 by default'
    add('--calibration-clips', type=int, default=64, metavar='N', help=clips)
    add('--calibration-list', help="with --int8: annotation file to use instead of the training set's")
    args = parser.parse_args()
    suffix = SUFFIXES[args.format][0]
    if args.out.suffix != suffix:
        parser.error(f'{args.out} does not end in {suffix}')
    if args.format == 'torch' and (args.int8 or args.streaming):
        parser.error(f'--{"int8" if args.int8 else "streaming"} needs --format onnx or openvino')
    if args.format != 'openvino' and args.precision != 'float32':
        parser.error(f'--precision {args.precision} needs --format openvino')
    if args.calibration_clips < 1:
        parser.error(f'--calibration-clips {args.calibration_clips} is less than 1')
    if not args.out.absolute().parent.is_dir():
        parser.error(f'{args.out.parent} is not a folder')
    return args


def export(args: Namespace) -> None:
    """Export the model; the file appears only once its scores agree with the model's."""
    if args.format == 'openvino':
        formats.import_openvino()
    model = load_recognizer(args.config, args.checkpoint, device='cpu')
    names = read_class_names(args.label_map, model.cls_head.num_classes)
    shape = exportable.frames_shape(model, args.size)
    kind, write = exportable.ExportableRecognizer, export_clips
    if args.streaming:
        kind, write = exportable.ExportableStream, export_step
    module = kind(model, shape, args.with_preprocessing)
    metadata = dict(module.describe(), class_names=json.dumps(names))
    first, *_ = suffixes = SUFFIXES[args.format]
    with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:
        draft = write(model, module, metadata, Path(folder, 'model').with_suffix(first), args)
        files = [draft.with_suffix(suffix).replace(args.out.with_suffix(suffix)) for suffix in suffixes]
    for name, text in metadata.items():
        print(f'{name}: {text}')
    print(f'{args.out}: {sum(file.stat().st_size for file in files) / 1e6:.1f} MB')


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    try:
        export(args)
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
