"""The tables and the plot of the study."""
from pathlib import Path
from statistics import mean
from typing import Callable, Dict, List, NamedTuple, Optional

import make_motion_dataset as motion
from study_models import ALL, COMPARISON


class Panel(NamedTuple):
    """A panel of the plot.

    Args:
        cost (str): Which cost it shows.
        title (str): What its axis says.
        value (Callable): The number to draw for a cost.
    """
    cost: str
    title: str
    value: Callable


PANELS = (
    Panel('macs', 'MMACs per clip', lambda macs: macs / 1e6),
    Panel('memory', 'training memory, MiB per clip', float),
    Panel('seconds', 'training time, ms per clip', lambda s: 1e3 * s[0]),
)


def find(run: dict, finished: List[dict]) -> Optional[dict]:
    """The line of a run, None if it is still to be done."""
    for line in finished:
        if run.items() <= line.items():
            return line
    return None


def whole_seeds(runs: List[dict], finished: List[dict]) -> List[int]:
    """The seeds of which every run is done.

    Args:
        runs (list[dict]): What the runs are known by.
        finished (list[dict]): The lines of the runs that are done.

    Returns:
        list[int]: The seeds.
    """
    seeds = sorted({run['seed'] for run in runs})
    return [
        seed for seed in seeds
        if all(find(run, finished) for run in runs if run['seed'] == seed)
    ]


def accuracies(runs: List[dict], finished: List[dict]) -> Dict[tuple, list]:
    """The accuracies of the whole seeds.

    Args:
        runs (list[dict]): What the runs are known by.
        finished (list[dict]): The lines of the runs that are done.

    Returns:
        dict: By model and frames, one accuracy per seed.

    Raises:
        ValueError: If no seed is whole.
    """
    seeds = whole_seeds(runs, finished)
    missing = [
        f'{run["model"]}, {run["frames"]} frames, seed {run["seed"]}'
        for run in runs if not find(run, finished)
    ]
    if missing:
        left_out = 'Not done yet, so that its seed is left out: '
        print('\n'.join(left_out + run for run in missing))
    if not seeds:
        raise ValueError(
            'no seed has all its runs, so that there is nothing to compare; '
            'run the same command without --report-only')
    result = {}
    for run in runs:
        if run['seed'] in seeds:
            result.setdefault((run['model'], run['frames']), []).append(
                find(run, finished)['accuracy'])
    return result


def spread(values: List[float]) -> str:
    """The mean, and from the lowest to the highest."""
    return f'{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})'


def comparison_table(of_models: Dict[tuple, list],
                     costs: Dict[tuple, dict]) -> str:
    """The models with accuracy and costs as a Markdown table."""
    lines = [
        '| model | frames | top-1, % | MMACs | parameters, M | '
        'training, MiB/clip | training, ms/clip |', '| --- ' * 7 + '|'
    ]
    for (key, frames), values in of_models.items():
        cost = costs[key, frames]
        seconds = [f'{1e3 * value:.0f}' for value in cost.get('seconds', [])]
        lines.append('| ' + ' | '.join([
            COMPARISON[key].name,
            str(frames),
            spread(values), f'{cost["macs"] / 1e6:.0f}',
            f'{cost["parameters"] / 1e6:.2f}',
            f'{cost["memory"]:.1f}' if 'memory' in cost else 'not measured',
            '{} ({} to {})'.format(seconds[0], seconds[2], seconds[1])
            if seconds else 'not measured'
        ]) + ' |')
    return '\n'.join(lines) + '\n'


def initialization_table(of_models: Dict[tuple, list]) -> str:
    """How the weights started as a Markdown table."""
    lines = [
        '| the network starts | its TAMs start | top-1, % | of each seed |',
        '| --- ' * 4 + '|'
    ]
    for (key, _), values in of_models.items():
        model = ALL[key]
        lines.append('| ' + ' | '.join([
            'from the image task' if model.image_weights else 'from scratch',
            'as identity' if model.identity else 'as published',
            spread(values), ', '.join(f'{value:.1f}' for value in values)
        ]) + ' |')
    return '\n'.join(lines) + '\n'


def plot(of_models: Dict[tuple, list], costs: Dict[tuple, dict],
         file: Path) -> None:
    """Draw accuracy over each cost that is known.

    Args:
        of_models (dict): By model and frames, one accuracy per seed.
        costs (dict): By model and frames.
        file (Path): Where to.
    """
    from matplotlib.figure import Figure
    panels = [
        panel for panel in PANELS
        if all(panel.cost in costs[row] for row in of_models)
    ]
    figure = Figure((4.5 * len(panels), 4.5), layout='constrained')
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, panel in zip(axes, panels):
        for key in dict.fromkeys(key for key, _ in of_models):
            rows = [row for row in of_models if row[0] == key]
            middle = [mean(of_models[row]) for row in rows]
            below = [m - min(of_models[row]) for m, row in zip(middle, rows)]
            above = [max(of_models[row]) - m for m, row in zip(middle, rows)]
            axis.errorbar(
                [panel.value(costs[row][panel.cost]) for row in rows],
                middle, (below, above),
                marker='o', capsize=3, label=COMPARISON[key].name)
        axis.axhline(100 / len(motion.CLASSES), color='grey', linestyle=':')
        axis.set_xlim(left=0)
        axis.set_xlabel(panel.title)
    axes[0].set_ylim(0, 100)
    axes[0].set_ylabel('top-1 accuracy, %')
    handles = axes[0].get_legend_handles_labels()
    figure.legend(
        *handles, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=3)
    figure.savefig(file, dpi=100, bbox_inches='tight')
