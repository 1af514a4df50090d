"""Speed and memory on a CPU, parameters and MACs, side by side in one run.

Speeds come from interleaved rounds. Memory comes from a fresh process per
network and is the growth of the peak per clip, so that weights and libraries
do not count. The classifier is left out of all of them.

Examples:
    python tools/benchmark.py --rows reference blvnet_tam tsn --rounds 5
    python tools/benchmark.py --rows blvnet_tam --frames 8 16 32 --size 112 224
    python tools/benchmark.py --configs CONFIG..
"""

import argparse
import copy
import json
import sys
import tempfile
from functools import partial
from itertools import product
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
from mmblvnet.deployment.formats import quantize
from mmblvnet.models.common import TemporalAggregation

# The reference implementation is that of the tests.
ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / 'tools' / 'analysis'), str(ROOT / 'tests')]
from benchmark_harness import in_fresh_process, interleave, peak_memory, set_up, spread, table  # noqa: E402
from reference import ReferenceNetwork  # noqa: E402

MODES = ('inference', 'training')


def reference(num_frames: int) -> nn.Module:
    """The published operations one by one, without the classifier."""
    network = ReferenceNetwork(50, num_frames, num_classes=1)
    del network.fc
    network.forward = network.features
    return network


def blvnet(num_frames: int, **config) -> nn.Module:
    return MODELS.build(dict(type='BLVNet', depth=50, num_segments=num_frames, frame_output='pair', **config))


def resnet(num_frames: int, kind: str = 'ResNet') -> nn.Module:
    """A network of MMAction2; a plain ResNet does not know its frames."""
    segments = {} if kind == 'ResNet' else dict(num_segments=num_frames)
    return MODELS.build(dict(type=kind, depth=50, norm_eval=False, **segments))


class Features(nn.Module):
    """The recognizer of a config, which tells its frames, without its head."""

    def __init__(self, config: str, _: Optional[int] = None) -> None:
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
        maps = (maps,) if isinstance(maps, Tensor) else maps
        return torch.cat([of_stage.flatten() for of_stage in maps])


class Row(NamedTuple):
    """A network to measure, with clips of so many frames and pixels."""

    name: str
    # From the number of frames; pickled for fresh processes.
    make: Callable[[int], nn.Module]
    frames: Optional[int] = None
    size: int = 224
    channels: int = 3
    # For inference: onnx or openvino instead of PyTorch; bfloat16, or int8 in
    # another runtime; and compiled with the weights as constants.
    runtime: Optional[str] = None
    precision: str = 'float32'
    compile: bool = False

    @property
    def modes(self) -> Sequence[str]:
        """Which of ``MODES`` can be measured."""
        special = self.runtime or self.compile or self.precision != 'float32'
        return MODES[:1] if special else MODES


def variant(suffix: str, **options) -> Row:
    return Row(f'bLVNet-TAM, {suffix}', blvnet, **options)


tsm = partial(resnet, kind='ResNetTSM')
ROWS = {
    'reference': Row('bLVNet-TAM, reference', reference),
    'blvnet_tam': Row('bLVNet-TAM', blvnet),
    'blvnet_tam_cp': Row('bLVNet-TAM, with_cp', partial(blvnet, with_cp=True)),
    'blvnet_tam_bf16': variant('bf16', precision='bfloat16'),
    'blvnet_tam_compile': variant('compiled', compile=True),
    'blvnet_tam_compile_bf16': variant('compiled, bf16', precision='bfloat16', compile=True),
    'blvnet_tam_onnx': variant('ONNX Runtime', runtime='onnx'),
    'blvnet_tam_int8': variant('ONNX Runtime, INT8', runtime='onnx', precision='int8'),
    'blvnet_tam_openvino': variant('OpenVINO', runtime='openvino'),
    'blvnet_tam_openvino_bf16': variant('OpenVINO, bf16', runtime='openvino', precision='bfloat16'),
    'blvnet_tam_openvino_int8': variant('OpenVINO, INT8 and bf16', runtime='openvino', precision='int8'),
    'tsn': Row('TSN-R50', resnet),
    'tsm': Row('TSM-R50', tsm),
    'tsm_8': Row('TSM-R50, 8 frames', tsm, frames=8),
    'tanet': Row('TANet-R50', partial(resnet, kind='TANet')),
}


def rows_of(args: argparse.Namespace) -> Dict[str, Row]:
    """By name, each network in all numbers of frames and sizes."""
    asked = [ROWS[key] for key in args.rows]
    for config in args.configs:
        network = Features(config)
        asked.append(Row(Path(config).stem, partial(Features, config), network.num_frames, channels=network.channels))
    rows = {}
    for row, frames, size in product(asked, args.frames, args.size):
        name = row.name
        if row.frames is None and len(args.frames) > 1:
            name += f', {frames} frames'
        if len(args.size) > 1:
            name += f', {size} pixels'
        rows[name] = row._replace(frames=row.frames or frames, size=size)
    return rows


def in_runtime(network: nn.Module, clips: Tensor, row: Row) -> Callable[[Tensor], Tensor]:
    """A backbone as ONNX Runtime or OpenVINO runs it; clips calibrate it."""
    free = {0: row.frames * torch.export.Dim('clips')}
    # Traced with a single one, it would be fixed to that.
    example = clips[: row.frames].repeat(2, 1, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'network.onnx')
        export_onnx(network, example, free, file)
        if row.precision == 'int8':
            quantized = Path(folder, 'int8.onnx')
            quantize(file, quantized, [clips])
            file = quantized
        if row.runtime == 'openvino':
            source, file = file, Path(folder, 'network.xml')
            export_openvino(source, file, 'float32' if row.precision == 'float32' else 'bfloat16')
        return load_exported(file).run


class Network:
    """A row's network with a batch of clips to run it on."""

    def __init__(self, row: Row, num_clips: int) -> None:
        torch.manual_seed(0)
        self.trained = row.make(row.frames)
        self.tested = copy.deepcopy(self.trained)
        # MMAction2's backbones return nothing here.
        self.trained.train()
        self.tested.eval()
        backbone = self.tested.model.backbone if isinstance(self.tested, Features) else self.tested
        self.clips = torch.randn(num_clips * row.frames, row.channels, row.size, row.size)
        if row.runtime:
            accelerate(backbone)
            self.tested = in_runtime(self.tested, self.clips, row)
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


def memory_per_clip(row: Row, mode: str, num_clips: int) -> float:
    """By how much the peak grows per clip in MiB. For a fresh process."""
    network, peaks = Network(row, 3 * num_clips), []
    clips = network.clips
    for part in (clips[: num_clips * row.frames], clips):
        network.clips = part
        peaks.append(peak_memory(getattr(network, mode)))
    return (peaks[1] - peaks[0]) / (2 * num_clips)


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
    watch_tams(network, lambda tam, _, outs: blended.extend(tam.blend_frames * maps.numel() for maps in outs))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()
        network(clip)
    return counter.get_total_flops() // 2 + sum(blended)


def count(row: Row) -> Dict[str, int]:
    """Parameters and MACs per clip."""
    network = row.make(row.frames)
    clip = torch.randn(row.frames, row.channels, row.size, row.size)
    return dict(parameters=sum(p.numel() for p in network.parameters()), macs=count_macs(network, clip))


def measure(
    rows: Dict[str, Row], num_clips: int, warm_up: int, rounds: int, modes: Sequence[str] = MODES
) -> Dict[str, dict]:
    """What each network costs, by name.

    By mode the clips per second (median, lowest and highest), ``memory`` with
    the MiB per clip by mode, ``parameters`` and ``macs``.
    """
    results = {name: dict(count(row), memory={}) for name, row in rows.items()}
    networks = {name: Network(row, num_clips) for name, row in rows.items()}
    for mode in modes:
        times = interleave(
            {name: getattr(network, mode) for name, network in networks.items() if mode in rows[name].modes},
            warm_up,
            rounds,
        )
        for name, taken in times.items():
            results[name][mode] = [num_clips / of_times(taken) for of_times in (median, max, min)]
            results[name]['memory'][mode] = in_fresh_process(memory_per_clip, rows[name], mode, num_clips)
    return results


def table_of(results: Dict[str, dict]) -> str:
    """The results as a Markdown table, speeds with their spread."""
    columns = [
        'network',
        *(f'{mode}, clips/s' for mode in MODES),
        *(f'{mode}, MiB/clip' for mode in MODES),
        'parameters, M',
        'GMACs',
    ]
    return table(
        columns,
        [
            [
                name,
                *(spread(result[mode]) if mode in result else '-' for mode in MODES),
                *(f'{result["memory"][mode]:.0f}' if mode in result else '-' for mode in MODES),
                f'{result["parameters"] / 1e6:.2f}',
                f'{result["macs"] / 1e9:.2f}',
            ]
            for name, result in results.items()
        ],
    )


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--rows', nargs='+', choices=ROWS, default=[], help='all that can be trained by default')
    add(
        '--configs',
        nargs='+',
        default=[],
        metavar='CONFIG',
        help='recognizers of configs, which tell their frames per clip',
    )
    add('--frames', type=int, nargs='+', default=[16], help='per clip')
    add('--size', type=int, nargs='+', default=[224], help='in pixels')
    add('--clips', type=int, default=1, help='per batch')
    add('--warm-up', type=int, default=2, help='rounds that do not count')
    add('--rounds', type=int, default=5)
    add('--threads', type=int, default=torch.get_num_threads())
    add('--out', type=Path, help='folder for table and JSON')
    args = parser.parse_args(argv)
    if not (args.rows or args.configs):
        args.rows = [key for key, row in ROWS.items() if row.modes == MODES]
    return args


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    set_up(args.threads)
    results = measure(rows_of(args), args.clips, args.warm_up, args.rounds)
    text = table_of(results)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / 'benchmark.json').write_text(json.dumps(results, indent=2))
        (args.out / 'benchmark.md').write_text(text, 'utf-8')


if __name__ == '__main__':
    main(sys.argv[1:])
