"""The paper's claim in miniature: one budget, several models, one table.

Trains every model with the same data, steps, schedule and augmentation on the
embedded data set, whose classes differ by motion alone, and sets the accuracy
against multiply-adds, memory and training time. Every finished run is a line
of OUT/runs.jsonl, and only missing ones are trained, seed after seed, so that
a study that was cut short has whole seeds.

Example:
    python tools/make_motion_dataset.py data/motion
    python tools/study.py
    python tools/study.py --measure-cost
    python tools/study.py --report-only
"""
import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Dict, Iterator, List

import benchmark
import make_motion_dataset as motion
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from study_models import (ALL, COMPARISON, INITIALIZATION, build_backbone,
                          run_of, train_video_model)
from study_report import (accuracies, comparison_table, find,
                          initialization_table, plot)


def runs_asked_for(args: argparse.Namespace) -> Iterator[dict]:
    """All runs of the study, seed after seed.

    Args:
        args (Namespace): The options of the command.

    Yields:
        dict: What a run is known by.
    """
    for seed in args.seeds:
        for key in args.models:
            # How the weights start was compared at the fewest frames alone.
            few = args.frames[:1] if key in INITIALIZATION else args.frames
            for frames in few:
                yield run_of(args, key, frames, seed)


def finished_runs(out: Path) -> List[dict]:
    """The runs that are done.

    Args:
        out (Path): The study's folder.

    Returns:
        list[dict]: Their lines.
    """
    file = out / 'runs.jsonl'
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text('utf-8').splitlines()]


def check_data(data: Path) -> None:
    """Refuse a folder that is not the embedded data set.

    Args:
        data (Path): The folder.

    Raises:
        ValueError: If it has no list of videos.
    """
    if not motion.list_path(data, 'train').exists():
        raise ValueError(f'{data} is not the embedded data set; python '
                         f'tools/make_motion_dataset.py {data} makes it')


def train_missing(args: argparse.Namespace) -> None:
    """Train what is missing.

    Args:
        args (Namespace): The options of the command.
    """
    check_data(args.data)
    for run in runs_asked_for(args):
        # Another process may be at the same study.
        if find(run, finished_runs(args.out)):
            continue
        line = train_video_model(args, run['model'], run['frames'],
                                 run['seed'])
        with open(args.out / 'runs.jsonl', 'a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')
        print(f'{line["model"]}, {line["frames"]} frames, seed '
              f'{line["seed"]}: {line["accuracy"]:.1f} %', flush=True)


def benchmark_options(args: argparse.Namespace) -> argparse.Namespace:
    """Make the study's models known to the benchmark.

    Args:
        args (Namespace): The options of the command.

    Returns:
        Namespace: The benchmark's options, with a row for each model and
        number of frames.
    """
    rows = {
        f'{key}_{frames}': benchmark.Row(
            COMPARISON[key].name,
            lambda t, key=key: build_backbone(key, t),
            num_frames=frames)
        for key in args.models if key in COMPARISON
        for frames in args.frames
    }
    benchmark.ROWS.update(rows)
    return benchmark.parse_args([
        '--rows', *rows, '--size', str(args.size), '--clips',
        str(args.batch_size), '--threads', '1'
    ])


def costs_file(args: argparse.Namespace) -> Path:
    """Where the measured costs of batches of one size are.

    Args:
        args (Namespace): The options of the command.

    Returns:
        Path: The file.
    """
    return args.out / f'costs_{args.batch_size}_{args.size}.json'


def measured_costs(args: argparse.Namespace) -> Dict[str, dict]:
    """What was measured so far.

    Args:
        args (Namespace): The options of the command.

    Returns:
        dict: By the benchmark's row.
    """
    file = costs_file(args)
    return json.loads(file.read_text('utf-8')) if file.exists() else {}


def measure_costs(args: argparse.Namespace, argv: List[str]) -> None:
    """Measure what training costs, and add it to what is known.

    Args:
        args (Namespace): The options of the command.
        argv (list[str]): The same as text.
    """
    options = benchmark_options(args)
    costs = measured_costs(args)
    for row in options.rows:
        costs.setdefault(row, {})
    if 'time' in args.measure_cost:
        for row, speeds in benchmark.measure_speeds(options).items():
            costs[row]['seconds'] = [1 / speed for speed in speeds['training']]
    if 'memory' in args.measure_cost:
        memory = benchmark.measure_memory(options, argv, __file__)
        for row, of_row in memory.items():
            costs[row]['memory'] = of_row['training']
    costs_file(args).write_text(json.dumps(costs, indent=2), 'utf-8')


def all_costs(args: argparse.Namespace) -> Dict[tuple, dict]:
    """What is measured and what is counted: MACs and parameters.

    Args:
        args (Namespace): The options of the command.

    Returns:
        dict: By model and frames.
    """
    options = benchmark_options(args)
    measured = measured_costs(args)
    return {
        (row.rsplit('_', 1)[0], benchmark.ROWS[row].num_frames):
        dict(benchmark.measure_size(row, options), **measured.get(row, {}))
        for row in options.rows
    }


def report(args: argparse.Namespace) -> None:
    """Print the tables and write them and the plot to OUT.

    Args:
        args (Namespace): The options of the command.
    """
    finished = finished_runs(args.out)
    runs = list(runs_asked_for(args))
    compared = [run for run in runs if run['model'] in COMPARISON]
    started = [
        run for run in runs if run['frames'] == args.frames[0]
        and run['model'] in ('tam_r3', *INITIALIZATION)
    ]
    tables = []
    if compared:
        of_models, costs = accuracies(compared, finished), all_costs(args)
        tables.append(comparison_table(of_models, costs))
        plot(of_models, costs, args.out / 'study.png')
    if set(args.models) & set(INITIALIZATION):
        tables.append(initialization_table(accuracies(started, finished)))
    text = '\n'.join(tables)
    (args.out / 'study.md').write_text(text, 'utf-8')
    print(text)


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--models', nargs='+', choices=ALL, default=list(ALL))
    parser.add_argument('--frames', nargs='+', type=int, default=[8, 16])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--size', type=int, default=32, help='in pixels')
    parser.add_argument('--images', type=int, default=3200,
                        help='images of the task that gives image weights')
    parser.add_argument('--data', type=Path, default=Path('data/motion'))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/study'))
    parser.add_argument('--report-only', action='store_true',
                        help='train nothing')
    parser.add_argument('--measure-cost', nargs='*',
                        choices=['time', 'memory'],
                        help='measure what training costs instead')
    # What the command calls itself with in a fresh process.
    parser.add_argument('--memory-of', nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: List[str]) -> None:
    args = parse_args(argv)
    init_default_scope('mmaction')
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    if args.memory_of:
        options = benchmark_options(args)
        print(benchmark.memory_per_clip(*args.memory_of, options))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.measure_cost is not None:
        args.measure_cost = args.measure_cost or ['time', 'memory']
        measure_costs(args, argv)
        return
    try:
        if not args.report_only:
            train_missing(args)
        report(args)
    except ValueError as error:
        sys.exit(f'study.py: {error}')


if __name__ == '__main__':
    main(sys.argv[1:])
