"""Checkpoints in the layouts that were published with the paper."""
from typing import Optional, Tuple

import torch
from torch import Tensor

from mmblvnet.checkpoints.safe_loading import data_only
from mmblvnet.checkpoints.validation import shortened
from mmblvnet.conversion.published_keys import (LAYOUTS, Layout, StateDict,
                                                nearest_layout)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def convert_published(content: dict,
                      flow_channels: Optional[int] = None
                      ) -> Tuple[StateDict, dict]:
    """Turn published weights into those of this package's models.

    Args:
        content (dict): What a published file holds.
        flow_channels (int, optional): Channels of optical flow that the
            network of an RGB file is to take instead. Defaults to None.

    Returns:
        tuple: The weights, named as in a recognizer for video networks, and
        as in a backbone and a ``classifier`` for image networks; and what
        was found: the name of the ``layout``, the backbone's config and
        ``num_classes``.

    Raises:
        ValueError: If the layout is not known, or a weight is missing, left
            over, of another shape or not finite, with the reason.
    """
    weights = published_weights(content)
    layout, config, ours = _recognise(weights, published=True)
    names = {layout.published_name(name): name for name in ours}
    check_weights(weights, {k: ours[name] for k, name in names.items()},
                  layout)
    if flow_channels is not None:
        first = f'{layout.backbone}conv1.weight'
        weights[first] = for_flow(weights[first], flow_channels)
        config['in_channels'] = flow_channels
    converted = {names[name]: value for name, value in weights.items()}
    return converted, dict(layout=layout.name, **config)


def to_published(weights: StateDict,
                 layout_name: Optional[str] = None) -> Tuple[dict, dict]:
    """Turn weights of this package's models into a published file.

    Args:
        weights (dict): Weights, named as :func:`convert_published` names
            them.
        layout_name (str, optional): The layout they came from. Defaults to
            None, which takes the layout with dropout of the two that differ
            in nothing else.

    Returns:
        tuple[dict]: What the published file holds, and what was found.

    Raises:
        ValueError: If they are none of a published model's, with the reason.
    """
    weights = data_only(weights)
    layout, config, ours = _recognise(weights, published=False,
                                      layout_name=layout_name)
    check_weights(weights, ours, layout)
    content = {
        layout.wrapper + layout.published_name(name): value
        for name, value in weights.items()
    }
    if layout.nested:
        content = dict(state_dict=content)
    return content, dict(layout=layout.name, **config)


def published_weights(content: dict) -> StateDict:
    """The weights in a published file or in one of its training script.

    Args:
        content (dict): What the file holds: a state dict, or a dict that has
            one as ``state_dict``.

    Returns:
        dict: The weights without the prefix of data parallelism.

    Raises:
        ValueError: If there are no weights.
    """
    weights = data_only(content.get('state_dict', content))
    if all(name.startswith('module.') for name in weights):
        weights = {k.removeprefix('module.'): v for k, v in weights.items()}
    return weights


def _recognise(weights: StateDict,
               published: bool,
               layout_name: Optional[str] = None
               ) -> Tuple[Layout, dict, StateDict]:
    """The layout of weights, the config and the weights it should have."""
    layout = nearest_layout(weights, published)
    for other in LAYOUTS:
        if other.name == layout_name and other.network == layout.network:
            layout = other
    if not published:
        weights = {layout.published_name(k): v for k, v in weights.items()}
    try:
        config = layout.config_of(weights)
        return layout, config, layout.weights_of(config)
    except ValueError as error:
        raise ValueError(f'the nearest known layout is {layout.name}, but '
                         f'{error}') from error


def check_weights(weights: StateDict, wanted: StateDict,
                  layout: Layout) -> None:
    """Refuse weights that do not fit a network.

    Args:
        weights (dict): The weights.
        wanted (dict): Tensors of the shapes that the network has.
        layout (Layout): The layout they are thought to have.

    Raises:
        ValueError: If a weight is missing, left over, of another shape or
            kind, or not finite, with the names.
    """
    problems = [f'{name} is missing' for name in wanted if name not in weights]
    count = len(problems)
    problems += [f'{name!r:.99} is left over' for name in weights
                 if name not in wanted]
    problems += [
        f'{name} is {_kind(weights[name])} instead of {_kind(wanted[name])}'
        for name in wanted
        if name in weights and _kind(weights[name]) != _kind(wanted[name])
    ]
    if problems:
        raise ValueError(
            f'the nearest known layout is {layout.name}, of which {count} of '
            f'{len(wanted)} weights are missing:\n{shortened(problems)}')
    infinite = [f'{name} has values that are not finite' for name in wanted
                if not weights[name].isfinite().all()]
    if infinite:
        raise ValueError(shortened(infinite))


def _kind(value: Tensor) -> str:
    kind = 'float' if value.dtype in FLOATS else str(value.dtype)
    return f'{tuple(value.shape)} of {kind.removeprefix("torch.")}'


def for_flow(weight: Tensor, channels: int) -> Tensor:
    """Turn the first convolution of an RGB network into one for flow.

    Args:
        weight (Tensor): Its weight, ``(C, 3, H, W)``.
        channels (int): Channels of the flow, 10 for 5 pairs (x, y).

    Returns:
        Tensor: The mean over RGB for each channel, ``(C, channels, H, W)``.

    Raises:
        ValueError: If it takes no RGB, or there are no channels.
    """
    if weight.size(1) != 3:
        raise ValueError(f'its first convolution takes {weight.size(1)} '
                         'channels instead of the 3 of RGB')
    if channels < 1:
        raise ValueError(f'{channels} channels of flow are less than 1')
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1)
