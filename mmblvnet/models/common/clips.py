from typing import Callable, List, Tuple, Union

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

Maps = Union[Tensor, Tuple[Tensor, ...]]


def check_whole_clips(backbone: nn.Module, frames: Tensor) -> None:
    """Refuse frames that are not whole clips, which would mix videos.

    Args:
        backbone (nn.Module): A backbone with ``num_segments`` frames a clip.
        frames (Tensor): Its input, with the frames in the first dimension.

    Raises:
        ValueError: If the frames are no whole clips.
    """
    if frames.size(0) % backbone.num_segments:
        raise ValueError(
            f'{frames.size(0)} frames are no whole clips of num_segments = '
            f'{backbone.num_segments} frames: give '
            f'{type(backbone).__name__} the frames per clip of the sampler '
            'in the pipeline as num_segments')


def check_frames(backbone: nn.Module, frames: Tensor) -> None:
    """Refuse what is no batch of whole clips for a backbone.

    Args:
        backbone (nn.Module): A backbone with ``in_channels`` and
            ``num_segments`` frames a clip.
        frames (Tensor): Its input, ``(N * num_segments, in_channels, H, W)``.

    Raises:
        ValueError: If it has another shape, or no pixels.
    """
    if frames.dim() != 4 or frames.size(1) != backbone.in_channels or (
            0 in frames.shape[2:]):
        raise ValueError(
            f'{tuple(frames.shape)} are no frames (N * num_segments, '
            f'{backbone.in_channels}, H, W) for {type(backbone).__name__}: '
            'set its in_channels, and format the frames with '
            "FormatShape(input_format='NCHW')")
    check_whole_clips(backbone, frames)


def compute_equal_clips_once(forward: Callable[[Tensor], Maps],
                             frames: Tensor, num_frames: int) -> Maps:
    """Run a network in a test on those clips only that differ.

    Many views of a short video are made of the very same frames.

    Args:
        forward (Callable): From frames to maps, each clip by itself.
        frames (Tensor): Clips of shape ``(N * num_frames, C, H, W)``.
        num_frames (int): Frames per clip.

    Returns:
        Tensor or tuple[Tensor]: The maps of all clips.
    """
    # A graph must not depend on the values in the clips that it is made with.
    fixed = is_compiling() or torch.jit.is_tracing()
    if fixed or torch.is_grad_enabled() or len(frames) <= num_frames:
        return forward(frames)
    # [N, T, C, H, W]
    clips = frames.unflatten(0, (-1, num_frames))
    distinct, number = _distinct(clips)
    if len(distinct) == len(clips):
        return forward(frames)
    maps = forward(clips[distinct].flatten(0, 1))
    if isinstance(maps, tuple):
        return tuple(_repeat_clips(m, number) for m in maps)
    return _repeat_clips(maps, number)


def _distinct(clips: Tensor) -> Tuple[List[int], List[int]]:
    """The first of each set of equal clips, and each clip's set."""
    distinct, number = [], []
    for i, clip in enumerate(clips):
        for k, j in enumerate(distinct):
            if torch.equal(clip, clips[j]):
                number.append(k)
                break
        else:
            number.append(len(distinct))
            distinct.append(i)
    return distinct, number


def _repeat_clips(maps: Tensor, number: List[int]) -> Tensor:
    return maps.unflatten(0, (max(number) + 1, -1))[number].flatten(0, 1)
