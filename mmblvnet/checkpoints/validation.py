"""Whether a checkpoint belongs to a model."""

import math
from typing import Dict

import torch
from torch import Tensor, nn

MAX_PROBLEMS = 20


def weights_in(checkpoint: dict) -> Dict[str, Tensor]:
    """The weights in a checkpoint without the prefix of data parallelism.

    It is a state dict, or has one as ``state_dict``; the tensors are detached.

    Raises:
        ValueError: If there is none, or a tensor has fewer values than its
            shape says.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(isinstance(name, str) and type(value) in (Tensor, nn.Parameter) for name, value in weights.items())
    ):
        raise ValueError("it holds no state dict, neither by itself nor as 'state_dict'")
    # An attribute of a tensor could stand in for any of its methods.
    weights = {name: Tensor.detach(value) for name, value in weights.items()}
    for name, value in weights.items():
        # Only then is the memory for work on it bounded by the file's size.
        is_dense = value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)
        if not is_dense or math.prod(value.shape) * value.itemsize > value.untyped_storage().nbytes():
            raise ValueError(f'{name!r:.99} has not all the values that its shape says')
    if all(name.startswith('module.') for name in weights):
        weights = {k.removeprefix('module.'): v for k, v in weights.items()}
    return weights


def mismatches(wanted: Dict[str, Tensor], weights: Dict[str, Tensor]) -> Dict[str, str]:
    """What is wrong with weights that are not those of a model, by name."""
    problems = {
        name: 'is missing'
        for name in wanted
        # Files of old versions do not count batches.
        if name not in weights and not name.endswith('num_batches_tracked')
    }
    for name, value in weights.items():
        if name not in wanted:
            problems[name] = 'is left over'
        elif value.shape != wanted[name].shape:
            problems[name] = f'is {tuple(value.shape)} instead of {tuple(wanted[name].shape)}'
        elif _kind(value) != _kind(wanted[name]):
            problems[name] = f'is of {value.dtype}, not {wanted[name].dtype}'
        elif not value.isfinite().all():
            problems[name] = 'has values that are not finite'
    return problems


def _kind(value: Tensor) -> str:
    """What a tensor is made of; PyTorch turns one size into another."""
    if value.is_complex() or value.is_floating_point() and value.itemsize < 2:
        return str(value.dtype)
    return 'float' if value.is_floating_point() else 'int'


def report(problems: Dict[str, str]) -> str:
    """A line for each problem, of which a long list is shortened."""
    lines = [f'{name:.99} {problem}' for name, problem in problems.items()]
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f'and {len(lines) - MAX_PROBLEMS} more']
    return '\n'.join(lines)
