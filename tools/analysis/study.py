"""Test the paper's claims in small: train many models on one budget, and tabulate them.

Every model is trained from scratch on the embedded data set with the same
steps, schedule and augmentation, and its accuracy is set against
multiply-adds, memory and training time; with --streams, models are tested on
long videos, as windows and as streams. Every finished run is a line of
OUT/runs.jsonl. docs/study.md and docs/streaming.md have the commands.
"""

import argparse
import json
import sys
from collections import defaultdict
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import _tools
import benchmark
import make_motion_dataset as motion
import study_streams as streams
import torch
from benchmark import BLVNET, set_up, table
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.runner import Runner
from scipy import stats

# The records of finished runs, by a model's key and its frames per clip.
Runs = Dict[Tuple[str, int], List[dict]]
CONFIG = _tools.TOOLS.parent / 'configs/blvnet_tam_r50_4x2_motion.py'

# The title and the backbone of each model, by its key.
CLIPS = {
    'tsn': ('TSN-bLResNet', dict(type='BLResNet')),
    'blvnet': ('bLVNet', dict(BLVNET, temporal_module=None)),
    'tsm': ('bLVNet-TSM', dict(BLVNET, temporal_module='TSM')),
    **{f'tam_r{r}': (f'bLVNet-TAM, r = {r}', dict(BLVNET, blend_frames=r)) for r in (1, 3, 5, 7)},
    'resnet_tam': ('ResNet-TAM', dict(type='ResNetTAM')),
    'tsm_r50': ('TSM-R50', dict(type='ResNetTSM', norm_eval=False, pretrained2d=False)),
    'tanet_r50': ('TANet-R50', dict(type='TANet', norm_eval=False)),
}
MODELS = {**CLIPS, **streams.MODELS}
# The paper's research questions, and two models that each compares at equal frames.
QUESTIONS = [
    *(('RQ1: accuracy per cost', 'tam_r3', other) for other in ('tsm_r50', 'tanet_r50', 'resnet_tam', 'tsn')),
    *(('RQ2: TAM beyond the fusion of a pair', f'tam_r{r}', 'blvnet') for r in (1, 3, 5, 7)),
    *(('RQ4: TAM against TSM', f'tam_r{r}', 'tsm') for r in (3, 5, 7)),
]
# The title of each cost's column, and the factor to the column's unit.
COSTS = {'macs': ('MMACs', 1e-6), 'memory': ('training, MiB/clip', 1), 'seconds': ('training, ms/clip', 1e3)}


def make_config(args: argparse.Namespace, run: dict) -> Config:
    """Return the config of a run: that of the embedded data set with the run's model and settings."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.out / 'logs')
    cfg.experiment_name = '{model}_{frames}_{lr}_{seed}'.format(**run)
    cfg.randomness = dict(seed=run['seed'])
    cfg.optim_wrapper.optimizer.lr = run['lr']
    cfg.log_level = 'WARNING'
    cfg.default_hooks.checkpoint = None
    # Four validations per run.
    cfg.train_cfg.update(max_epochs=args.epochs, val_interval=-(-args.epochs // 4))
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.param_scheduler[1].T_max = args.epochs
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):
        loader.update(batch_size=args.batch_size, num_workers=0)
        loader.dataset.ann_file = str(motion.list_path(args.data, split))
        loader.dataset.data_prefix = dict(video=str(args.data / 'videos'))
        for transform in loader.dataset.pipeline:
            if 'scale' in transform:
                # In proportion to the crop, which has 64 pixels in the config.
                transform.scale = (-1, transform.scale[1] * args.size // 64)
            options = dict(clip_len=run['frames'], size=args.size, crop_size=args.size)
            transform.update({name: value for name, value in options.items() if name in transform})
    _, backbone = MODELS[run['model']]
    cfg.model.backbone = benchmark.backbone_of(run['frames'], **backbone)
    cfg.model.cls_head.num_segments = run['frames'] // (2 if backbone['type'] == 'BLVNet' else 1)
    if run['model'].endswith(streams.TRAINED):
        cfg.custom_hooks.append(dict(type='StreamTrainingHook'))
    return cfg


def train(args: argparse.Namespace, run: dict) -> dict:
    """Train the model of a run, and return its accuracy; with --streams also that on long videos."""
    runner = Runner.from_cfg(make_config(args, run))
    runner.train()
    history = runner.message_hub.get_scalar('val/acc/top1').data[0]
    curve = [round(100 * float(value), 2) for value in history]
    results = dict(accuracy=curve[-1], curve=curve)
    if args.streams:
        results |= streams.evaluate(run['model'], runner.model.eval(), args.videos, args.size)
    return results


def plan(args: argparse.Namespace) -> List[dict]:
    """Return the settings that identify each run, in the order of the seeds."""
    settings = dict(epochs=args.epochs, batch_size=args.batch_size, size=args.size, data=args.data.name)
    order = product(args.seeds, args.frames, args.lr, args.models)
    return [dict(model=key, frames=frames, seed=seed, lr=lr, **settings) for seed, frames, lr, key in order]


def find_record(out: Path, run: dict) -> Optional[dict]:
    """Return the record of a run (its settings and results), or None if it is not finished."""
    file = out / 'runs.jsonl'
    records = map(json.loads, file.read_text('utf-8').splitlines()) if file.exists() else ()
    return next((record for record in records if run.items() <= record.items()), None)


def run_missing(out: Path, runs: Iterable[dict], train: Callable[[dict], dict]) -> None:
    """Do the runs that have no record, and append their records to OUT/runs.jsonl."""
    for run in runs:
        # Checked just before each run: other processes may share the study.
        if find_record(out, run):
            continue
        line = json.dumps(dict(run, **train(run)))
        with open(out / 'runs.jsonl', 'a', encoding='utf-8') as file:
            file.write(line + '\n')
        print(line, flush=True)


def accuracies(records: Iterable[dict]) -> List[float]:
    return [record['accuracy'] for record in records]


def best_runs(args: argparse.Namespace) -> Runs:
    """Return the runs of each model and number of frames, at its best learning rate."""
    by_rate = defaultdict(lambda: defaultdict(list))
    for run in sorted(plan(args), key=lambda run: (run['frames'], args.models.index(run['model']))):
        if record := find_record(args.out, run):
            by_rate[run['model'], run['frames']][run['lr']].append(record)
    if not by_rate:
        sys.exit('study.py: no run is done, so nothing to report; run the same command without --report-only')
    return {row: max(rates.values(), key=lambda records: mean(accuracies(records))) for row, rates in by_rate.items()}


def measure_costs(args: argparse.Namespace) -> Dict[str, dict]:
    """Measure the costs of training each model, keyed by "MODEL_FRAMES"."""
    rows = {
        f'{key}_{frames}': benchmark.Row(key, partial(benchmark.build, **MODELS[key][1]), frames, args.size)
        for key, frames in product(args.models, args.frames)
    }
    costs = benchmark.measure(rows, args.batch_size, 2, 5, ['training'])
    for cost in costs.values():
        speed, _, _ = cost.pop('training')
        cost.update(seconds=1 / speed, memory=cost['memory']['training'])
    return costs


def interval(values: Sequence[float]) -> str:
    """Format the mean and half the width of its 95 % confidence interval (Student's t)."""
    if len(values) < 2:
        return f'{values[0]:.1f}'
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f'{mean(values):.1f} ± {reach:.1f}'


def difference(one: Sequence[float], other: Sequence[float]) -> List[str]:
    """Format the difference of two means and its 95 % confidence interval (Welch's test)."""
    points = f'{mean(one) - mean(other):+.1f}'
    if min(len(one), len(other)) < 2:
        return [points, '-']
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    return [points, f'{low:+.1f} to {high:+.1f}']


def model_table(runs: Runs, costs: Dict[str, dict]) -> str:
    """Return the accuracy and costs of each model as a Markdown table."""
    rows = []
    for (key, frames), records in runs.items():
        cost = costs.get(f'{key}_{frames}')
        measured = [f'{scale * cost[kind]:.0f}' if cost else 'not measured' for kind, (_, scale) in COSTS.items()]
        summary = [str(records[0]['lr']), interval(accuracies(records)), str(len(records))]
        rows.append([CLIPS[key][0], str(frames), *summary, *measured])
    titles = [title for title, _ in COSTS.values()]
    return table(['model', 'frames', 'learning rate', 'top-1, %', 'seeds', *titles], rows)


def question_table(runs: Runs) -> str:
    """Return the comparisons that the paper's questions ask for as a Markdown table."""
    counts = sorted({frames for _, frames in runs})
    pairs = [(title, (one, frames), (other, frames)) for title, one, other in QUESTIONS for frames in counts]
    pairs += [('RQ3: more frames', (key, more), (key, fewer)) for key in CLIPS for fewer, more in pairwise(counts)]
    rows = []
    for title, one, other in sorted(pairs):
        if one in runs and other in runs:
            compared = ' against '.join(f'{CLIPS[key][0]} at {frames}' for key, frames in (one, other))
            rows.append([title, compared, *difference(accuracies(runs[one]), accuracies(runs[other]))])
    return table(['question', 'compared', 'difference, points', '95 % interval'], rows)


def plot(runs: Runs, costs: Dict[str, dict], file: Path) -> None:
    """Draw the accuracy of each run over each cost."""
    figure = Figure((13.5, 4.5), layout='constrained')
    axes = figure.subplots(1, len(COSTS), sharey=True)
    for axis, (kind, (title, scale)) in zip(axes, COSTS.items()):
        for (key, frames), records in runs.items():
            if cost := costs.get(f'{key}_{frames}'):
                x, colour = [scale * cost[kind]] * len(records), f'C{list(CLIPS).index(key)}'
                axis.plot(x, accuracies(records), 'o', color=colour, label=CLIPS[key][0])
        axis.axhline(100 / len(motion.CLASSES), color='grey', linestyle=':')
        axis.set(xlim=(0, None), xlabel=title)
    axes[0].set(ylim=(0, 100), ylabel='top-1 accuracy, %')
    dots, names = axes[0].get_legend_handles_labels()
    # One legend entry per model, whatever its number of frames.
    dots = dict(zip(names, dots))
    figure.legend(dots.values(), dots, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=4)
    figure.savefig(file, dpi=100, bbox_inches='tight')


def parse_args(argv: List[str]) -> argparse.Namespace:
    # --streams has models of its own.
    models = streams.MODELS if '--streams' in argv else CLIPS
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0], allow_abbrev=False)
    add = parser.add_argument
    add('--streams', action='store_true', help='compare windows and streams on long videos')
    add('--models', nargs='+', choices=models, default=list(models), help='all by default; with --streams others')
    add('--frames', nargs='+', type=int, default=[8, 16, 32])
    add('--seeds', nargs='+', type=int, default=[0, 1, 2])
    add('--epochs', type=int, default=24)
    add('--lr', nargs='+', type=float, default=[0.02], help='of several, each row reports its best')
    add('--batch-size', type=int, default=16)
    add('--size', type=int, help='of the crop, in pixels', default=112 if torch.cuda.is_available() else 32)
    add('--videos', type=int, default=20, help='number of long videos with cuts, and of those without')
    add('--data', type=Path, default=Path('data/motion'))
    add('--out', type=Path, default=Path('work_dirs/study'))
    add('--report-only', action='store_true', help='train nothing, only report the finished runs')
    add('--measure-cost', action='store_true', help='train nothing, only measure what training costs')
    args = parser.parse_args(argv)
    if args.streams:
        # Streams are compared with windows of one length.
        args.frames = [2 * streams.PAIRS]
    return args


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    set_up(1)
    args.out.mkdir(parents=True, exist_ok=True)
    cost_file = args.out / f'costs_{args.batch_size}_{args.size}.json'
    costs = json.loads(cost_file.read_text()) if cost_file.exists() else {}
    if args.measure_cost:
        cost_file.write_text(json.dumps(costs | measure_costs(args), indent=2))
        return
    if not args.report_only:
        if not motion.list_path(args.data, 'train').exists():
            remedy = f'make it with python tools/data/make_motion_dataset.py {args.data}'
            sys.exit(f'study.py: {args.data} is not the embedded data set; {remedy}')
        run_missing(args.out, plan(args), partial(train, args))
    runs = best_runs(args)
    name = 'streaming' if args.streams else args.data.name
    if args.streams:
        text = streams.report(args, runs, args.out / f'{name}.png')
    else:
        text = f'{model_table(runs, costs)}\n{question_table(runs)}'
        if costs:
            plot(runs, costs, args.out / f'{name}.png')
    (args.out / f'{name}.md').write_text(text, 'utf-8')
    print(text)


if __name__ == '__main__':
    main(sys.argv[1:])
