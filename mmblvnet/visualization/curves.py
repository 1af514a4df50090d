"""Curves of training runs, from the logs that MMEngine writes.

MMAction2's own tool cannot read these
(https://github.com/open-mmlab/mmaction2/issues/2612).
"""

import json
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple, Union

from matplotlib import rc_context
from matplotlib.figure import Figure

from .style import STYLE


class Curves(NamedTuple):
    """The training loss and the validation metric of a run, as pairs of iteration and value."""

    loss: List[Tuple[int, float]]
    metric: List[Tuple[int, float]]


def read_curves(work_dir: Union[str, Path], metric: str) -> Curves:
    """Read the logs of a training run, and of the runs that resumed it.

    Of an iteration that was repeated, the last value counts. ``metric`` is a
    name in the logs of the validations, such as ``'acc/top1'``.

    Raises:
        ValueError: If there is no log of a training, or only other metrics.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise ValueError(f'{work_dir} has no */vis_data/scalars.json: give the work_dir of a training run')
    loss, values, known = {}, {}, set()
    for log in logs:
        iteration = 0
        for row in map(json.loads, log.read_text().splitlines()):
            if 'loss' in row:
                iteration = row['iter']
                loss[iteration] = row['loss']
            elif iteration and metric in row:
                # Validations log no iteration. A test follows no loss: skipped.
                values[iteration] = row[metric]
            elif iteration:
                known.update(row)
    if not loss:
        raise ValueError(f'the logs of {work_dir} have no loss: nothing was trained there')
    if known and not values:
        raise ValueError(f'the validations of {work_dir} log no {metric}, only {", ".join(sorted(known))}')
    return Curves(sorted(loss.items()), sorted(values.items()))


@rc_context(STYLE)
def draw_curves(runs: Sequence[Curves], names: Sequence[str], metric: str, out: Union[str, Path]) -> None:
    """Draw the loss and the metric of training runs, side by side, into the file ``out``."""
    figure = Figure(figsize=(10, 3.6))
    left, right = figure.subplots(1, 2)
    for run, name in zip(runs, names):
        left.plot(*zip(*run.loss), label=name, linewidth=1)
        if run.metric:
            right.plot(*zip(*run.metric), marker='o', markersize=4)
    for axes, title in ((left, 'loss in training'), (right, f'{metric} in validation')):
        axes.set(title=title, xlabel='iteration')
        axes.grid(alpha=0.3)
    right.set_xlim(left.get_xlim())
    left.legend()
    figure.savefig(out)
