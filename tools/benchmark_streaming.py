"""What a new pair of frames costs: a window of its own, or a step of a stream.

All ways run in turns in one process; memory is measured in a process each.

Example:
    python tools/benchmark_streaming.py --threads 1
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List

import numpy as np
import torch
from benchmark import forget_peak, peak_memory, seconds
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmblvnet.apis import StreamingRecognizer, accelerate
from mmblvnet.deployment import ExportableStream, export_onnx

CONFIG = Path(__file__).parents[1] / 'configs/blvnet_tam_r50_8x2_sthv2.py'
SAMPLED_PER_SECOND = 8


def make_model(causal: bool = False) -> nn.Module:
    """The recognizer of the config, with random weights."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.update(init_cfg=None, causal=causal)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def windows(frames: Tensor) -> Callable[[], None]:
    """A window of the last 16 frames for each new pair."""
    model = make_model()
    accelerate(model.backbone)
    data = dict(inputs=[frames], data_samples=[ActionDataSample()])

    def run() -> None:
        with torch.no_grad():
            model.test_step(data)

    return run


def stream(frames: Tensor, causal: bool = False,
           precision: str = 'float32') -> Callable[[], None]:
    """A step of a stream."""
    recognizer = StreamingRecognizer(make_model(causal))
    accelerate(recognizer.model.backbone, precision)
    recognizer.push(frames)
    return lambda: recognizer.push(frames[:2])


def onnx_step(frames: Tensor) -> Callable[[], None]:
    """A step of a stream in ONNX Runtime."""
    from onnxruntime import InferenceSession, SessionOptions
    step = ExportableStream(make_model(), with_preprocessing=True)
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'stream.onnx')
        export_onnx(step, step.examples(frames.shape[1:]), {}, file, {},
                    step.input_names, step.output_names)
        session = InferenceSession(file, options, ['CPUExecutionProvider'])
    given = {i.name: np.zeros(i.shape, np.float32)
             for i in session.get_inputs() if i.name.startswith('state.')}
    given.update(frames=frames[:2].numpy(), pair=np.array([100]),
                 num_frames=np.array([2**29]))

    def run() -> None:
        _, *states = session.run(None, given)
        names = (name for name in given if name.startswith('state.'))
        given.update(zip(names, states))

    return run


WAYS: Dict[str, Callable[[Tensor], Callable[[], None]]] = {
    'windows': windows,
    'stream': stream,
    'stream, causal': lambda frames: stream(frames, causal=True),
    'stream, bfloat16': lambda frames: stream(frames, precision='bfloat16'),
    'stream, ONNX Runtime': onnx_step,
}


def example(args: argparse.Namespace) -> Tensor:
    """Pictures of a window."""
    return torch.randint(0, 256, (16, 3, args.size, args.size),
                         dtype=torch.uint8)


def measure_times(args: argparse.Namespace) -> Dict[str, List[float]]:
    """Milliseconds per new pair of all ways, in turns."""
    frames = example(args)
    runs = {way: WAYS[way](frames) for way in args.ways}
    times = {way: [] for way in args.ways}
    for number in range(args.warm_up + args.rounds):
        for way, run in runs.items():
            taken = 1000 * seconds(run)
            if number >= args.warm_up:
                times[way].append(taken)
    return times


def memory_of(way: str, args: argparse.Namespace) -> float:
    """The peak while pairs come, over what there was before, in MiB."""
    run = WAYS[way](example(args))
    forget_peak()
    before = peak_memory()
    for _ in range(3):
        run()
    return peak_memory() - before


def table(args: argparse.Namespace, times: Dict[str, List[float]],
          memory: Dict[str, float]) -> str:
    """The results in Markdown."""
    lines = ['| | ms per pair | pairs/s | of windows | of real time | MiB |',
             '| --- ' * 6 + '|']
    first = median(next(iter(times.values())))
    for way, taken in times.items():
        middle = median(taken)
        lines.append(
            f'| {way} | {middle:.0f} ({min(taken):.0f} to {max(taken):.0f}) | '
            f'{1000 / middle:.1f} | {first / middle:.1f} times | '
            f'{2000 / SAMPLED_PER_SECOND / middle:.1f} times | '
            f'{memory[way]:.0f} |')
    return '\n'.join(lines)


def main(argv: List[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0])
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--size', type=int, default=224, help='in pixels')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--warm-up', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    # What the command calls itself with in a fresh process.
    parser.add_argument('--memory-of', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    init_default_scope('mmaction')
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(memory_of(args.memory_of, args))
        return
    times = measure_times(args)
    memory = {}
    for way in args.ways:
        done = subprocess.run(
            [sys.executable, __file__, *argv, '--memory-of', way],
            check=True, capture_output=True, text=True)
        memory[way] = float(done.stdout.splitlines()[-1])
    print(table(args, times, memory))


if __name__ == '__main__':
    main(sys.argv[1:])
