"""Speed and memory on a GPU: ours, MMAction2's and torchvision's networks.

Measures what matters most first and writes each result as soon as it is
there; started again, it goes on where it stopped. Each network has frames and
size of its own, and runs with as many clips at a time as fit, up to 32.

Example:
    python tools/analysis/benchmark_gpu.py work_dirs/gpu.json --seconds 400
"""

import argparse
import json
import math
import time
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import _tools  # noqa: F401
import benchmark
import torch
from benchmark_harness import set_up, table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmblvnet.apis import accelerate
from mmblvnet.models.common import TemporalAggregation

CLIPS, ROUNDS = 32, 10


class Published(NamedTuple):
    """Top-1 in per cent on Kinetics-400 and Something-Something V2, the views
    that the former was tested in, and frames and size of the clips."""

    name: str
    k400: Optional[float] = None
    views: Optional[str] = None
    sthv2: Optional[float] = None
    num_frames: int = 16
    size: int = 224


# Of the paper, of MMAction2's model zoo (metafile.yml) and of torchvision's
# weights, with the clips that those were tested on.
PUBLISHED = {
    'blvnet_tam': Published('bLVNet-TAM-50 8x2', 71.0, '3 x 3', 59.1),
    'blvnet_tam_cp': Published('the same, with_cp'),
    'reference': Published('the published operations one by one'),
    'tsn': Published('TSN-R50, 16 frames', None, None, 36.91),
    'tsm_8': Published('TSM-R50, 8 frames', 73.18, '1 x 10', 62.72, 8),
    'tsm': Published('TSM-R50, 16 frames', 75.12, '1 x 10', 64.16),
    'tanet': Published('TANet-R50, 16 frames'),
    'mvit_v2_s': Published('MViTv2-S', 80.76, '5 x 1'),
    'swin3d_t': Published('Swin3D-T', 77.72, '12 x 1', num_frames=32),
    's3d': Published('S3D', 68.37, '1 x 1', num_frames=128),
    'r2plus1d_18': Published('R(2+1)D-18', 67.46, '5 x 1', size=112),
}


class Job(NamedTuple):
    """Something to measure."""

    # A row of tools/benchmark.py or a network of torchvision.
    row: str
    mode: str
    # Or tf32.
    precision: str = 'bfloat16'
    # At a time; 0 means ``CLIPS``.
    clips: int = 0
    # Or compile, or graph (a CUDA graph).
    how: str = 'eager'

    @property
    def key(self) -> str:
        """str: Under which its result is kept."""
        return '/'.join(map(str, self))


def _both(rows: List[str], precision: str = 'bfloat16') -> List[Job]:
    # Training first: it finds the algorithms that inference uses, too.
    return [Job(row, mode, precision) for row in rows for mode in ('training', 'inference')]


JOBS = [
    *_both(['blvnet_tam', 'reference', 'tsn']),
    Job('blvnet_tam_cp', 'training'),
    *[Job('blvnet_tam', 'inference', clips=1, how=how) for how in ('eager', 'graph')],
    *_both(['tsm_8', 'r2plus1d_18', 'mvit_v2_s', 'tanet', 'swin3d_t', 'tsm']),
    *_both(['blvnet_tam', 'reference', 'tsn'], 'tf32'),
    Job('s3d', 'inference'),
    Job('blvnet_tam', 'training', how='compile'),
    Job('s3d', 'training'),
    Job('blvnet_tam', 'inference', how='compile'),
]


def make_network(row: str, mode: str) -> Tuple[nn.Module, Tuple[int, ...]]:
    """A network without classifier and the shape of a clip.

    Frames come first where a network takes clips one after the other.
    """
    *_, num_frames, size = PUBLISHED[row]
    if row in benchmark.ROWS:
        network = benchmark.ROWS[row].make(num_frames)
        shape = (num_frames, 3, size, size)
    else:
        # torchvision is needed for its own networks alone.
        from torchvision.models import video

        network, shape = getattr(video, row)(), (1, 3, num_frames, size, size)
    # MMAction2's backbones return nothing here.
    network.train(mode == 'training')
    if mode == 'inference':
        accelerate(network)
    return network, shape


def make_run(job: Job, network: nn.Module, clips: Tensor) -> Callable[[], None]:
    """What is timed: a step without the optimizer, or a test."""
    called = torch.compile(network) if job.how == 'compile' else network

    def run() -> Tensor:
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=job.precision == 'bfloat16'):
            return called(clips)

    def train() -> None:
        run().float().square().mean().backward()
        network.zero_grad()

    infer = torch.no_grad()(run)
    if job.how == 'graph':
        return in_a_graph(infer)
    return train if job.mode == 'training' else infer


def in_a_graph(run: Callable[[], None]) -> Callable[[], None]:
    """The replay of a CUDA graph of what is run."""
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def milliseconds(run: Callable[[], None], rounds: int = ROUNDS) -> List[float]:
    """How long each of several runs takes on the GPU."""
    for _ in range(3):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, end in events:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def measure(job: Job, clips: int) -> dict:
    """Time and memory of a job; half as many clips where they do not fit."""
    network, shape = make_network(job.row, job.mode)
    network.cuda()
    alone = torch.cuda.memory_allocated()
    batch = torch.randn(clips * shape[0], *shape[1:], device='cuda')
    torch.cuda.reset_peak_memory_stats()
    try:
        times = milliseconds(make_run(job, network, batch))
    except torch.OutOfMemoryError:
        times = None
    if times is None:
        del network, batch
        torch.cuda.empty_cache()
        return measure(job, clips // 2)
    peak = torch.cuda.max_memory_allocated() - alone
    return dict(
        job._asdict(),
        clips=clips,
        clips_per_s=clips / median(times) * 1e3,
        slowest=clips / max(times) * 1e3,
        fastest=clips / min(times) * 1e3,
        mib_per_clip=peak / clips / 2**20,
    )


def measure_card() -> dict:
    """What the card can do at most, and which it is."""
    numbers = torch.empty(2**29, device='cuda').normal_()
    copied = torch.empty_like(numbers)
    copy_ms = median(milliseconds(lambda: copied.copy_(numbers)))
    matrix = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)
    product_ms = median(milliseconds(lambda: matrix @ matrix))
    return dict(
        card=torch.cuda.get_device_name(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        copy_gb_per_s=2 * numbers.nbytes / copy_ms / 1e6,
        bf16_tflop_per_s=2 * 8192**3 / product_ms / 1e9,
    )


def measure_tam(copy_gb_per_s: float) -> List[dict]:
    """The TAM of the stem, by type and direction.

    ``of_copy`` is the share of the copy's speed at which the bytes of its
    floor are moved: each input read once, each output written once.
    """
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        tam = TemporalAggregation(64, 16).cuda()
        x = (
            torch.randn(32 * 16, 64, 112, 112, device='cuda')
            .to(dtype, memory_format=torch.channels_last)
            .requires_grad_()
        )
        outs = tam.forward_split(x)
        grads = [torch.randn_like(y) for y in outs]

        def forward() -> None:
            with torch.no_grad():
                tam.forward_split(x)

        def backward() -> None:
            torch.autograd.grad(outs, x, grads, retain_graph=True)

        # x and y; x, y, the gradient of y and that of x.
        for run, maps in ((forward, 2), (backward, 4)):
            ms = median(milliseconds(run, 20))
            speed = maps * x.nbytes / ms / 1e6
            results.append(dict(tam=run.__name__, dtype=str(dtype), ms=ms, of_copy=speed / copy_gb_per_s))
    return results


def measure_all(file: Path, jobs: List[Job], until: float) -> None:
    """Measure what the file does not have yet, and write after each.

    Nothing more is started after ``until``, of ``time.monotonic``.
    """
    results = json.loads(file.read_text('utf-8')) if file.exists() else {}

    def write(key: str, result) -> None:
        results[key] = result
        file.write_text(json.dumps(results, indent=1), 'utf-8')
        print(key, result, flush=True)

    if 'card' not in results:
        write('card', measure_card())
        write('tam', measure_tam(results['card']['copy_gb_per_s']))
    for job in jobs:
        if job.key in results or time.monotonic() > until:
            continue
        try:
            write(job.key, measure(job, job.clips or CLIPS))
        # The others are still worth their time.
        except Exception as error:
            write(job.key, dict(job._asdict(), error=f'{error!r}'[:500]))
        torch.cuda.empty_cache()


def count(row: str) -> Dict[str, int]:
    """Parameters and MACs per clip, and ``elements``.

    Those are what convolutions and TAMs cannot but read and write where norms
    are folded and ReLUs fused.
    """
    network, shape = make_network(row, 'inference')
    network, clip = network.to('meta'), torch.empty(shape, device='meta')
    parameters = sum(p.numel() for p in network.parameters())
    macs, blended = benchmark.count_macs(network, clip), []
    benchmark.watch_tams(network, lambda _, maps, outs: blended.extend(m.numel() for m in (*maps, *outs)))

    def moved(maps: Sequence[int], *_, out_shape: Sequence[int], **__) -> int:
        return math.prod(maps) + math.prod(out_shape)

    convolution = torch.ops.aten.convolution
    with FlopCounterMode(display=False, custom_mapping={convolution: moved}) as counter, torch.no_grad():
        network(clip)
    elements = counter.get_flop_counts()['Global'][convolution]
    return dict(parameters=parameters, macs=macs, elements=elements + sum(blended))


def table_of(results: Dict[str, dict]) -> str:
    """The results as Markdown, a line per network and precision.

    The floor of an inference in bf16 is the longer of two times: that of its
    arithmetic, and that of reading and writing its elements.
    """
    card, lines = results['card'], []
    measured = {key: result for key, result in results.items() if 'clips_per_s' in result}
    for row, precision in dict.fromkeys((r['row'], r['precision']) for r in measured.values()):
        inference, _ = own = [measured.get(Job(row, mode, precision).key, {}) for mode in ('inference', 'training')]
        if own == [{}, {}]:
            continue
        published, counted = PUBLISHED[row], count(row)
        floor = '-'
        if precision == 'bfloat16' and inference:
            floor = '{:.0f} %'.format(
                100
                * inference['clips_per_s']
                * max(
                    2e-12 * counted['macs'] / card['bf16_tflop_per_s'],
                    2e-9 * counted['elements'] / card['copy_gb_per_s'],
                )
            )
        lines.append(
            [
                published.name,
                precision,
                *(
                    f'{result[cost]:.0f}' if result else '-'
                    for cost in ('clips_per_s', 'mib_per_clip')
                    for result in own
                ),
                f'{counted["parameters"] / 1e6:.1f}',
                f'{counted["macs"] / 1e9:.1f}',
                floor,
                *(str(value or '-') for value in published[1:4]),
            ]
        )
    return table(
        [
            'network',
            'precision',
            'inference, clips/s',
            'training, clips/s',
            'inference, MiB/clip',
            'training, MiB/clip',
            'parameters, M',
            'GMACs',
            "of the card's floor",
            'Kinetics-400',
            'clips x crops',
            'Something-Something V2',
        ],
        lines,
    )


def plot(results: Dict[str, dict], file: Path) -> None:
    """Draw the published accuracies over the measured clips per second."""
    from matplotlib.figure import Figure

    figure = Figure((8, 5), layout='constrained')
    axes = figure.subplots()
    for row, published in PUBLISHED.items():
        result = results.get(Job(row, 'inference').key, {})
        if published.k400 and 'clips_per_s' in result:
            ours = row.startswith('blvnet')
            speed = result['clips_per_s']
            axes.scatter(speed, published.k400, c='C3' if ours else 'C0')
            axes.annotate(
                f'{published.name} ({published.views} views)',
                (speed, published.k400),
                (0, 8),
                textcoords='offset points',
                ha='center',
            )
    axes.set(
        xscale='log', xlabel=f'clips/s, bf16, {results["card"]["card"]}', ylabel='published top-1 on Kinetics-400, %'
    )
    axes.margins(x=0.35, y=0.1)
    figure.savefig(file, dpi=120)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('results', type=Path, help='JSON; goes on with it')
    parser.add_argument('--seconds', type=float, default=float('inf'), help='start nothing more after so many')
    parser.add_argument(
        '--report', type=Path, metavar='FOLDER', help='measure nothing, but write table and plot of the results there'
    )
    args = parser.parse_args(argv)
    set_up(torch.get_num_threads())
    if args.report:
        results = json.loads(args.results.read_text('utf-8'))
        (args.report / 'gpu.md').write_text(table_of(results), 'utf-8')
        plot(results, args.report / 'gpu.png')
        return
    if not torch.cuda.is_available():
        parser.error('PyTorch sees no GPU')
    torch.backends.cudnn.benchmark = True
    # Trying the default 10 took 16 s for each network on an H100.
    torch.backends.cudnn.benchmark_limit = 4
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    args.results.parent.mkdir(parents=True, exist_ok=True)
    measure_all(args.results, JOBS, time.monotonic() + args.seconds)


if __name__ == '__main__':
    main()
