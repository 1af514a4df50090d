"""Checkpoints in the key formats that were published with the paper."""

from typing import Optional, Tuple

from torch import Tensor

from mmblvnet.checkpoints.validation import weights_in
from mmblvnet.conversion.key_formats import KEY_FORMATS, StateDict, check_weights, key_format_of


def convert_published(content: dict, flow_channels: Optional[int] = None) -> Tuple[StateDict, dict]:
    """Turn published weights into those of this package's models.

    Args:
        content (dict): What a published file or one of its training script
            holds.
        flow_channels (int, optional): Channels of optical flow that the
            network of an RGB file is to take instead. Defaults to None.

    Returns:
        tuple: The weights, named as in a recognizer for video networks, and
        as in a backbone and a ``classifier`` for image networks; and what
        was found: the name of the ``key_format``, the backbone's config and
        ``num_classes``.

    Raises:
        ValueError: If the format is not known, or a weight is missing, left
            over, of another shape or not finite, with the reason.
    """
    weights = weights_in(content)
    key_format = key_format_of(weights, published=True)
    config, ours = key_format.network_of(weights)
    names = {key_format.published_name(name): name for name in ours}
    check_weights(weights, {k: ours[name] for k, name in names.items()}, key_format.name)
    if flow_channels is not None:
        first = f'{key_format.backbone}conv1.weight'
        weights[first] = for_flow(weights[first], flow_channels)
        config['in_channels'] = flow_channels
    converted = {names[name]: value for name, value in weights.items()}
    return converted, dict(key_format=key_format.name, **config)


def to_published(weights: StateDict, key_format_name: Optional[str] = None) -> Tuple[dict, dict]:
    """Turn weights of this package's models into a published file.

    Args:
        weights (dict): Weights, named as :func:`convert_published` names
            them.
        key_format_name (str, optional): The format they came from. Defaults
            to None, which takes the format with dropout of the two that
            differ in nothing else.

    Returns:
        tuple[dict]: What the published file holds, and what was found.

    Raises:
        ValueError: If they are none of a published model's, with the reason.
    """
    weights = weights_in(weights)
    key_format = key_format_of(weights, published=False)
    for other in KEY_FORMATS:
        if (other.name, other.network) == (key_format_name, key_format.network):
            key_format = other
    published = {key_format.published_name(k): v for k, v in weights.items()}
    config, ours = key_format.network_of(published)
    check_weights(weights, ours, key_format.name)
    content = {key_format.wrapper + k: v for k, v in published.items()}
    if key_format.nested:
        content = dict(state_dict=content)
    return content, dict(key_format=key_format.name, **config)


def for_flow(weight: Tensor, channels: int) -> Tensor:
    """The mean over RGB of a convolution ``(C, 3, H, W)``, per channel."""
    if weight.size(1) != 3:
        raise ValueError(f'its first convolution takes {weight.size(1)} channels instead of the 3 of RGB')
    if channels < 1:
        raise ValueError(f'{channels} channels of flow are less than 1')
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1)
