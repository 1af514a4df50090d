from torch import Tensor, nn


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
