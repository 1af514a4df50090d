from torch import Tensor, nn


def check_frames(backbone: nn.Module, frames: Tensor) -> None:
    """Refuse what is no batch of whole clips for a backbone.

    Args:
        backbone (nn.Module): A backbone with ``in_channels`` and
            ``num_segments`` frames a clip.
        frames (Tensor): Its input, ``(N * num_segments, in_channels, H, W)``.

    Raises:
        ValueError: If it has another shape, no pixels, or no whole clips,
            which would mix videos.
    """
    if frames.dim() != 4 or frames.size(1) != backbone.in_channels or (
            0 in frames.shape[2:]):
        raise ValueError(
            f'{tuple(frames.shape)} are no frames (N * num_segments, '
            f'{backbone.in_channels}, H, W) for {type(backbone).__name__}: '
            'set its in_channels, and format the frames with '
            "FormatShape(input_format='NCHW')")
    if frames.size(0) % backbone.num_segments:
        raise ValueError(
            f'{frames.size(0)} frames are no whole clips of num_segments = '
            f'{backbone.num_segments} frames: give '
            f'{type(backbone).__name__} the frames per clip of the sampler '
            'in the pipeline as num_segments')
