"""The paper's claims in small: one budget, many models, one table.

Trains every model from scratch with the same data, steps, schedule and
augmentation on the embedded data set, and sets the accuracy against
multiply-adds, memory and training time. With --streams it tries models on long
videos in which one action follows the other, as windows and as streams.

Every finished run is a line of OUT/runs.jsonl, and only missing ones are
trained, seed after seed. Processes with different --seeds can work at one
study together. On a GPU clips have 112 pixels, elsewhere 32.

Example:
    python tools/data/make_motion_dataset.py data/order --task order
    python tools/analysis/study.py --data data/order --frames 8
    python tools/analysis/study.py --data data/order --measure-cost
    python tools/analysis/study.py --data data/order --report-only
    python tools/analysis/study.py --streams --size 48
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Dict, List, NamedTuple, Sequence, Tuple

import _tools  # noqa: F401
import benchmark
import make_motion_dataset as motion
import study_streams
import torch
from benchmark import set_up, table
from matplotlib.figure import Figure
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from scipy import stats
from torch import nn

# A model's key and the frames per clip.
Row = Tuple[str, int]
Accuracies = Dict[Row, List[float]]
CONFIG = Path(__file__).parents[2] / 'configs/blvnet_tam_r50_4x2_motion.py'
# How often a run is validated.
VALIDATIONS = 4


class Model(NamedTuple):
    """A model of the study."""

    name: str
    backbone: dict


BLVNET = dict(type='BLVNet', depth=50, frame_output='pair')
CLIPS = {
    'tsn': Model('TSN-bLResNet', dict(type='BLResNet', depth=50)),
    'blvnet': Model('bLVNet', dict(BLVNET, temporal_module=None)),
    'tsm': Model('bLVNet-TSM', dict(BLVNET, temporal_module='TSM')),
    **{f'tam_r{r}': Model(f'bLVNet-TAM, r = {r}', dict(BLVNET, blend_frames=r)) for r in (1, 3, 5, 7)},
    'resnet_tam': Model('ResNet-TAM', dict(type='ResNetTAM', depth=50)),
    'tsm_r50': Model('TSM-R50', dict(type='ResNetTSM', depth=50, norm_eval=False, pretrained2d=False)),
    'tanet_r50': Model('TANet-R50', dict(type='TANet', depth=50, norm_eval=False)),
}
# Each as it is, and trained for streams.
FOR_STREAMS = '_stream'
STREAMS = {
    f'{key}{suffix}': Model(f'{name}{how}', dict(BLVNET, **options))
    for key, name, options in (
        ('tam', 'TAM, lookahead', dict()),
        ('causal', 'TAM, causal', dict(causal=True)),
        ('online_tsm', 'TSM, online', dict(temporal_module='TSM', causal=True)),
    )
    for suffix, how in (('', ''), (FOR_STREAMS, ', trained for streams'))
}
# Which models the paper's questions compare, at the same frames.
QUESTIONS = {
    'RQ1: accuracy per cost': [
        ('tam_r3', 'tsm_r50'),
        ('tam_r3', 'tanet_r50'),
        ('tam_r3', 'resnet_tam'),
        ('tam_r3', 'tsn'),
    ],
    'RQ2: TAM beyond the fusion of a pair': [(f'tam_r{r}', 'blvnet') for r in (1, 3, 5, 7)],
    'RQ4: TAM against TSM': [(f'tam_r{r}', 'tsm') for r in (3, 5, 7)],
}
# The names of the costs, and what makes them small numbers.
COSTS = {
    'macs': ('MMACs', 1e-6),
    'parameters': ('parameters, M', 1e-6),
    'memory': ('training, MiB/clip', 1),
    'seconds': ('training, ms/clip', 1e3),
}


def adapt_pipeline(pipeline: list, size: int, frames: int) -> None:
    """Let a pipeline make clips of another size and length."""
    for transform in pipeline:
        kind = transform['type']
        if kind == 'BigLittleSampleFrames':
            transform.clip_len = frames
        elif kind == 'Resize':
            # As much larger than the crop as in the demo.
            transform.scale = (-1, transform.scale[1] * size // 64)
        elif kind == 'RandomCrop':
            transform.size = size
        elif kind == 'CenterCrop':
            transform.crop_size = size


def backbone_of(key: str, frames: int) -> dict:
    """The backbone's config; TSN's alone does not tell the frames."""
    segments = {} if key == 'tsn' else dict(num_segments=frames)
    return dict({**CLIPS, **STREAMS}[key].backbone, **segments)


def make_backbone(key: str, frames: int) -> nn.Module:
    return MODELS.build(backbone_of(key, frames))


def make_config(args: argparse.Namespace, run: dict) -> Config:
    """The config of a run: the embedded data set's with another model."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.out / 'logs')
    cfg.experiment_name = '{model}_{frames}_{seed}'.format(**run)
    cfg.randomness = dict(seed=run['seed'])
    cfg.log_level = 'WARNING'
    cfg.default_hooks.checkpoint = None
    cfg.train_cfg.update(max_epochs=args.epochs, val_interval=-(-args.epochs // VALIDATIONS))
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.param_scheduler[1].T_max = args.epochs
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):
        loader.update(batch_size=args.batch_size, num_workers=0)
        loader.dataset.ann_file = str(motion.list_path(args.data, split))
        loader.dataset.data_prefix = dict(video=str(args.data / 'videos'))
        adapt_pipeline(loader.dataset.pipeline, args.size, run['frames'])
    cfg.model.backbone = backbone_of(run['model'], run['frames'])
    pairs = cfg.model.backbone.type == 'BLVNet'
    cfg.model.cls_head.num_segments = run['frames'] // (2 if pairs else 1)
    if run['model'].endswith(FOR_STREAMS):
        cfg.custom_hooks.append(dict(type='StreamTrainingHook'))
    return cfg


def train(args: argparse.Namespace, run: dict) -> dict:
    """The line of a run, which adds results to what it is known by."""
    runner = Runner.from_cfg(make_config(args, run))
    runner.train()
    history = runner.message_hub.get_scalar('val/acc/top1').data[0]
    curve = [round(100 * float(value), 2) for value in history]
    line = dict(run, accuracy=curve[-1], curve=curve)
    if args.streams:
        # Windows are computed for the model that is neither causal nor
        # trained for streams.
        line.update(
            study_streams.evaluate(runner.model.eval(), args.videos, args.size, with_windows=run['model'] == 'tam')
        )
    return line


def runs_asked_for(args: argparse.Namespace) -> List[dict]:
    """What the runs are known by, seed after seed."""
    return [
        dict(
            model=key,
            frames=frames,
            seed=seed,
            epochs=args.epochs,
            batch_size=args.batch_size,
            size=args.size,
            data=args.data.name,
        )
        for seed in args.seeds
        for frames in args.frames
        for key in args.models
    ]


def lines_of(args: argparse.Namespace, run: dict) -> List[dict]:
    """The lines that are there for a run."""
    file = args.out / 'runs.jsonl'
    text = file.read_text('utf-8') if file.exists() else ''
    lines = map(json.loads, text.splitlines())
    return [line for line in lines if run.items() <= line.items()]


def train_missing(args: argparse.Namespace) -> None:
    """Train what is missing."""
    if not motion.list_path(args.data, 'train').exists():
        sys.exit(
            f'study.py: {args.data} is not the embedded data set; python '
            f'tools/data/make_motion_dataset.py {args.data} makes it'
        )
    for run in runs_asked_for(args):
        # Another process may be at the same study.
        if lines_of(args, run):
            continue
        line = json.dumps(train(args, run))
        with open(args.out / 'runs.jsonl', 'a', encoding='utf-8') as file:
            file.write(line + '\n')
        print(line, flush=True)


def read_costs(args: argparse.Namespace) -> Dict[str, dict]:
    """What was measured before, by "MODEL_FRAMES"."""
    return json.loads(args.costs.read_text()) if args.costs.exists() else {}


def measure_costs(args: argparse.Namespace) -> None:
    """Measure what training costs, beside what was measured before."""
    rows = {
        f'{key}_{frames}': benchmark.Row(CLIPS[key].name, partial(make_backbone, key), frames, args.size)
        for key in args.models
        for frames in args.frames
    }
    costs = read_costs(args)
    for name, cost in benchmark.measure(rows, args.batch_size, 2, 5, ['training']).items():
        speed, _, _ = cost.pop('training')
        costs[name] = dict(cost, seconds=1 / speed, memory=cost['memory']['training'])
    args.costs.write_text(json.dumps(costs, indent=2))


def interval(values: Sequence[float]) -> str:
    """The mean, and how far the 95 % interval of Student's t reaches."""
    if len(values) < 2:
        return f'{values[0]:.1f}'
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f'{mean(values):.1f} ± {reach:.1f}'


def finished_lines(args: argparse.Namespace) -> Dict[Row, List[dict]]:
    """By model and frames, the lines of the seeds that are done."""
    results = {(key, frames): [] for frames in sorted(args.frames) for key in args.models}
    for run in runs_asked_for(args):
        results[run['model'], run['frames']] += lines_of(args, run)
    if not any(results.values()):
        sys.exit(
            'study.py: no run is done, so that there is nothing to report; run the same command without --report-only'
        )
    return {row: lines for row, lines in results.items() if lines}


def model_table(of_models: Accuracies, costs: Dict[str, dict]) -> str:
    """The models with accuracy and costs as a Markdown table."""
    lines = []
    for (key, frames), values in of_models.items():
        cost = costs.get(f'{key}_{frames}', {})
        lines.append(
            [
                CLIPS[key].name,
                str(frames),
                interval(values),
                str(len(values)),
                *(
                    f'{scale * cost[name]:.0f}' if name in cost else 'not measured'
                    for name, (_, scale) in COSTS.items()
                ),
            ]
        )
    return table(['model', 'frames', 'top-1, %', 'seeds', *(title for title, _ in COSTS.values())], lines)


def difference(one: Sequence[float], other: Sequence[float]) -> List[str]:
    """The difference of two means with its 95 % interval by Welch's test."""
    points = mean(one) - mean(other)
    if min(len(one), len(other)) < 2:
        return [f'{points:+.1f}', '-']
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    return [f'{points:+.1f}', f'{low:+.1f} to {high:+.1f}']


def question_table(of_models: Accuracies) -> str:
    """The differences that the paper's questions ask for, in Markdown."""
    frames_of = sorted({frames for _, frames in of_models})
    pairs = [
        (question, (one, frames), (other, frames))
        for question, models in QUESTIONS.items()
        for one, other in models
        for frames in frames_of
    ]
    pairs += [
        ('RQ3: more frames', (key, more), (key, fewer))
        for key in CLIPS
        for fewer, more in zip(frames_of, frames_of[1:])
    ]
    lines = []
    for question, *rows in sorted(pairs):
        if all(row in of_models for row in rows):
            names = (f'{CLIPS[key].name} at {frames}' for key, frames in rows)
            lines.append([question, ' against '.join(names), *difference(*(of_models[row] for row in rows))])
    return table(['question', 'compared', 'difference, points', '95 % interval'], lines)


def plot(of_models: Accuracies, costs: Dict[str, dict], file: Path) -> None:
    """Draw accuracy over each cost, from the lowest to the highest seed."""
    figure = Figure((13.5, 4.5), layout='constrained')
    names = ('macs', 'memory', 'seconds')
    axes = figure.subplots(1, len(names), sharey=True)
    measured = {row: costs['{}_{}'.format(*row)] for row in of_models if '{}_{}'.format(*row) in costs}
    for axis, cost in zip(axes, names):
        title, scale = COSTS[cost]
        for key in dict.fromkeys(key for key, _ in measured):
            rows = [row for row in measured if row[0] == key]
            values = [of_models[row] for row in rows]
            axis.errorbar(
                [scale * measured[row][cost] for row in rows],
                [mean(v) for v in values],
                ([mean(v) - min(v) for v in values], [max(v) - mean(v) for v in values]),
                marker='o',
                capsize=3,
                label=CLIPS[key].name,
            )
        axis.axhline(100 / len(motion.CLASSES), color='grey', linestyle=':')
        axis.set(xlim=(0, None), xlabel=title)
    axes[0].set(ylim=(0, 100), ylabel='top-1 accuracy, %')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='lower center', bbox_to_anchor=(0.5, 1), ncols=4)
    figure.savefig(file, dpi=100, bbox_inches='tight')


def report_clips(args: argparse.Namespace) -> str:
    """The tables of clips; draws the plot where costs are measured."""
    of_models = {row: [line['accuracy'] for line in lines] for row, lines in finished_lines(args).items()}
    costs = read_costs(args)
    if costs:
        plot(of_models, costs, args.out / f'{args.data.name}.png')
    return f'{model_table(of_models, costs)}\n{question_table(of_models)}'


def report_streams(args: argparse.Namespace) -> str:
    """The table of streams; draws the plot."""
    runs = {STREAMS[key].name: lines for (key, _), lines in finished_lines(args).items()}
    frames = args.frames[0]
    macs = benchmark.count(make_backbone('tam', frames), torch.zeros(frames, 3, args.size, args.size))['macs']
    return study_streams.report(runs, macs, args.out / 'streaming.png')


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--streams', action='store_true', help='compare windows and streams on long videos')
    add(
        '--models',
        nargs='+',
        metavar='MODEL',
        help=f'of {", ".join(CLIPS)}; with --streams of {", ".join(STREAMS)}; all by default',
    )
    add('--frames', nargs='+', type=int, default=[8, 16, 32])
    add('--seeds', nargs='+', type=int, default=[0, 1, 2])
    add('--epochs', type=int, default=12)
    add('--batch-size', type=int, default=16)
    add('--size', type=int, help='in pixels', default=112 if torch.cuda.is_available() else 32)
    add('--videos', type=int, default=20, help='long ones with cuts, and as many without')
    add('--data', type=Path, default=Path('data/motion'))
    add('--out', type=Path, default=Path('work_dirs/study'))
    add('--report-only', action='store_true', help='train nothing')
    add('--measure-cost', action='store_true', help='measure what training costs instead')
    args = parser.parse_args(argv)
    models = STREAMS if args.streams else CLIPS
    args.models = args.models or list(models)
    if unknown := set(args.models) - set(models):
        parser.error(
            f'--models: {", ".join(sorted(unknown))} is none of '
            f'{", ".join(models)}'
            f'{", with --streams" if args.streams else ""}'
        )
    if args.streams:
        # Streams are compared with windows of one length.
        args.frames = [2 * study_streams.PAIRS]
    args.costs = args.out / f'costs_{args.batch_size}_{args.size}.json'
    return args


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    set_up(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.measure_cost:
        measure_costs(args)
        return
    if not args.report_only:
        train_missing(args)
    text = report_streams(args) if args.streams else report_clips(args)
    name = 'streaming.md' if args.streams else f'{args.data.name}.md'
    (args.out / name).write_text(text, 'utf-8')
    print(text)


if __name__ == '__main__':
    main(sys.argv[1:])
