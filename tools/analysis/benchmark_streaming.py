"""Compare what a new pair of frames costs: a whole window, or one step of a stream.

All variants run in turns in one process, on the same frames. docs/streaming.md
has the command.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Callable, List

import _tools
import torch
from benchmark import interleave, set_up, spread, table
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from mmblvnet.apis import StreamingRecognizer, accelerate
from mmblvnet.deployment.exportable import ExportableStream, reference_scores
from mmblvnet.deployment.formats import export_onnx

CONFIG = _tools.TOOLS.parent / 'configs/blvnet_tam_r50_8x2_sthv2.py'
SAMPLED_PER_SECOND = 8


def make_model(causal: bool = False) -> nn.Module:
    """Build the recognizer of the config, with random weights."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.causal = causal
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def windows(frames: Tensor) -> Callable[[], Any]:
    """Return a run of a window of 16 frames, which each new pair of frames requires."""
    model = make_model()
    accelerate(model.backbone)
    return partial(reference_scores, model, frames[None])


def stream(frames: Tensor, causal: bool = False, precision: str = 'float32') -> Callable[[], Any]:
    """Return a run of one step of a stream, for a new pair of frames."""
    recognizer = StreamingRecognizer(make_model(causal))
    accelerate(recognizer.model.backbone, precision)
    recognizer.push(frames)
    return partial(recognizer.push, frames[:2])


def onnx_step(frames: Tensor) -> Callable[[], Any]:
    """Return a run of one step of a stream in ONNX Runtime."""
    from onnxruntime import InferenceSession, SessionOptions

    step = ExportableStream(make_model(), frames.shape, with_preprocessing=True)
    inputs = step.examples()
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'stream.onnx')
        export_onnx(step, inputs, {}, file)
        session = InferenceSession(file, options, ['CPUExecutionProvider'])
    return partial(session.run, None, {name: x.numpy() for name, x in zip(step.input_names, inputs)})


WAYS = {
    'windows': windows,
    'stream': stream,
    'stream, causal': partial(stream, causal=True),
    'stream, bfloat16': partial(stream, precision='bfloat16'),
    'stream, ONNX Runtime': onnx_step,
}


def main(argv: List[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    add('--size', type=int, default=224, help='height and width of the frames in pixels')
    add('--rounds', type=int, default=9)
    add('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)
    set_up(args.threads)
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (16, 3, args.size, args.size), dtype=torch.uint8)
    times = interleave({way: WAYS[way](frames) for way in args.ways}, 2, args.rounds)
    first, rows = median(times[args.ways[0]]), []
    for way, taken in times.items():
        middle = median(taken)
        speeds = [f'{first / middle:.1f} times', f'{2 / SAMPLED_PER_SECOND / middle:.1f} times']
        rows.append([way, spread([1000 * seconds for seconds in taken], '.0f'), f'{1 / middle:.1f}', *speeds])
    print(table(['', 'ms per pair', 'pairs/s', 'of windows', 'of real time'], rows))


if __name__ == '__main__':
    main(sys.argv[1:])
