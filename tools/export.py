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
import os
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Sequence

import torch
from torch import Tensor

from mmblvnet.apis import load_recognizer, read_class_names
from mmblvnet.deployment import (ExportableRecognizer, ExportableStream,
                                 check_parity, check_repeatable,
                                 check_stream, describe_frames,
                                 example_frames, export_onnx, export_openvino,
                                 export_torch, frames_shape, free_dimensions,
                                 load_exported)
from mmblvnet.deployment.openvino_file import PRECISIONS, import_openvino
from mmblvnet.deployment.parity import BFLOAT16_TOLERANCE
from mmblvnet.deployment.quantization import calibration_clips, quantize

# Of each format's files; the first is the one that is named.
SUFFIXES = dict(
    onnx=['.onnx'],
    openvino=['.xml', '.bin'],
    torch=['.pt2'],
    aotinductor=['.pt2'])


def export(model, out: Path, args: argparse.Namespace) -> None:
    """Write a file of a recognizer and check it.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        out (Path): The file. It is not there before it was found to agree.
        args (Namespace): The options of the command.

    Raises:
        ValueError: If the file does not agree with the model.
    """
    shape = frames_shape(model, args.size)
    module = ExportableRecognizer(model, args.with_preprocessing)
    free = free_dimensions(model)
    # Traced with one video or view, it would hold for one only.
    example = example_frames(
        shape, num_videos=2, num_views=2 if 1 in free else 1)
    check_repeatable(model, example)
    if not args.with_preprocessing:
        example = example.float()
    names = read_class_names(args.label_map, model.cls_head.num_classes)
    about = dict(
        describe_frames(model, shape, args.with_preprocessing),
        class_names=json.dumps(names))
    check = partial(
        check_parity,
        model=model,
        shape=shape,
        with_preprocessing=args.with_preprocessing)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder, f'float32{SUFFIXES[args.format][0]}')
        write(module, example, free, draft, about, args.format)
        run = load_exported(draft).run
        print(f'Agrees with the model: scores differ by {check(run):.1e} at '
              'most')
        if args.int8:
            clips = calibration_clips(model, args.calibration_clips,
                                      args.calibration_list,
                                      args.with_preprocessing)
            draft = write_int8(draft, clips, args.precision)
            report_int8(load_exported(draft).run, run, clips)
        elif args.precision != 'float32':
            onnx_file = draft.with_suffix('.onnx')
            draft = draft.with_stem(args.precision)
            export_openvino(onnx_file, draft, args.precision)
            difference = check(
                load_exported(draft).run, tolerance=BFLOAT16_TOLERANCE)
            print(f'{args.precision}: scores differ by {difference:.1e} at '
                  'most')
        finish(draft, out, about, args)


def finish(draft: Path, out: Path, about: Dict[str, str],
           args: argparse.Namespace) -> None:
    """Put a file that was found to agree in its place, and describe it."""
    for suffix in SUFFIXES[args.format]:
        os.replace(draft.with_suffix(suffix), out.with_suffix(suffix))
    for name, text in about.items():
        print(f'{name}: {text}')
    size = sum(
        out.with_suffix(suffix).stat().st_size
        for suffix in SUFFIXES[args.format])
    print(f'{out}: {size / 1e6:.1f} MB')


def export_step(model, out: Path, args: argparse.Namespace) -> None:
    """Write a file of one step of a stream and check it.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        out (Path): The file. It is not there before it was found to agree.
        args (Namespace): The options of the command.

    Raises:
        ValueError: If the file does not agree with the model.
    """
    _, *shape = frames_shape(model, args.size)
    step = ExportableStream(model, args.with_preprocessing)
    names = read_class_names(args.label_map, model.cls_head.num_classes)
    about = dict(step.describe(shape), class_names=json.dumps(names))
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder, 'step.onnx')
        export_onnx(step, step.examples(shape), {}, draft, about,
                    step.input_names, step.output_names)
        difference = check_stream(draft, model, shape, args.with_preprocessing)
        print(f'Agrees with the model: scores differ by {difference:.1e} at '
              'most')
        if args.format == 'openvino':
            export_openvino(draft, draft.with_suffix('.xml'), args.precision)
        finish(draft, out, about, args)


def write(module: ExportableRecognizer, example: Tensor,
          free: Dict[int, torch.export.Dim], path: Path, about: Dict[str, str],
          form: str) -> None:
    """Write a file of a format, and the ONNX file that it is made of.

    Args:
        module (nn.Module): What is to be exported.
        example (Tensor): Its input.
        free (dict): The dimensions of the input that may differ.
        path (Path): The file.
        about (dict): Its metadata.
        form (str): The format.
    """
    if form in ('torch', 'aotinductor'):
        export_torch(module, example, free, path, about,
                     compiled=form == 'aotinductor')
        return
    onnx_file = path.with_suffix('.onnx')
    export_onnx(module, example, free, onnx_file, about)
    if form == 'openvino':
        export_openvino(onnx_file, path)


def write_int8(path: Path, clips: Sequence[Tensor], precision: str) -> Path:
    """Write a file that computes in 8-bit integers beside another.

    Args:
        path (Path): What :func:`write` wrote.
        clips (Sequence[Tensor]): Inputs that show how large its maps are.
        precision (str): Of what an OpenVINO file computes in no integers.

    Returns:
        Path: The file.
    """
    quantized = path.with_stem('int8')
    onnx_file = quantized.with_suffix('.onnx')
    quantize(path.with_suffix('.onnx'), onnx_file, clips)
    if path.suffix == '.xml':
        export_openvino(onnx_file, quantized, precision)
    return quantized


def report_int8(run: Callable[[Tensor], Tensor],
                other: Callable[[Tensor], Tensor],
                clips: Sequence[Tensor]) -> None:
    """Say how far the scores of a file of integers are from another's."""
    # More than one at a time, as they may come.
    pairs = [torch.cat(clips[i:i + 2]) for i in range(0, len(clips), 2)]
    scores, expected = (
        torch.cat([file(pair) for pair in pairs]) for file in (run, other))
    difference = (scores - expected).abs().mean()
    same = (scores.argmax(-1) == expected.argmax(-1)).sum()
    print(f'INT8: scores of the {len(clips)} calibration clips differ by '
          f'{difference:.4f} on average, {same} have the same best class')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT', type=Path)
    parser.add_argument(
        '--format', choices=SUFFIXES, default='onnx',
        help='openvino: an .xml file and a .bin file beside it; torch: a '
        'program of torch.export; aotinductor: the same compiled to machine '
        'code, for this kind of machine')
    parser.add_argument(
        '--precision', choices=PRECISIONS, default='float32',
        help='of an OpenVINO file, faster in bfloat16 where the CPU has it '
        '(AVX-512 BF16 or AMX)')
    parser.add_argument(
        '--with-preprocessing', action='store_true',
        help='take frames from 0 to 255 and normalise them in the file')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
        help='of the frames, those of validation by default')
    parser.add_argument(
        '--label-map', help='a file with the name of a class per line')
    parser.add_argument(
        '--streaming', action='store_true',
        help='one step of a stream, with its state as inputs and outputs')
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
    suffix = SUFFIXES[args.format][0]
    if args.out.suffix != suffix:
        parser.error(f'{args.out} does not end in {suffix}')
    if args.int8 and args.format not in ('onnx', 'openvino'):
        parser.error('--int8 needs --format onnx or openvino')
    if args.precision != 'float32' and args.format != 'openvino':
        parser.error(f'--precision {args.precision} needs --format openvino')
    if args.streaming and (args.int8
                           or args.format not in ('onnx', 'openvino')):
        parser.error('--streaming needs --format onnx or openvino, and no '
                     '--int8')
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
        if args.format == 'openvino':
            import_openvino()
        model = load_recognizer(args.config, args.checkpoint, device='cpu')
        (export_step if args.streaming else export)(model, args.out, args)
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
