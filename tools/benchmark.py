"""Speed and memory on a CPU, parameters and MACs, side by side in one run.

Speeds come from interleaved rounds: every network runs once per round, so that
whatever else the machine does meets all of them. Memory comes from a fresh
process per network and is the growth of the peak per clip, so that weights
and libraries do not count. The classifier is left out of all of them.

Examples:
    python tools/benchmark.py --rows literal blvnet_tam tsn --rounds 5
    python tools/benchmark.py --rows blvnet_tam --configs CONFIG..
"""
import argparse
import copy
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List, NamedTuple, Optional

import mmblvnet  # noqa: F401
import torch
from mmaction.registry import MODELS
from mmblvnet.apis import accelerate, load_recognizer
from mmblvnet.deployment import (export_onnx, export_openvino,
                                 load_exported)
from mmblvnet.deployment.quantization import quantize
from mmblvnet.models.backbones.big_little_backbone import BigLittleBackbone
from mmblvnet.models.common import TemporalAggregation
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.utils.pipelines import example_of
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# The literal networks are the oracle of the tests.
sys.path.append(str(Path(__file__).parents[1] / 'tests'))
from oracle.literal import LiteralNetwork  # noqa: E402


class Literal(nn.Module):
    """The published operations one by one, without the classifier."""

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        self.network = LiteralNetwork(50, num_frames, num_classes=1)
        del self.network.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.network.features(x)


def blvnet(num_frames: int, **config) -> nn.Module:
    return MODELS.build(
        dict(
            type='BLVNet',
            depth=50,
            num_segments=num_frames,
            frame_output='pair',
            **config))


def resnet(kind: str, **config) -> nn.Module:
    return MODELS.build(dict(type=kind, depth=50, norm_eval=False, **config))


class Features(nn.Module):
    """The recognizer of a config without its head.

    Args:
        config (str): The config.
    """

    def __init__(self, config: str) -> None:
        super().__init__()
        self.model = load_recognizer(config, None, 'cpu')
        inputs, self.num_frames, _ = example_of(self.model, 'val')
        self.in_3d = inputs.dim() == 5
        self.channels = inputs.size(1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(0, (-1, self.num_frames))
        if self.in_3d:
            x = x.transpose(1, 2).unsqueeze(1)
        maps, _ = self.model.extract_feat(x, test_mode=not self.training)
        maps = (maps, ) if isinstance(maps, Tensor) else maps
        return torch.cat([of_stage.flatten() for of_stage in maps])


class Row(NamedTuple):
    """A network to measure.

    Args:
        name (str): Its name in the tables.
        make (Callable): Makes the network for a number of frames per clip.
        fold (bool): Whether it is tested with folded batch norms, as
            FuseConvBNHook does.
        num_frames (int, optional): Frames per clip if they are not those that
            are asked for. Defaults to None.
        channels (int): Channels of a frame. Defaults to 3.
        runtime (str, optional): ``'onnx'`` or ``'openvino'``, for inference
            with ONNX Runtime or OpenVINO on a CPU. Defaults to None, PyTorch.
        precision (str, optional): ``'bfloat16'``, or ``'int8'`` in another
            runtime, for inference. Defaults to None, float32.
        compile (bool): Whether it is compiled with its weights as constants,
            for inference.
    """
    name: str
    make: Callable[[int], nn.Module]
    fold: bool = False
    num_frames: Optional[int] = None
    channels: int = 3
    runtime: Optional[str] = None
    precision: Optional[str] = None
    compile: bool = False

    @property
    def modes(self) -> Dict[str, str]:
        """dict: What can be measured, and the method that does it."""
        if self.runtime or self.precision or self.compile:
            return dict(inference='infer')
        return dict(inference='infer', training='train')


ROWS = {
    'literal':
    Row('bLVNet-TAM, literal', Literal),
    'blvnet_tam':
    Row('bLVNet-TAM', blvnet, fold=True),
    'blvnet_tam_unfolded':
    Row('bLVNet-TAM, batch norms not folded', blvnet),
    'blvnet_tam_cp':
    Row('bLVNet-TAM, with_cp', lambda t: blvnet(t, with_cp=True), fold=True),
    'blvnet_tam_bf16':
    Row('bLVNet-TAM, bf16', blvnet, precision='bfloat16'),
    'blvnet_tam_compile':
    Row('bLVNet-TAM, compiled', blvnet, compile=True),
    'blvnet_tam_compile_bf16':
    Row('bLVNet-TAM, compiled, bf16', blvnet, precision='bfloat16',
        compile=True),
    'blvnet_tam_onnx':
    Row('bLVNet-TAM, ONNX Runtime', blvnet, fold=True, runtime='onnx'),
    'blvnet_tam_int8':
    Row('bLVNet-TAM, ONNX Runtime, INT8', blvnet, fold=True, runtime='onnx',
        precision='int8'),
    'blvnet_tam_openvino':
    Row('bLVNet-TAM, OpenVINO', blvnet, fold=True, runtime='openvino'),
    'blvnet_tam_openvino_bf16':
    Row('bLVNet-TAM, OpenVINO, bf16', blvnet, fold=True, runtime='openvino',
        precision='bfloat16'),
    'blvnet_tam_openvino_int8':
    Row('bLVNet-TAM, OpenVINO, INT8 and bf16', blvnet, fold=True,
        runtime='openvino', precision='int8'),
    'blvnet':
    Row('bLVNet', lambda t: blvnet(t, temporal_module=None), fold=True),
    'tsn':
    Row('TSN-R50', lambda t: resnet('ResNet')),
    'tsm':
    Row('TSM-R50', lambda t: resnet('ResNetTSM', num_segments=t)),
    'tsm_8':
    Row('TSM-R50, 8 frames',
        lambda t: resnet('ResNetTSM', num_segments=t),
        num_frames=8),
    'tanet':
    Row('TANet-R50', lambda t: resnet('TANet', num_segments=t)),
}


def row_of(config: str) -> Row:
    """The row of a config's recognizer."""
    network = Features(config)
    return Row(
        Path(config).stem,
        lambda _: copy.deepcopy(network),
        fold=isinstance(network.model.backbone, BigLittleBackbone),
        num_frames=network.num_frames,
        channels=network.channels)


def in_runtime(network: nn.Module, clips: Tensor, num_frames: int,
               row: Row) -> Callable[[Tensor], Tensor]:
    """A network as ONNX Runtime or OpenVINO runs it.

    Args:
        network (nn.Module): A backbone in test mode.
        clips (Tensor): Clips, which also calibrate the integers.
        num_frames (int): Frames per clip.
        row (Row): Its runtime and precision.

    Returns:
        Callable: From clips to maps.
    """
    free = {0: num_frames * torch.export.Dim('clips')}
    # Traced with a single one, it would be fixed to that.
    example = clips[:num_frames].repeat(2, 1, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'network.onnx')
        export_onnx(network, example, free, file)
        if row.precision == 'int8':
            quantized = Path(folder, 'int8.onnx')
            quantize(file, quantized, [clips])
            file = quantized
        if row.runtime == 'openvino':
            source, file = file, Path(folder, 'network.xml')
            export_openvino(
                source, file, 'bfloat16' if row.precision else 'float32')
        return load_exported(file).run


class Network:
    """A row's network with a batch of clips to run it on.

    Args:
        row (Row): The row.
        args (Namespace): The options of the command.
        batch_size (int): Clips per run.
    """

    def __init__(self, row: Row, args: argparse.Namespace,
                 batch_size: int) -> None:
        self.args = args
        self.batch_size = batch_size
        self.num_frames = row.num_frames or args.frames
        torch.manual_seed(0)
        self.training = row.make(self.num_frames)
        self.testing = copy.deepcopy(self.training)
        # MMAction2's backbones return nothing here.
        self.training.train()
        self.testing.eval()
        if row.fold:
            self.testing = fold_norms(self.testing)
        if not row.runtime and (row.precision or row.compile):
            accelerate(
                self.testing, row.precision or 'float32', row.compile)
        self.clips = torch.randn(batch_size * self.num_frames, row.channels,
                                 args.size, args.size)
        if row.runtime:
            self.testing = in_runtime(
                self.testing, self.clips, self.num_frames, row)

    def infer(self) -> None:
        """Run a batch of clips in test mode."""
        with torch.inference_mode():
            self.testing(self.clips)

    def train(self) -> None:
        """Run a batch of clips forward and backward."""
        self.training(self.clips).square().mean().backward()
        self.training.zero_grad()


def seconds(run: Callable[[], None]) -> float:
    """How long a run takes.

    Args:
        run (Callable): What to run.

    Returns:
        float: Seconds.
    """
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure_speeds(args: argparse.Namespace) -> Dict[str, dict]:
    """Clips per second of all rows, round by round.

    Args:
        args (Namespace): The options of the command.

    Returns:
        dict: By row, the median and the lowest and highest clips per second
        of inference and training.
    """
    networks = {key: Network(ROWS[key], args, args.clips) for key in args.rows}
    times = {key: {mode: [] for mode in ROWS[key].modes} for key in args.rows}
    for mode in ('inference', 'training'):
        for number in range(args.warm_up + args.rounds):
            for key, network in networks.items():
                if mode not in times[key]:
                    continue
                run = getattr(network, ROWS[key].modes[mode])
                time_taken = seconds(run)
                if number >= args.warm_up:
                    times[key][mode].append(time_taken)
    return {
        key: {
            mode: [args.clips / of_times(taken)
                   for of_times in (median, max, min)]
            for mode, taken in of_key.items()
        }
        for key, of_key in times.items()
    }


def forget_peak() -> None:
    """Let the peak start anew from what is in use now."""
    Path('/proc/self/clear_refs').write_text('5')


def peak_memory() -> float:
    """The peak of the process since it was forgotten in MiB."""
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) / 2**10


def memory_per_clip(key: str, mode: str, args: argparse.Namespace) -> float:
    """By how much the peak grows per clip in MiB. For a fresh process.

    Args:
        key (str): The row.
        mode (str): ``'infer'`` or ``'train'``.
        args (Namespace): The options of the command.

    Returns:
        float: MiB per clip.
    """
    few, many = args.clips, 3 * args.clips
    network = Network(ROWS[key], args, batch_size=many)
    clips, peaks = network.clips, []
    for batch_size in (few, many):
        network.clips = clips[:batch_size * network.num_frames]
        forget_peak()
        getattr(network, mode)()
        peaks.append(peak_memory())
    return (peaks[1] - peaks[0]) / (many - few)


def measure_memory(args: argparse.Namespace,
                   argv: List[str],
                   script: str = __file__) -> dict:
    """MiB per clip of all rows, each in a process of its own.

    Args:
        args (Namespace): The options of the command.
        argv (list[str]): The same as text.
        script (str): What knows the rows and ``--memory-of``. Defaults to
            this script.

    Returns:
        dict: By row, the memory of inference and training.
    """
    memory = {}
    for key in args.rows:
        memory[key] = {}
        for name, mode in ROWS[key].modes.items():
            result = subprocess.run(
                [sys.executable, script, *argv, '--memory-of', key, mode],
                # Or glibc keeps what was freed, as much as it likes.
                env=dict(os.environ, MALLOC_MMAP_THRESHOLD_='131072'),
                check=True,
                stdout=subprocess.PIPE,
                text=True)
            memory[key][name] = float(result.stdout.split()[-1])
    return memory


def count_parameters(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in network.parameters())


def count_macs(network: nn.Module, clip: Tensor) -> int:
    """Multiply-adds of a clip: convolutions, and r per value for a TAM.

    Args:
        network (nn.Module): A backbone.
        clip (Tensor): Frames of shape ``(T, C, H, W)``.

    Returns:
        int: Multiply-adds.
    """
    blended = []

    def count(module: TemporalAggregation, args: tuple, outs) -> None:
        outs = (outs, ) if isinstance(outs, Tensor) else outs
        blended.append(module.blend_frames * sum(o.numel() for o in outs))

    for module in network.modules():
        if isinstance(module, TemporalAggregation):
            for form in ('forward', 'forward_split', 'forward_pairs'):
                with_hook(module, form, count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()
        network(clip)
    return counter.get_total_flops() // 2 + sum(blended)


def with_hook(module: nn.Module, form: str, hook: Callable) -> None:
    """Call a hook after a method, with the module, arguments and result."""
    forward = getattr(module, form)

    def hooked(*args):
        outs = forward(*args)
        hook(module, args, outs)
        return outs

    setattr(module, form, hooked)


def measure_size(key: str, args: argparse.Namespace) -> dict:
    """Parameters and MACs per clip of a row."""
    row = ROWS[key]
    num_frames = row.num_frames or args.frames
    network = row.make(num_frames)
    clip = torch.randn(num_frames, row.channels, args.size, args.size)
    return dict(
        parameters=count_parameters(network), macs=count_macs(network, clip))


def table(results: dict) -> str:
    """The results as a Markdown table, speeds with their spread."""
    lines = [
        '| network | inference, clips/s | training, clips/s | '
        'inference, MiB/clip | training, MiB/clip | parameters, M | GMACs |',
        '| --- ' * 7 + '|'
    ]
    for key, result in results.items():
        speeds = [
            '{:.2f} ({:.2f} to {:.2f})'.format(*result[mode])
            if mode in result else '-' for mode in ('inference', 'training')
        ]
        memory = [
            f'{result["memory"][mode]:.0f}' if mode in result['memory'] else '-'
            for mode in ('inference', 'training')
        ]
        size = [
            f'{result["parameters"] / 1e6:.2f}', f'{result["macs"] / 1e9:.2f}'
        ]
        lines.append('| ' + ' | '.join([ROWS[key].name, *speeds, *memory,
                                        *size]) + ' |')
    return '\n'.join(lines) + '\n'


def plot(results: dict, file: Path) -> None:
    """Draw speeds and memory as bars."""
    from matplotlib.figure import Figure
    figure = Figure((10, 6), layout='constrained')
    panels = figure.subplots(2, 2, sharey=True).flat
    names = [ROWS[key].name for key in results]
    for panel, (title, value) in zip(panels, {
            'inference, clips/s': lambda r: r['inference'][0],
            'training, clips/s': lambda r: r.get('training', [0])[0],
            'inference, MiB per clip': lambda r: r['memory']['inference'],
            'training, MiB per clip':
            lambda r: r['memory'].get('training', 0),
    }.items()):
        panel.barh(names, [value(result) for result in results.values()])
        panel.set_title(title)
    # All panels share it.
    panel.invert_yaxis()
    figure.savefig(file, dpi=120)


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--rows', nargs='+', choices=ROWS,
        help='all that can be trained by default')
    parser.add_argument(
        '--configs', nargs='+', default=[], metavar='CONFIG',
        help='recognizers of configs, which tell their frames per clip')
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--clips', type=int, default=1, help='per batch')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--warm-up', type=int, default=2, help='rounds')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', type=Path, help='folder for table and plot')
    # What the command calls itself with in a fresh process.
    parser.add_argument('--memory-of', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not (args.rows or args.configs):
        args.rows = [
            key for key, row in ROWS.items() if 'training' in row.modes
        ]
    args.rows = [*(args.rows or []), *args.configs]
    return args


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    # Some backbones tell at length how they are initialized.
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    ROWS.update({config: row_of(config) for config in args.configs})
    if args.memory_of:
        print(memory_per_clip(*args.memory_of, args))
        return
    speeds = measure_speeds(args)
    memory = measure_memory(args, argv)
    results = {
        key: dict(speeds[key], memory=memory[key], **measure_size(key, args))
        for key in args.rows
    }
    print(table(results))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / 'benchmark.md').write_text(table(results), 'utf-8')
        (args.out / 'benchmark.json').write_text(
            json.dumps(results, indent=2))
        plot(results, args.out / 'benchmark.png')


if __name__ == '__main__':
    main(sys.argv[1:])
