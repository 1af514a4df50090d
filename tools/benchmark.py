"""Compare speed, memory, parameters and MACs of networks on a CPU, side by side in one run.

Speeds come from interleaved rounds. Memory is measured in a fresh process per
network, as the growth of the peak per clip, so that weights and libraries do
not count. The classifier is left out of all networks. docs/performance.md has
the commands.
"""

import argparse
import json
import logging
import math
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Hashable, Iterable, List, NamedTuple, Optional, Sequence, Tuple
from unittest import mock

import torch
from mmaction.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

from mmblvnet.apis import accelerate, load_recognizer
from mmblvnet.datasets.pipelines import dry_run
from mmblvnet.deployment.formats import export_onnx, export_openvino, load_exported, quantize
from mmblvnet.models.common import TemporalAggregation

MODES = ('inference', 'training')


def set_up(threads: int) -> None:
    """Set the number of threads, use MMAction2's registries, and log warnings only."""
    torch.set_num_threads(threads)
    init_default_scope('mmaction')
    # Some backbones log at length how they are initialized.
    MMLogger.get_current_instance().setLevel(logging.WARNING)


def interleave(
    runs: Dict[Hashable, Callable[[], Any]], warm_up: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Dict[Hashable, List[float]]:
    """Time each run in seconds, once per round, so that the machine's load affects all alike.

    ``warm_up`` rounds come first and do not count.
    """
    times = {key: [] for key in runs}
    for _ in range(warm_up + rounds):
        for key, run in runs.items():
            start = clock()
            run()
            times[key].append(clock() - start)
    return {key: taken[warm_up:] for key, taken in times.items()}


def spread(values: Sequence[float], form: str = '.2f', middle: Callable = median) -> str:
    """Format the middle, the lowest and the highest value."""
    return f'{middle(values):{form}} ({min(values):{form}} to {max(values):{form}})'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ['---'] * len(columns), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines).replace('|  |', '| |')


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """Call a function in a new process with as many threads, and return its result."""
    # By default glibc adapts this threshold, and keeps varying amounts of freed memory.
    with mock.patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_='131072'):
        with ProcessPoolExecutor(1, get_context('spawn'), set_up, (torch.get_num_threads(),)) as pool:
            return pool.submit(function, *args).result()


def reference(num_frames: int) -> nn.Module:
    """Build the tests' reference network, of the published operations, without its classifier."""
    sys.path.append(str(Path(__file__).parents[1] / 'tests'))
    from reference import ReferenceNetwork

    network = ReferenceNetwork(50, num_frames, num_classes=1)
    del network.fc
    network.forward = network.features
    return network


def backbone_of(num_frames: int, type: str, **options) -> dict:
    """Return the config of a backbone of depth 50; image networks get no number of frames."""
    frames = {} if type in ('BLResNet', 'ResNet') else dict(num_segments=num_frames)
    return dict(type=type, depth=50, **frames, **options)


def build(num_frames: int, **backbone) -> nn.Module:
    return MODELS.build(backbone_of(num_frames, **backbone))


class Features(nn.Module):
    """A config's recognizer without its head, with the config's number of frames."""

    def __init__(self, config: str, _: Optional[int] = None) -> None:
        super().__init__()
        self.model = load_recognizer(config, None, 'cpu')
        inputs, self.num_frames, _ = dry_run(self.model, 'val')
        self.in_3d = inputs.dim() == 5
        self.channels = inputs.size(1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1) if self.in_3d else x.unflatten(0, (-1, self.num_frames))
        maps, _ = self.model.extract_feat(x, test_mode=not self.training)
        maps = (maps,) if isinstance(maps, Tensor) else maps
        return torch.cat([stage.flatten() for stage in maps])


class Row(NamedTuple):
    """A network to measure, and the shape of its clips."""

    name: str
    # Builds the network from the number of frames. Pickled for fresh processes.
    make: Callable[[int], nn.Module]
    frames: Optional[int] = None
    size: int = 224
    channels: int = 3
    # Whether it takes clips as (N, C, T, H, W), not (N * T, C, H, W).
    in_3d: bool = False
    modes: Sequence[str] = MODES
    # 'onnx' or 'openvino' to run inference in place of PyTorch.
    runtime: Optional[str] = None
    # 'float32', 'bfloat16' or, in those runtimes, 'int8'.
    precision: str = 'float32'
    compile: bool = False

    def clips(self, number: int, device: str = 'cpu') -> Tensor:
        """Return ``number`` random clips."""
        shape = (number, self.channels, self.frames) if self.in_3d else (number * self.frames, self.channels)
        return torch.randn(*shape, self.size, self.size, device=device)


BLVNET = dict(type='BLVNet', frame_output='pair')
blvnet, tsm = partial(build, **BLVNET), partial(build, type='ResNetTSM', norm_eval=False)


def variant(suffix: str, **options) -> Row:
    return Row(f'bLVNet-TAM, {suffix}', blvnet, modes=['inference'], **options)


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
    'tsn': Row('TSN-R50', partial(build, type='ResNet', norm_eval=False)),
    'tsm': Row('TSM-R50', tsm),
    'tsm_8': Row('TSM-R50, 8 frames', tsm, frames=8),
    'tanet': Row('TANet-R50', partial(build, type='TANet', norm_eval=False)),
}


def rows_of(keys: Sequence[str], configs: Sequence[str], frames: Sequence[int], sizes: Sequence[int]) -> Dict[str, Row]:
    """Return one row per network, number of frames and size, keyed by name."""
    requested = [ROWS[key] for key in keys]
    for config in configs:
        network = Features(config)
        row = Row(Path(config).stem, partial(Features, config), network.num_frames)
        requested.append(row._replace(channels=network.channels, in_3d=network.in_3d))
    rows = {}
    for row, number, size in product(requested, frames, sizes):
        name = row.name
        if row.frames is None and len(frames) > 1:
            name += f', {number} frames'
        if len(sizes) > 1:
            name += f', {size} pixels'
        rows[name] = row._replace(frames=row.frames or number, size=size)
    return rows


def load_in_runtime(network: nn.Module, clips: Tensor, row: Row) -> Callable[[Tensor], Tensor]:
    """Return a run of a backbone in ONNX Runtime or OpenVINO; INT8 is calibrated with the clips."""
    free = {0: row.frames * torch.export.Dim('clips')}
    with tempfile.TemporaryDirectory() as folder:
        onnx, int8, openvino = (Path(folder, name) for name in ('network.onnx', 'int8.onnx', 'network.xml'))
        # An example of a single clip would fix their number to one.
        export_onnx(network, (row.clips(2),), free, onnx)
        if row.precision == 'int8':
            quantize(onnx, int8, [clips])
            onnx = int8
        if row.runtime == 'onnx':
            return load_exported(onnx).run
        export_openvino(onnx, openvino, 'float32' if row.precision == 'float32' else 'bfloat16')
        return load_exported(openvino).run


def prepare(row: Row, mode: str, num_clips: int, device: str = 'cpu') -> Tuple[Callable[[Tensor], Any], Tensor]:
    """Return a run of inference, or of a training step without the optimizer, and its clips."""
    torch.manual_seed(0)
    network, clips = row.make(row.frames).to(device), row.clips(num_clips, device)
    # Not chained: train() of MMAction2's backbones returns None.
    network.train(mode == 'training')
    if mode == 'training':
        called = torch.compile(network) if row.compile else network

        def step(clips: Tensor) -> None:
            with torch.autocast(device, torch.bfloat16, enabled=row.precision == 'bfloat16'):
                maps = called(clips)
            maps.float().square().mean().backward()
            network.zero_grad()

        return step, clips
    backbone = network.model.backbone if isinstance(network, Features) else network
    if row.runtime:
        accelerate(backbone)
        network = load_in_runtime(network, clips, row)
    else:
        accelerate(backbone, row.precision, row.compile)
    return torch.inference_mode()(network), clips


def memory_per_clip(row: Row, mode: str, num_clips: int) -> float:
    """Return by how many MiB each clip raises the peak memory. For a fresh process."""
    run, clips = prepare(row, mode, 3 * num_clips)
    peaks = []
    for batch in (clips[: len(clips) // 3], clips):
        Path('/proc/self/clear_refs').write_text('5')
        run(batch)
        status = Path('/proc/self/status').read_text()
        peaks.append(int(status.split('VmHWM:')[1].split()[0]) / 2**10)
    return (peaks[1] - peaks[0]) / (2 * num_clips)


def count(network: nn.Module, clip: Tensor) -> Dict[str, int]:
    """Count the parameters, and the MACs and elements of inference on a clip.

    A TAM has r MACs per value. Elements are those that convolutions and TAMs
    have to read and write, with norms folded and ReLUs fused.
    """
    tam_macs, elements = [], []

    def count_tam(module: nn.Module, inputs: tuple, outs: Any) -> None:
        if isinstance(module, TemporalAggregation):
            written = outs.numel() if isinstance(outs, Tensor) else sum(maps.numel() for maps in outs)
            tam_macs.append(module.blend_frames * written)
            elements.append(inputs[0].numel() + written)

    def count_convolution(maps: Sequence[int], weight: Sequence[int], *_, out_shape: Sequence[int], **__) -> int:
        elements.append(math.prod(maps) + math.prod(out_shape))
        return 2 * math.prod(out_shape) * math.prod(weight[1:])

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution: count_convolution})
    with register_module_forward_hook(count_tam), counter, torch.no_grad():
        network.eval()
        network(clip)
    macs = counter.get_total_flops() // 2 + sum(tam_macs)
    return dict(parameters=sum(p.numel() for p in network.parameters()), macs=macs, elements=sum(elements))


def measure(
    rows: Dict[str, Row], num_clips: int, warm_up: int, rounds: int, modes: Sequence[str] = MODES
) -> Dict[str, dict]:
    """Return the costs of each network, keyed by its name.

    These are the clips per second (median, lowest and highest) by mode, the
    MiB per clip by mode as ``memory``, and the results of :func:`count`.
    """
    results = {name: dict(count(row.make(row.frames), row.clips(1)), memory={}) for name, row in rows.items()}
    for mode in modes:
        runs = {name: partial(*prepare(row, mode, num_clips)) for name, row in rows.items() if mode in row.modes}
        for name, seconds in interleave(runs, warm_up, rounds).items():
            results[name][mode] = [num_clips / statistic(seconds) for statistic in (median, max, min)]
            results[name]['memory'][mode] = in_fresh_process(memory_per_clip, rows[name], mode, num_clips)
    return results


def results_table(results: Dict[str, dict], form: str = '.2f', extra: Sequence[str] = ()) -> str:
    """Return the results as a Markdown table, speeds with their spread."""
    costs = [f'{mode}, {unit}' for unit in ('clips/s', 'MiB/clip') for mode in MODES]
    rows = []
    for name, result in results.items():
        speeds = [spread(result[mode], form) if mode in result else '-' for mode in MODES]
        memory = [f'{result["memory"][mode]:.0f}' if mode in result else '-' for mode in MODES]
        counted = [f'{result["parameters"] / 1e6:.2f}', f'{result["macs"] / 1e9:.2f}']
        rows.append([name, *speeds, *memory, *counted, *(str(result.get(column) or '-') for column in extra)])
    return table(['network', *costs, 'parameters, M', 'GMACs', *extra], rows)


def main(argv: List[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--rows', nargs='+', choices=ROWS, default=[], help='all that can be trained, by default')
    add('--configs', nargs='+', default=[], metavar='CONFIG', help='measure their recognizers, with their frame counts')
    add('--frames', type=int, nargs='+', default=[16], help='frames per clip')
    add('--size', type=int, nargs='+', default=[224], help='height and width in pixels')
    add('--clips', type=int, default=1, help='clips per batch')
    add('--warm-up', type=int, default=2, help='rounds that do not count')
    add('--rounds', type=int, default=5)
    add('--threads', type=int, default=torch.get_num_threads())
    add('--out', type=Path, help='folder for table and JSON')
    args = parser.parse_args(argv)
    set_up(args.threads)
    trained = [key for key, row in ROWS.items() if row.modes == MODES]
    keys = args.rows or ([] if args.configs else trained)
    results = measure(rows_of(keys, args.configs, args.frames, args.size), args.clips, args.warm_up, args.rounds)
    text = results_table(results)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / 'benchmark.json').write_text(json.dumps(results, indent=2))
        (args.out / 'benchmark.md').write_text(text, 'utf-8')


if __name__ == '__main__':
    main(sys.argv[1:])
