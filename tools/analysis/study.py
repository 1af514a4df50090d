"""The paper's claim in miniature: one budget, several models, one table.

Trains every model with the same data, steps, schedule and augmentation on the
embedded data set, whose classes differ by motion alone, and sets the accuracy
against multiply-adds, memory and training time. With --streams it tries them
on long videos in which one action follows the other, as windows and as
streams. Every finished run is a line of OUT/runs.jsonl, and only missing ones
are trained, seed after seed, so that a study that was cut short has whole
seeds.

Example:
    python tools/data/make_motion_dataset.py data/motion
    python tools/analysis/study.py
    python tools/analysis/study.py --measure-cost
    python tools/analysis/study.py --report-only
    python tools/analysis/study.py --streams
"""
import argparse
import json
import sys
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Dict, List, NamedTuple, Optional, Tuple

import _tools  # noqa: F401
import benchmark
import cv2
import make_motion_dataset as motion
import numpy as np
import study_streams
import torch
from benchmark_harness import in_fresh_process, set_up, spread, table
from matplotlib.figure import Figure
from mmaction.registry import HOOKS, MODELS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, save_checkpoint
from torch import nn

from mmblvnet.datasets import VideoReader

CONFIG = Path(__file__).parents[2] / 'configs/blvnet_tam_r50_4x2_motion.py'
IMAGE_EPOCHS = 5


class Model(NamedTuple):
    """A model of the study.

    Args:
        name (str): Its name in table and plot.
        backbone (dict): What its backbone's config has instead of the
            flagship's.
        image_weights (bool): Whether it starts from the weights of the image
            task, and not from scratch. Defaults to True.
        hook (str, optional): What it is trained with besides. Defaults to
            None.
    """
    name: str
    backbone: dict
    image_weights: bool = True
    hook: Optional[str] = None


COMPARISON = {
    'tsn': Model('TSN-bLResNet', dict(_delete_=True, type='BLResNet',
                                      depth=50)),
    'blvnet': Model('bLVNet', dict(temporal_module=None)),
    'tsm': Model('bLVNet-TSM', dict(temporal_module='TSM')),
    'tam_r1': Model('bLVNet-TAM, r = 1', dict(blend_frames=1)),
    'tam_r3': Model('bLVNet-TAM, r = 3', dict(blend_frames=3)),
    'tam_r5': Model('bLVNet-TAM, r = 5', dict(blend_frames=5)),
}
# Each differs from tam_r3 in how its weights start.
INITIALIZATION = {
    'tam_r3_identity':
    COMPARISON['tam_r3']._replace(hook='StartAsIdentity'),
    'tam_r3_scratch':
    COMPARISON['tam_r3']._replace(image_weights=False),
    'tam_r3_scratch_identity':
    COMPARISON['tam_r3']._replace(image_weights=False, hook='StartAsIdentity'),
}
ALL = {**COMPARISON, **INITIALIZATION}
STREAMS = {
    f'{key}{suffix}': Model(f'{name}{how}', backbone, False, hook)
    for key, name, backbone in (
        ('tam', 'TAM, lookahead', dict()),
        ('causal', 'TAM, causal', dict(causal=True)),
        ('tsm', 'TSM, online', dict(temporal_module='TSM', causal=True)))
    for suffix, how, hook in (
        ('', '', None),
        ('_stream', ', trained for streams', 'StreamTrainingHook'))
}
# What differs between the options of the two.
DEFAULTS = dict(
    models=list(ALL), frames=[8, 16], epochs=2, batch_size=8, size=32,
    out=Path('work_dirs/study'))
STREAM_DEFAULTS = dict(
    models=list(STREAMS), frames=[2 * study_streams.PAIRS], epochs=12,
    batch_size=16, size=64, out=Path('work_dirs/streaming_study'))


@lru_cache(maxsize=None)
def read_video(file: str) -> np.ndarray:
    """All frames of a video, kept from the first time on."""
    reader = VideoReader(file)
    return np.stack(reader.get_batch(range(len(reader))))


@HOOKS.register_module()
class StartAsIdentity(Hook):
    """Starts TAMs of r = 3 with the current frame alone."""

    def before_train(self, runner: Runner) -> None:
        for name, parameter in runner.model.named_parameters():
            if '.tam.' in name:
                nn.init.constant_(parameter, float('.curr.' in name))


@TRANSFORMS.register_module()
class RememberedVideo(BaseTransform):
    """Opens or decodes a video, but each once per process."""

    def transform(self, results: dict) -> dict:
        frames = read_video(results['filename'])
        results['total_frames'] = len(frames)
        if 'frame_inds' in results:
            results['imgs'] = list(frames[results['frame_inds']])
            results['original_shape'] = frames.shape[1:3]
            results['img_shape'] = frames.shape[1:3]
        return results


def adapt_pipeline(pipeline: list, size: int) -> None:
    """Let a pipeline take videos from memory and crop to another size."""
    for transform in pipeline:
        kind = transform['type']
        if kind in ('ExactVideoInit', 'ExactVideoDecode'):
            transform['type'] = 'RememberedVideo'
        elif kind == 'Resize':
            # As much larger than the crop as in the demo.
            transform.scale = (-1, transform.scale[1] * size // 64)
        elif kind == 'RandomCrop':
            transform.size = size
        elif kind == 'CenterCrop':
            transform.crop_size = size


def base_config(args: argparse.Namespace, name: str, seed: int,
                epochs: int) -> Config:
    """The demo's config with less log, no checkpoints and data from memory."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.out / 'logs')
    cfg.experiment_name = name
    cfg.randomness = dict(seed=seed)
    cfg.log_level = 'WARNING'
    cfg.default_hooks.checkpoint = None
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs + 1)
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.param_scheduler[1].T_max = epochs
    for loader, split in ((cfg.train_dataloader, 'train'),
                          (cfg.val_dataloader, 'val')):
        loader.update(batch_size=args.batch_size, num_workers=0)
        loader.dataset.ann_file = str(motion.list_path(args.data, split))
        loader.dataset.data_prefix = dict(video=str(args.data / 'videos'))
        adapt_pipeline(loader.dataset.pipeline, args.size)
    return cfg


def with_backbone(cfg: Config, model: Model, frames: int) -> Config:
    """A config with a model's backbone instead of the flagship's."""
    own = dict(model.backbone)
    if '_delete_' not in own:
        own['num_segments'] = frames
    cfg.merge_from_dict(dict(model=dict(backbone=own)))
    return cfg


def video_config(args: argparse.Namespace, key: str, frames: int,
                 seed: int) -> Config:
    """The config of one run: a model, frames per clip, and a seed."""
    model = args.all_models[key]
    cfg = base_config(args, f'{key}_{frames}_{seed}', seed, args.epochs)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.pipeline[1].clip_len = frames
    with_backbone(cfg, model, frames)
    paired = cfg.model.backbone.type == 'BLVNet'
    cfg.model.cls_head.num_segments = frames // 2 if paired else frames
    if model.hook:
        cfg.custom_hooks.append(dict(type=model.hook))
    if model.image_weights:
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(image_checkpoint(args)),
            prefix='backbone.')
    return cfg


def build_backbone(model: Model, frames: int) -> nn.Module:
    cfg = with_backbone(Config.fromfile(CONFIG), model, frames)
    return MODELS.build(cfg.model.backbone)


def make_runner(cfg: Config) -> Runner:
    """The runner of a config, after training."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def train_video_model(args: argparse.Namespace, run: dict) -> dict:
    """The line of a run, which adds results to what it is known by."""
    runner = make_runner(
        video_config(args, run['model'], run['frames'], run['seed']))
    accuracy = float(runner.val()['acc/top1'])
    if not args.streams:
        return dict(run, accuracy=round(100 * accuracy, 2))
    # Windows are computed for the model that is neither causal nor trained
    # for streams.
    return dict(run, clips=accuracy, **study_streams.evaluate(
        runner.model.eval(), args.videos, args.size, run['model'] == 'tam'))


def draw_image(rng: np.random.Generator, shape: int) -> np.ndarray:
    """A frame as the videos have, in which both objects have one shape."""
    height, width = motion.draw_frame_size(rng, motion.SHORT_SIDE)
    canvas = motion.make_plain_background(rng, height, width)
    state = rng.random(4)
    other = (state + (0.5, 0.5, rng.random(), 0.5)) % 1
    for of_object in (state, other):
        motion.paint_object(canvas, motion.make_object(rng, shape), of_object)
    canvas += rng.uniform(0, 0.6) * rng.standard_normal(canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def make_images(out: Path, counts: Dict[str, int]) -> None:
    """Write the images of the image task, as many per split, and lists."""
    for split, count in counts.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for index in range(count):
            shape = index % len(motion.SHAPES)
            rng = np.random.default_rng([motion.SPLITS.index(split), index])
            name = f'{split}/{index:06}.png'
            cv2.imwrite(str(out / name), draw_image(rng, shape)[..., ::-1])
            lines.append(f'{name} {shape}\n')
        (out / f'{split}.txt').write_text(''.join(lines), 'utf-8')


def image_config(args: argparse.Namespace, images: Path) -> Config:
    """The config of the image network: which shape does a frame show?"""
    cfg = base_config(args, 'images', 0, IMAGE_EPOCHS)
    for loader, split in ((cfg.train_dataloader, 'train'),
                          (cfg.val_dataloader, 'val')):
        loader.batch_size = 64
        loader.dataset.update(
            ann_file=str(images / f'{split}.txt'),
            data_prefix=dict(video=str(images)),
            num_classes=len(motion.SHAPES))
        # A mirrored shape is the same shape.
        kept = [
            dict(type='Flip') if transform.type == 'Flip' else transform
            for transform in loader.dataset.pipeline[3:]
        ]
        loader.dataset.pipeline = [dict(type='ImageDecode'), *kept]
    cfg.model.cls_head.update(num_classes=len(motion.SHAPES), num_segments=1)
    return with_backbone(cfg, COMPARISON['tsn'], 1)


def image_checkpoint(args: argparse.Namespace) -> Path:
    """The weights of the image network, trained where they are missing."""
    name = f'image_weights_{args.images}_{args.size}'
    file = args.out / f'{name}.pth'
    if not file.exists():
        images = args.out / 'images'
        make_images(images, dict(train=args.images, val=args.images // 10))
        runner = make_runner(image_config(args, images))
        accuracy = round(100 * float(runner.val()['acc/top1']), 2)
        (args.out / f'{name}.json').write_text(
            json.dumps(dict(accuracy=accuracy, images=args.images,
                            epochs=IMAGE_EPOCHS)))
        save_checkpoint(dict(state_dict=runner.model.state_dict()), str(file))
    return file


def runs_asked_for(args: argparse.Namespace) -> List[dict]:
    """What all runs of the study are known by, seed after seed."""
    return [
        dict(model=key, frames=frames, seed=seed, epochs=args.epochs,
             batch_size=args.batch_size, size=args.size, data=args.data.name)
        for seed in args.seeds for key in args.models
        # How the weights start was compared at the fewest frames alone.
        for frames in args.frames[:1 if key in INITIALIZATION else None]
    ]


def finished_runs(args: argparse.Namespace) -> List[dict]:
    """The lines of the runs that are done."""
    file = args.out / 'runs.jsonl'
    lines = file.read_text('utf-8').splitlines() if file.exists() else []
    result = 'continuous' if args.streams else 'accuracy'
    return [run for run in map(json.loads, lines) if result in run]


def find(run: dict, finished: List[dict]) -> Optional[dict]:
    """The line of a run, None if it is still to be done.

    What a line does not tell, as older ones of streams, is no difference.
    """
    for line in finished:
        if all(line.get(name, value) == value for name, value in run.items()):
            return line
    return None


def train_missing(args: argparse.Namespace) -> None:
    """Train what is missing.

    Raises:
        ValueError: If the data are not the embedded data set.
    """
    if not motion.list_path(args.data, 'train').exists():
        raise ValueError(
            f'{args.data} is not the embedded data set; python '
            f'tools/data/make_motion_dataset.py {args.data} makes it')
    for run in runs_asked_for(args):
        # Another process may be at the same study.
        if find(run, finished_runs(args)):
            continue
        line = train_video_model(args, run)
        with open(args.out / 'runs.jsonl', 'a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')
        print(json.dumps(line), flush=True)


def benchmark_options(args: argparse.Namespace) -> argparse.Namespace:
    """The benchmark's options, with a row for each model and its frames."""
    rows = {
        f'{key}_{frames}': benchmark.Row(
            COMPARISON[key].name,
            lambda t, key=key: build_backbone(COMPARISON[key], t),
            num_frames=frames)
        for key in args.models if key in COMPARISON
        for frames in args.frames
    }
    benchmark.ROWS.update(rows)
    return benchmark.parse_args([
        '--rows', *rows, '--size', str(args.size), '--clips',
        str(args.batch_size), '--threads', '1'
    ])


def training_memory(args: argparse.Namespace, row: str) -> float:
    """MiB per clip. For a fresh process."""
    return benchmark.memory_per_clip(row, 'training', benchmark_options(args))


def measured_costs(args: argparse.Namespace) -> Tuple[Path, Dict[str, dict]]:
    """A file, and what was measured so far, by the benchmark's row."""
    file = args.out / f'costs_{args.batch_size}_{args.size}.json'
    return file, json.loads(file.read_text()) if file.exists() else {}


def measure_costs(args: argparse.Namespace) -> None:
    """Measure what training costs, and add it to what is known."""
    options = benchmark_options(args)
    file, costs = measured_costs(args)
    for row in options.rows:
        costs.setdefault(row, {})
    if 'time' in args.measure_cost:
        for row, speeds in benchmark.measure_speeds(options).items():
            costs[row]['seconds'] = [1 / speed for speed in speeds['training']]
    if 'memory' in args.measure_cost:
        for row in options.rows:
            costs[row]['memory'] = in_fresh_process(training_memory, args, row)
    file.write_text(json.dumps(costs, indent=2))


def accuracies(runs: List[dict], finished: List[dict]) -> Dict[tuple, list]:
    """By model and frames, the accuracies of the seeds that are whole.

    Raises:
        ValueError: If no seed has all its runs.
    """
    missing = [run for run in runs if not find(run, finished)]
    for run in missing:
        print('Not done yet, so that its seed is left out: '
              f'{run["model"]}, {run["frames"]} frames, seed {run["seed"]}')
    left_out = {run['seed'] for run in missing}
    result = {}
    for run in runs:
        if run['seed'] not in left_out:
            result.setdefault((run['model'], run['frames']), []).append(
                find(run, finished)['accuracy'])
    if not result:
        raise ValueError(
            'no seed has all its runs, so that there is nothing to compare; '
            'run the same command without --report-only')
    return result


def comparison_table(of_models: Dict[tuple, list],
                     costs: Dict[tuple, dict]) -> str:
    """The models with accuracy and costs as a Markdown table."""
    lines = []
    for (key, frames), values in of_models.items():
        cost = costs[key, frames]
        seconds = [1e3 * value for value in cost.get('seconds', [])]
        lines.append([
            COMPARISON[key].name, str(frames), spread(values, '.1f', mean),
            f'{cost["macs"] / 1e6:.0f}', f'{cost["parameters"] / 1e6:.2f}',
            f'{cost["memory"]:.1f}' if 'memory' in cost else 'not measured',
            spread(seconds, '.0f') if seconds else 'not measured'])
    return table(['model', 'frames', 'top-1, %', 'MMACs', 'parameters, M',
                  'training, MiB/clip', 'training, ms/clip'], lines)


def initialization_table(of_models: Dict[tuple, list]) -> str:
    """How the weights started as a Markdown table."""
    return table(
        ['the network starts', 'its TAMs start', 'top-1, %', 'of each seed'],
        [['from the image task' if ALL[key].image_weights else 'from scratch',
          'as identity' if ALL[key].hook else 'as published',
          spread(values, '.1f', mean),
          ', '.join(f'{value:.1f}' for value in values)]
         for (key, _), values in of_models.items()])


def plot(of_models: Dict[tuple, list], costs: Dict[tuple, dict],
         file: Path) -> None:
    """Draw accuracy over each cost that is known, by model and frames."""
    titles = dict(macs='MMACs per clip',
                  memory='training memory, MiB per clip',
                  seconds='training time, ms per clip')
    values = dict(macs=lambda macs: macs / 1e6, memory=float,
                  seconds=lambda seconds: 1e3 * seconds[0])
    known = [cost for cost in titles
             if all(cost in costs[row] for row in of_models)]
    figure = Figure((4.5 * len(known), 4.5), layout='constrained')
    axes = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for axis, cost in zip(axes, known):
        for key in dict.fromkeys(key for key, _ in of_models):
            rows = [row for row in of_models if row[0] == key]
            middle = [mean(of_models[row]) for row in rows]
            below = [m - min(of_models[row]) for m, row in zip(middle, rows)]
            above = [max(of_models[row]) - m for m, row in zip(middle, rows)]
            axis.errorbar([values[cost](costs[row][cost]) for row in rows],
                          middle, (below, above), marker='o', capsize=3,
                          label=COMPARISON[key].name)
        axis.axhline(100 / len(motion.CLASSES), color='grey', linestyle=':')
        axis.set_xlim(left=0)
        axis.set_xlabel(titles[cost])
    axes[0].set(ylim=(0, 100), ylabel='top-1 accuracy, %')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='lower center',
                  bbox_to_anchor=(0.5, 1), ncols=3)
    figure.savefig(file, dpi=100, bbox_inches='tight')


def report(args: argparse.Namespace) -> str:
    """The tables of clips; writes the plot."""
    finished, runs = finished_runs(args), runs_asked_for(args)
    compared = [run for run in runs if run['model'] in COMPARISON]
    tables = []
    if compared:
        options = benchmark_options(args)
        _, measured = measured_costs(args)
        costs = {
            (row.rsplit('_', 1)[0], benchmark.ROWS[row].num_frames):
            dict(benchmark.measure_size(row, options), **measured.get(row, {}))
            for row in options.rows
        }
        of_models = accuracies(compared, finished)
        tables.append(comparison_table(of_models, costs))
        plot(of_models, costs, args.out / 'study.png')
    if set(args.models) & set(INITIALIZATION):
        started = [run for run in runs if run['frames'] == args.frames[0]
                   and run['model'] in ('tam_r3', *INITIALIZATION)]
        tables.append(initialization_table(accuracies(started, finished)))
    return '\n'.join(tables)


def report_streams(args: argparse.Namespace) -> str:
    """The table of streams, of what there is; writes the plot."""
    runs, finished = {}, finished_runs(args)
    # Model after model, not seed after seed.
    for run in sorted(runs_asked_for(args),
                      key=lambda run: args.models.index(run['model'])):
        if line := find(run, finished):
            runs.setdefault(STREAMS[run['model']].name, []).append(line)
    if not runs:
        raise ValueError('no run is done; run the same command without '
                         '--report-only')
    frames = args.frames[0]
    macs = benchmark.count_macs(
        build_backbone(COMPARISON['tam_r3'], frames),
        torch.zeros(frames, 3, args.size, args.size))
    return study_streams.report(runs, macs, args.out / 'streaming.png')


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--streams', action='store_true',
                        help='compare windows and streams on long videos')
    parser.add_argument('--models', nargs='+', metavar='MODEL',
                        choices=[*ALL, *STREAMS],
                        help=f'of {", ".join(ALL)}; with --streams of '
                        f'{", ".join(STREAMS)}; all by default')
    parser.add_argument('--frames', nargs='+', type=int)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=int)
    parser.add_argument('--batch-size', type=int)
    parser.add_argument('--size', type=int, help='in pixels')
    parser.add_argument('--images', type=int, default=3200,
                        help='images of the task that gives image weights')
    parser.add_argument('--videos', type=int, default=20,
                        help='long ones with cuts, and as many without')
    parser.add_argument('--data', type=Path, default=Path('data/motion'))
    parser.add_argument('--out', type=Path)
    parser.add_argument('--report-only', action='store_true',
                        help='train nothing')
    parser.add_argument('--measure-cost', nargs='*',
                        choices=['time', 'memory'],
                        help='measure what training costs instead')
    streams = parser.parse_known_args(argv)[0].streams
    parser.set_defaults(**(STREAM_DEFAULTS if streams else DEFAULTS))
    args = parser.parse_args(argv)
    args.all_models = STREAMS if streams else ALL
    for model in set(args.models) - set(args.all_models):
        parser.error(f'--models: {model} is compared '
                     + ('without' if streams else 'with') + ' --streams')
    if streams and (args.frames != STREAM_DEFAULTS['frames']
                    or args.measure_cost is not None):
        parser.error('--streams takes no --frames and no --measure-cost')
    return args


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    set_up(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.measure_cost is not None:
        args.measure_cost = args.measure_cost or ['time', 'memory']
        measure_costs(args)
        return
    try:
        if not args.report_only:
            train_missing(args)
        text = report_streams(args) if args.streams else report(args)
    except ValueError as error:
        sys.exit(f'study.py: {error}')
    name = 'streaming.md' if args.streams else 'study.md'
    (args.out / name).write_text(text, 'utf-8')
    print(text)


if __name__ == '__main__':
    main(sys.argv[1:])
