"""Whether a checkpoint belongs to a model."""
from typing import Dict, List

from torch import Tensor

from mmblvnet.checkpoints.safe_loading import data_only

MAX_PROBLEMS = 20


def weights_in(checkpoint: dict) -> Dict[str, Tensor]:
    """The weights in a checkpoint without the prefix of data parallelism.

    Args:
        checkpoint (dict): What the file holds: a state dict, or a dict that
            has one as ``state_dict``.

    Returns:
        dict: The state dict.

    Raises:
        ValueError: If there is none.
    """
    weights = data_only(checkpoint.get('state_dict', checkpoint))
    return {k.removeprefix('module.'): v for k, v in weights.items()}


def mismatches(wanted: Dict[str, Tensor],
               weights: Dict[str, Tensor]) -> Dict[str, str]:
    """What keeps weights from being those of a model.

    Args:
        wanted (dict): The model's state dict.
        weights (dict): The state dict in question.

    Returns:
        dict: What is wrong with each weight that something is wrong with.
    """
    problems = {
        name: 'is missing' for name in wanted
        # Files of old versions do not count batches.
        if name not in weights and not name.endswith('num_batches_tracked')
    }
    for name, value in weights.items():
        if name not in wanted:
            problems[name] = 'is left over'
        elif value.shape != wanted[name].shape:
            problems[name] = (f'is {tuple(value.shape)} instead of '
                              f'{tuple(wanted[name].shape)}')
        elif not value.isfinite().all():
            problems[name] = 'has values that are not finite'
    return problems


def report(problems: Dict[str, str]) -> str:
    """A line for each problem, of which a long list is shortened.

    Args:
        problems (dict): What is wrong with which weight.

    Returns:
        str: The lines.
    """
    lines = [f'{name} {problem}' for name, problem in problems.items()]
    return shortened(lines)


def shortened(lines: List[str]) -> str:
    """Lines as a text, of which a long list is shortened.

    Args:
        lines (list[str]): The lines.

    Returns:
        str: The text.
    """
    more = len(lines) - MAX_PROBLEMS
    if more > 0:
        lines = [*lines[:MAX_PROBLEMS], f'and {more} more']
    return '\n'.join(lines)
