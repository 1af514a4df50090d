"""The frames that a model takes, as its config's pipeline gives them."""
from typing import Dict, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from mmblvnet.datasets.pipelines import example_of, frames_per_view
from mmblvnet.models.heads.probabilities import activation_of

LARGEST = 2**20


def free_dimensions(model: nn.Module) -> Dict[int, Dim]:
    """What of a file's input may differ from call to call.

    Args:
        model (nn.Module): A ``Recognizer2D``.

    Returns:
        dict: By its index in the input, the number of videos, and that of
        their frames: whole views where the model has such. MMAction2's
        backbones of clips (TSM, TANet) take one view: PyTorch's exporter
        does not come to an end with the two numbers in their reshapes.
    """
    free = {0: Dim('batch', max=LARGEST)}
    num_segments = frames_per_view(model)
    if num_segments is None:
        free[1] = Dim('frames', max=LARGEST)
    elif not (hasattr(model.backbone, 'num_segments')
              and type(model.backbone).__module__.startswith('mmaction.')):
        free[1] = num_segments * Dim('views', max=LARGEST)
    return free


def frames_shape(model: nn.Module,
                 size: Optional[Sequence[int]] = None) -> Tuple[int, ...]:
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
            'W)')
    return (example.num_frames, shape[1], *(size or shape[2:]))


def example_frames(shape: Sequence[int], num_videos: int,
                   num_views: int) -> Tensor:
    """Frames of random patches.

    In fine noise a network sees the same in every frame.

    Args:
        shape (Sequence[int]): The shape of a video with one view.
        num_videos (int): Videos.
        num_views (int): Views of each.

    Returns:
        Tensor: Frames as the pipeline gives them, in whole numbers from 0 to
        255.
    """
    num_frames, channels, height, width = shape
    patches = torch.randint(
        0, 256, (num_videos * num_views * num_frames, channels, 3, 3))
    frames = F.interpolate(patches.float(), (height, width))
    return frames.to(torch.uint8).unflatten(0, (num_videos, -1))


def describe_frames(model: nn.Module, shape: Sequence[int],
                    with_preprocessing: bool) -> Dict[str, str]:
    """What someone has to know who is to feed an exported file.

    Args:
        model (nn.Module): The recognizer.
        shape (Sequence[int]): The shape of a video with one view.
        with_preprocessing (bool): Whether the file normalises the frames.

    Returns:
        dict: By name, what is to be known, in text.
    """
    average_clips = model.cls_head.average_clips
    preprocessor = model.data_preprocessor
    num_frames, channels, height, width = shape
    order = 'RGB' if channels == 3 else 'x and y of the flow in turn'
    if preprocessor.to_rgb:
        order = 'BGR'
    about = dict(
        layout='NTCHW',
        channels=order,
        frames_per_view=str(num_frames),
        views='any' if 1 in free_dimensions(model) else '1',
        height=str(height),
        width=str(width),
        output='probabilities' if average_clips == 'prob' else 'scores',
        activation=activation_of(model.cls_head),
        preprocessing='included' if with_preprocessing else 'normalise first')
    if not with_preprocessing:
        for name in ('mean', 'std'):
            value = getattr(preprocessor, name, None)
            if value is not None:
                about[name] = str(value.flatten().tolist())
    return about
