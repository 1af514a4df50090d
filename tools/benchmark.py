"""Speed and memory on a CPU, parameters and MACs, side by side in one run.

Speeds come from interleaved rounds. Memory comes from a fresh process per
network and is the growth of the peak per clip, so that weights and libraries
do not count. The classifier is left out of all of them.

Examples:
    python tools/benchmark.py --rows reference blvnet_tam tsn --rounds 5
    python tools/benchmark.py --rows blvnet_tam --configs CONFIG..
"""
import argparse
import copy
import sys
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import torch
from mmaction.registry import MODELS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmblvnet.apis import accelerate, load_recognizer
from mmblvnet.datasets.pipelines import example_of
from mmblvnet.deployment import export_onnx, export_openvino, load_exported
from mmblvnet.deployment.quantization import quantize
from mmblvnet.models.common import TemporalAggregation

# The reference implementation is that of the tests.
ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / 'tools' / 'analysis'), str(ROOT / 'tests')]
from benchmark_harness import (in_fresh_process, interleave,  # noqa: E402
                               make_parser, peak_memory, set_up, spread, table,
                               write)
from reference import ReferenceNetwork  # noqa: E402

MODES = ('inference', 'training')


def reference(num_frames: int) -> nn.Module:
    """The published operations one by one, without the classifier."""
    network = ReferenceNetwork(50, num_frames, num_classes=1)
    del network.fc
    network.forward = network.features
    return network


def blvnet(num_frames: int, **config) -> nn.Module:
    return MODELS.build(
        dict(type='BLVNet', depth=50, num_segments=num_frames,
             frame_output='pair', **config))


def resnet(kind: str, **config) -> nn.Module:
    return MODELS.build(dict(type=kind, depth=50, norm_eval=False, **config))


class Features(nn.Module):
    """The recognizer of a config without its head."""

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
    """A network to measure."""
    name: str
    # From the number of frames per clip.
    make: Callable[[int], nn.Module]
    # If they are not those that are asked for.
    num_frames: Optional[int] = None
    channels: int = 3
    # For inference: onnx or openvino instead of PyTorch; bfloat16, or int8 in
    # another runtime; and compiled with the weights as constants.
    runtime: Optional[str] = None
    precision: str = 'float32'
    compile: bool = False

    @property
    def modes(self) -> Sequence[str]:
        """Which of ``MODES`` can be measured."""
        special = (
            self.runtime or self.compile or self.precision != 'float32')
        return MODES[:1] if special else MODES


def variant(suffix: str, **options) -> Row:
    return Row(f'bLVNet-TAM, {suffix}', blvnet, **options)


def tsm(num_frames: int) -> nn.Module:
    return resnet('ResNetTSM', num_segments=num_frames)


ROWS = {
    'reference': Row('bLVNet-TAM, reference', reference),
    'blvnet_tam': Row('bLVNet-TAM', blvnet),
    'blvnet_tam_cp':
    Row('bLVNet-TAM, with_cp', partial(blvnet, with_cp=True)),
    'blvnet_tam_bf16': variant('bf16', precision='bfloat16'),
    'blvnet_tam_compile': variant('compiled', compile=True),
    'blvnet_tam_compile_bf16':
    variant('compiled, bf16', precision='bfloat16', compile=True),
    'blvnet_tam_onnx': variant('ONNX Runtime', runtime='onnx'),
    'blvnet_tam_int8':
    variant('ONNX Runtime, INT8', runtime='onnx', precision='int8'),
    'blvnet_tam_openvino': variant('OpenVINO', runtime='openvino'),
    'blvnet_tam_openvino_bf16':
    variant('OpenVINO, bf16', runtime='openvino', precision='bfloat16'),
    'blvnet_tam_openvino_int8':
    variant('OpenVINO, INT8 and bf16', runtime='openvino', precision='int8'),
    'tsn': Row('TSN-R50', lambda t: resnet('ResNet')),
    'tsm': Row('TSM-R50', tsm),
    'tsm_8': Row('TSM-R50, 8 frames', tsm, num_frames=8),
    'tanet': Row('TANet-R50', lambda t: resnet('TANet', num_segments=t)),
}


@lru_cache(maxsize=None)
def row_of(key: str) -> Row:
    """One of ``ROWS``, or the row of a config's recognizer."""
    if key in ROWS:
        return ROWS[key]
    network = Features(key)
    return Row(
        Path(key).stem,
        lambda _: copy.deepcopy(network),
        num_frames=network.num_frames,
        channels=network.channels)


def in_runtime(network: nn.Module, clips: Tensor, num_frames: int,
               row: Row) -> Callable[[Tensor], Tensor]:
    """A backbone as ONNX Runtime or OpenVINO runs it; clips calibrate it."""
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
                source, file,
                'float32' if row.precision == 'float32' else 'bfloat16')
        return load_exported(file).run


class Network:
    """A row's network with a batch of clips to run it on."""

    def __init__(self, key: str, args: argparse.Namespace,
                 batch_size: int) -> None:
        row = row_of(key)
        self.num_frames = row.num_frames or args.frames
        torch.manual_seed(0)
        self.trained = row.make(self.num_frames)
        self.tested = copy.deepcopy(self.trained)
        # MMAction2's backbones return nothing here.
        self.trained.train()
        self.tested.eval()
        backbone = (self.tested.model.backbone
                    if isinstance(self.tested, Features) else self.tested)
        self.clips = torch.randn(batch_size * self.num_frames, row.channels,
                                 args.size, args.size)
        if row.runtime:
            accelerate(backbone)
            self.tested = in_runtime(
                self.tested, self.clips, self.num_frames, row)
        else:
            accelerate(backbone, row.precision, row.compile)

    def inference(self) -> None:
        """Run a batch of clips in test mode."""
        with torch.inference_mode():
            self.tested(self.clips)

    def training(self) -> None:
        """Run a batch of clips forward and backward."""
        self.trained(self.clips).square().mean().backward()
        self.trained.zero_grad()


def measure_speeds(args: argparse.Namespace) -> Dict[str, dict]:
    """Clips per second by row and mode: median, lowest and highest."""
    networks = {key: Network(key, args, args.clips) for key in args.rows}
    speeds = {key: {} for key in args.rows}
    for mode in MODES:
        runs = {key: getattr(network, mode)
                for key, network in networks.items()
                if mode in row_of(key).modes}
        times = interleave(runs, args.warm_up, args.rounds)
        for key, taken in times.items():
            speeds[key][mode] = [args.clips / of_times(taken)
                                 for of_times in (median, max, min)]
    return speeds


def memory_per_clip(key: str, mode: str, args: argparse.Namespace) -> float:
    """By how much the peak grows per clip in MiB. For a fresh process."""
    few, many = args.clips, 3 * args.clips
    network = Network(key, args, batch_size=many)
    clips, peaks = network.clips, []
    for batch_size in (few, many):
        network.clips = clips[:batch_size * network.num_frames]
        peaks.append(peak_memory(getattr(network, mode)))
    return (peaks[1] - peaks[0]) / (many - few)


def watch_tams(network: nn.Module, watch: Callable) -> None:
    """Let each TAM tell itself, what it is given and what it returns."""

    def watched(module: TemporalAggregation, method: Callable) -> Callable:
        def run(*args):
            outs = method(*args)
            watch(module, args, [outs] if isinstance(outs, Tensor) else outs)
            return outs

        return run

    for module in network.modules():
        if isinstance(module, TemporalAggregation):
            for form in ('forward', 'forward_split', 'forward_pairs'):
                setattr(module, form, watched(module, getattr(module, form)))


def count_macs(network: nn.Module, clip: Tensor) -> int:
    """Multiply-adds of a clip: convolutions, and r per value for a TAM."""
    blended = []
    watch_tams(network, lambda tam, _, outs: blended.extend(
        tam.blend_frames * maps.numel() for maps in outs))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()
        network(clip)
    return counter.get_total_flops() // 2 + sum(blended)


def measure_size(key: str, args: argparse.Namespace) -> dict:
    """Parameters and MACs per clip of a row."""
    row = row_of(key)
    num_frames = row.num_frames or args.frames
    network = row.make(num_frames)
    clip = torch.randn(num_frames, row.channels, args.size, args.size)
    return dict(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=count_macs(network, clip))


def measure(args: argparse.Namespace) -> Dict[str, dict]:
    """All that is measured, by row; memory in a process of its own."""
    return {
        key: dict(
            speeds,
            memory={mode: in_fresh_process(memory_per_clip, key, mode, args)
                    for mode in row_of(key).modes},
            **measure_size(key, args))
        for key, speeds in measure_speeds(args).items()
    }


def table_of(results: Dict[str, dict]) -> str:
    """The results as a Markdown table, speeds with their spread."""
    columns = ['network', *(f'{mode}, clips/s' for mode in MODES),
               *(f'{mode}, MiB/clip' for mode in MODES), 'parameters, M',
               'GMACs']
    return table(columns, [[
        row_of(key).name,
        *(spread(result[mode]) if mode in result else '-' for mode in MODES),
        *(f'{result["memory"][mode]:.0f}' if mode in result else '-'
          for mode in MODES),
        f'{result["parameters"] / 1e6:.2f}',
        f'{result["macs"] / 1e9:.2f}',
    ] for key, result in results.items()])


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument(
        '--rows', nargs='+', choices=ROWS,
        help='all that can be trained by default')
    parser.add_argument(
        '--configs', nargs='+', default=[], metavar='CONFIG',
        help='recognizers of configs, which tell their frames per clip')
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--clips', type=int, default=1, help='per batch')
    parser.add_argument('--warm-up', type=int, default=2, help='rounds')
    parser.add_argument('--out', type=Path, help='folder for table and JSON')
    args = parser.parse_args(argv)
    if not (args.rows or args.configs):
        args.rows = [key for key, row in ROWS.items() if row.modes == MODES]
    args.rows = [*(args.rows or []), *args.configs]
    return args


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    set_up(args.threads)
    results = measure(args)
    text = table_of(results)
    print(text)
    if args.out:
        write(args.out, 'benchmark', results, text)


if __name__ == '__main__':
    main(sys.argv[1:])
