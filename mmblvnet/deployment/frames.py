"""The frames that a model takes, as its config's pipeline gives them."""

from typing import Dict, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from mmblvnet.datasets.pipelines import example_of, frames_per_view

LARGEST = 2**20


def free_dimensions(model: nn.Module) -> Dict[int, Dim]:
    """The dimensions of a file's input that may differ from call to call.

    They are the number of videos, and that of their frames: whole views where
    the model has such. MMAction2's backbones of clips (TSM, TANet) take one
    view: PyTorch's exporter does not come to an end with the two numbers in
    their reshapes.
    """
    free = {0: Dim('batch', max=LARGEST)}
    num_segments = frames_per_view(model)
    if num_segments is None:
        free[1] = Dim('frames', max=LARGEST)
    elif not (hasattr(model.backbone, 'num_segments') and type(model.backbone).__module__.startswith('mmaction.')):
        free[1] = num_segments * Dim('views', max=LARGEST)
    return free


def frames_shape(model: nn.Module, size: Optional[Sequence[int]] = None) -> Tuple[int, ...]:
    """The shape of a view as validation prepares it.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        size (Sequence[int], optional): Height and width in the place of the
            pipeline's. Defaults to None.

    Returns:
        tuple[int]: ``(T, C, H, W)``. ``T`` is what the model relates to each
        other, or, where it takes any number, what validation samples.

    Raises:
        ValueError: If the pipeline does not give such frames.
    """
    example = example_of(model, 'val')
    shape = example.inputs.shape
    if len(shape) != 4:
        raise ValueError(
            'Only a Recognizer2D can be exported: the val pipeline of '
            f'{model.cfg.filename} gives {tuple(shape)}, not (frames, C, H, '
            'W)'
        )
    return (example.num_frames, shape[1], *(size or shape[2:]))


def example_frames(shape: Sequence[int], num_videos: int, num_views: int) -> Tensor:
    """Frames of random patches, as the pipeline gives them.

    In fine noise a network sees the same in every frame. From the shape of a
    view, ``(T, C, H, W)``, it makes ``(num_videos, num_views * T, C, H, W)``,
    whole numbers from 0 to 255.
    """
    num_frames, channels, height, width = shape
    patches = torch.randint(0, 256, (num_videos * num_views * num_frames, channels, 3, 3))
    frames = F.interpolate(patches.float(), (height, width))
    return frames.to(torch.uint8).unflatten(0, (num_videos, -1))
