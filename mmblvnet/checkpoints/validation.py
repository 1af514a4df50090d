"""Checks that the weights of a checkpoint fit a model."""

import math
from typing import Dict

import torch
from torch import Tensor, nn

MAX_PROBLEMS = 20


def weights_in(checkpoint: dict) -> Dict[str, Tensor]:
    """Return a checkpoint's weights, detached and without data parallelism's prefix ``module.``.

    The checkpoint is a state dict, or holds one as ``state_dict``.

    Raises:
        ValueError: If there is no state dict, or a tensor is not dense or has
            fewer values than its shape says.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(isinstance(name, str) and type(value) in (Tensor, nn.Parameter) for name, value in weights.items())
    ):
        raise ValueError("it holds no state dict, neither by itself nor as 'state_dict'")
    # Not value.detach(): an attribute from the file could shadow the method.
    weights = {name: Tensor.detach(value) for name, value in weights.items()}
    for name, value in weights.items():
        # Otherwise computing on a tensor could take far more memory than the file.
        is_dense = value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)
        if not is_dense or math.prod(value.shape) * value.itemsize > value.untyped_storage().nbytes():
            raise ValueError(f'{name!r:.99} has fewer values than its shape needs, or is not a dense tensor')
    if all(name.startswith('module.') for name in weights):
        weights = {k.removeprefix('module.'): v for k, v in weights.items()}
    return weights


def mismatches(wanted: Dict[str, Tensor], weights: Dict[str, Tensor]) -> Dict[str, str]:
    """Return what is wrong with ``weights`` for a model that has the weights ``wanted``, by name."""
    problems = {
        name: 'is missing'
        for name in wanted
        # Old versions of PyTorch did not save this buffer.
        if name not in weights and not name.endswith('num_batches_tracked')
    }
    for name, value in weights.items():
        if name not in wanted:
            problems[name] = 'is unexpected'
        elif value.shape != wanted[name].shape:
            problems[name] = f'has shape {tuple(value.shape)} instead of {tuple(wanted[name].shape)}'
        elif _kind(value) != _kind(wanted[name]):
            problems[name] = f'has dtype {value.dtype} instead of {wanted[name].dtype}'
        elif not value.isfinite().all():
            problems[name] = 'has values that are not finite'
    return problems


def _kind(value: Tensor) -> str:
    """Return 'float' or 'int', within which load_state_dict may convert, or else the dtype."""
    if value.is_complex() or value.is_floating_point() and value.itemsize < 2:
        return str(value.dtype)
    return 'float' if value.is_floating_point() else 'int'


def report(problems: Dict[str, str]) -> str:
    """Return the problems, one per line: at most MAX_PROBLEMS, then the number of others."""
    lines = [f'{name:.99} {problem}' for name, problem in problems.items()]
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f'and {len(lines) - MAX_PROBLEMS} more']
    return '\n'.join(lines)
