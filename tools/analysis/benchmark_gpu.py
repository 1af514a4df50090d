"""Measure the speed and memory of our, MMAction2's and torchvision's networks on a GPU.

The most important networks come first, and each result is written at once, so
that an interrupted run goes on where it stopped. Each network has its own
number of frames and frame size, and runs with as many clips per batch as fit,
up to 32. tools/gpu_check.sh has the command.
"""

import argparse
import gc
import json
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import _tools  # noqa: F401
import benchmark
import torch
from benchmark import Row
from torch import nn

from mmblvnet.models.common import TemporalAggregation
from mmblvnet.models.common.temporal_module import SPLIT

DEVICE = 'cuda'
FLOOR = "of the card's floor"
PUBLICATION = ('Kinetics-400', 'clips x crops', 'Something-Something V2')
# Top-1 accuracy in per cent on Kinetics-400, its test views, and top-1 on
# Something-Something V2, as published in the paper, in MMAction2's model zoo
# (metafile.yml) and with torchvision's weights, for the clips measured here.
PUBLISHED = {
    'bLVNet-TAM': (71.0, '3 x 3', 59.1),
    'TSN-R50': (None, None, 36.91),
    'TSM-R50, 8 frames': (73.18, '1 x 10', 62.72),
    'TSM-R50': (75.12, '1 x 10', 64.16),
    'MViTv2-S': (80.76, '5 x 1', None),
    'Swin3D-T': (77.72, '12 x 1', None),
    'S3D': (68.37, '1 x 1', None),
    'R(2+1)D-18': (67.46, '5 x 1', None),
}


def build_torchvision(key: str, _: int) -> nn.Module:
    # Imported here, since only these rows need torchvision.
    from torchvision.models import video

    return getattr(video, key)()


ROWS = {
    **benchmark.ROWS,
    'mvit_v2_s': Row('MViTv2-S', partial(build_torchvision, 'mvit_v2_s'), 16, in_3d=True),
    'swin3d_t': Row('Swin3D-T', partial(build_torchvision, 'swin3d_t'), 32, in_3d=True),
    's3d': Row('S3D', partial(build_torchvision, 's3d'), 128, in_3d=True),
    'r2plus1d_18': Row('R(2+1)D-18', partial(build_torchvision, 'r2plus1d_18'), 16, 112, in_3d=True),
}


class Job(NamedTuple):
    """A row to measure in one mode, with ``clips`` per batch or, if they do not fit, fewer."""

    row: Row
    mode: str
    clips: int
    # Whether to measure the replay of a CUDA graph.
    graph: bool


def jobs_of(
    keys: Sequence[str], modes: Sequence[str], suffix: str = '', clips: int = 32, graph: bool = False, **options
) -> List[Job]:
    """Return a job per network and mode, in bfloat16 unless the options say otherwise."""
    options = dict(precision='bfloat16') | options
    rows = [row._replace(name=row.name + suffix, frames=row.frames or 16, **options) for row in map(ROWS.get, keys)]
    return [Job(row, mode, clips, graph) for row in rows for mode in modes]


TRAINING, INFERENCE = ['training'], ['inference']
# Training first: inference reuses the cuDNN algorithms that training found.
BOTH = TRAINING + INFERENCE
JOBS = [
    *jobs_of(['blvnet_tam', 'reference', 'tsn'], BOTH),
    *jobs_of(['blvnet_tam_cp'], TRAINING),
    *jobs_of(['blvnet_tam'], INFERENCE, ', one clip', clips=1),
    *jobs_of(['blvnet_tam'], INFERENCE, ', one clip as a CUDA graph', clips=1, graph=True),
    *jobs_of(['tsm_8', 'r2plus1d_18', 'mvit_v2_s', 'tanet', 'swin3d_t', 'tsm'], BOTH),
    *jobs_of(['blvnet_tam', 'reference', 'tsn'], BOTH, ', TF32', precision='float32'),
    *jobs_of(['s3d'], INFERENCE),
    *jobs_of(['blvnet_tam'], TRAINING, ', compiled', compile=True),
    *jobs_of(['s3d'], TRAINING),
    *jobs_of(['blvnet_tam'], INFERENCE, ', compiled', compile=True),
]


def capture_graph(run: Callable[[], Any]) -> Callable[[], None]:
    """Capture a run in a CUDA graph, and return the graph's replay."""
    side_stream = torch.cuda.Stream()
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def milliseconds(run: Callable[[], Any], rounds: int = 10) -> List[float]:
    """Time several runs on the GPU, in milliseconds each, after three to warm up."""
    for _ in range(3):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, end in events:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def measure(job: Job, clips: int) -> Tuple[List[float], float]:
    """Return clips per second (median, lowest and highest), and MiB of peak memory per clip."""
    run, batch = benchmark.prepare(job.row, job.mode, clips, DEVICE)
    run = partial(run, batch)
    # Compiles, and tries algorithms, each with a workspace of its own.
    run()
    memory_before = torch.cuda.memory_allocated() - batch.nbytes
    torch.cuda.reset_peak_memory_stats()
    times = milliseconds(capture_graph(run) if job.graph else run)
    peak = torch.cuda.max_memory_allocated() - memory_before
    return [1000 * clips / statistic(times) for statistic in (median, max, min)], peak / clips / 2**20


def measure_card() -> dict:
    """Measure how fast the card copies memory and multiplies matrices, and name the card."""
    source = torch.empty(2**29, device='cuda').normal_()
    copy_ms = median(milliseconds(partial(torch.empty_like(source).copy_, source)))
    matrix = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)
    product_ms = median(milliseconds(lambda: matrix @ matrix))
    return dict(
        card=torch.cuda.get_device_name(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        copy_gb_per_s=2 * source.nbytes / copy_ms / 1e6,
        bf16_tflop_per_s=2 * 8192**3 / product_ms / 1e9,
    )


def measure_tam(copy_gb_per_s: float) -> List[dict]:
    """Time the TAM of the stem, forward and backward, in bfloat16 and float32.

    ``of_copy`` is its throughput, as a share of a copy's, if it moves no byte
    more than it must: each input is read once, each output written once.
    """
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        tam = TemporalAggregation(64, 16).cuda()
        x = torch.randn(32 * 16, 64, 112, 112, dtype=dtype, device='cuda')
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        outs = tam(x, SPLIT)
        grads = [torch.randn_like(y) for y in outs]
        forward = torch.no_grad()(partial(tam, x, SPLIT))
        backward = partial(torch.autograd.grad, outs, x, grads, retain_graph=True)
        # Forward moves x and y; backward x, y and the gradients of both.
        for name, run, maps in (('forward', forward, 2), ('backward', backward, 4)):
            ms = median(milliseconds(run, 20))
            speed = maps * x.nbytes / ms / 1e6
            results.append(dict(tam=name, dtype=str(dtype), ms=ms, of_copy=speed / copy_gb_per_s))
    return results


def measure_all(file: Path, jobs: List[Job], deadline: float) -> None:
    """Measure the jobs whose results the file lacks, and write the file after each.

    No measurement starts after ``deadline``, a time of ``time.monotonic``.
    """
    results = json.loads(file.read_text('utf-8')) if file.exists() else {}

    def write() -> None:
        file.write_text(json.dumps(results, indent=1), 'utf-8')

    if 'card' not in results:
        card = measure_card()
        results.update(card=card, tam=measure_tam(card['copy_gb_per_s']), networks={})
        write()
    for job in jobs:
        result = results['networks'].setdefault(job.row.name, dict(memory={}, clips={}, errors={}))
        clips = job.clips
        while job.mode not in {*result['memory'], *result['errors']} and time.monotonic() < deadline:
            try:
                result[job.mode], result['memory'][job.mode] = measure(job, clips)
                result['clips'][job.mode] = clips
            except torch.OutOfMemoryError:
                clips //= 2
            # A network that fails must not end the run of the others.
            except Exception as error:
                result['errors'][job.mode] = f'{error!r}'[:500]
            print(job.row.name, job.mode, clips, result, flush=True)
            # A network whose forward was replaced is in a reference cycle.
            gc.collect()
            torch.cuda.empty_cache()
            write()


def report(results: dict, folder: Path) -> None:
    """Write the table of the networks (gpu.md), and plot their accuracies (gpu.png).

    The floor of inference in bfloat16 is the longer of two times: that of its
    arithmetic, and that of reading and writing the elements of its maps.
    """
    card, rows = results['card'], {job.row.name: job.row for job in JOBS}
    networks = {name: result for name, result in results['networks'].items() if result['memory']}
    for name, result in networks.items():
        row = rows[name]
        result.update(benchmark.count(row.make(row.frames).to('meta'), row.clips(1, 'meta')))
        result.update(zip(PUBLICATION, PUBLISHED.get(name, ())))
        if row.precision == 'bfloat16' and 'inference' in result:
            arithmetic = 2e-12 * result['macs'] / card['bf16_tflop_per_s']
            copying = 2e-9 * result['elements'] / card['copy_gb_per_s']
            result[FLOOR] = f'{100 * result["inference"][0] * max(arithmetic, copying):.0f} %'
    (folder / 'gpu.md').write_text(benchmark.results_table(networks, '.0f', [FLOOR, *PUBLICATION]), 'utf-8')
    plot(networks, card['card'], folder / 'gpu.png')


def plot(networks: Dict[str, dict], card: str, file: Path) -> None:
    """Draw the published accuracies over the measured clips per second."""
    from matplotlib.figure import Figure

    figure = Figure((8, 5), layout='constrained')
    axes = figure.subplots()
    for name, (top1, views, _) in PUBLISHED.items():
        if top1 and 'inference' in networks.get(name, {}):
            place = networks[name]['inference'][0], top1
            axes.scatter(*place, c='C3' if name.startswith('bLVNet') else 'C0')
            label = f'{name} ({views} views)'
            axes.annotate(label, place, (0, 8), textcoords='offset points', ha='center')
    axes.set(xscale='log', xlabel=f'clips/s, bf16, {card}', ylabel='published top-1 on Kinetics-400, %')
    axes.margins(x=0.35, y=0.1)
    figure.savefig(file, dpi=120)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('results', type=Path, help='JSON file of the results; an existing one is completed')
    parser.add_argument('--seconds', type=float, default=float('inf'), help='start no measurement later than this')
    parser.add_argument('--report', type=Path, metavar='FOLDER', help='only write a table and a plot of the results')
    args = parser.parse_args(argv)
    benchmark.set_up(torch.get_num_threads())
    if args.report:
        report(json.loads(args.results.read_text('utf-8')), args.report)
        return
    if not torch.cuda.is_available():
        parser.error('PyTorch sees no GPU')
    torch.backends.cudnn.benchmark = True
    # Trying the default 10 took 16 s for each network on an H100.
    torch.backends.cudnn.benchmark_limit = 4
    args.results.parent.mkdir(parents=True, exist_ok=True)
    measure_all(args.results, JOBS, time.monotonic() + args.seconds)


if __name__ == '__main__':
    main()
