from typing import Callable, Sequence
from unittest.mock import patch

import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from .frames import example_frames, free_dimensions

TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 0.05


def reference_scores(model: nn.Module, frames: Tensor) -> Tensor:
    """The scores of videos by MMAction2's own way through a test.

    Args:
        model (nn.Module): A recognizer.
        frames (Tensor): Videos as the pipeline gives them.

    Returns:
        Tensor: The scores of each video.
    """
    samples = [ActionDataSample() for _ in frames]
    with torch.no_grad():
        samples = model.test_step(
            dict(inputs=list(frames), data_samples=samples))
    return torch.stack([sample.pred_score for sample in samples]).cpu()


def normalised(preprocessor: nn.Module, frames: Tensor) -> Tensor:
    """Videos as they leave the ``data_preprocessor``.

    Args:
        preprocessor (nn.Module): The ``data_preprocessor`` of a recognizer.
        frames (Tensor): Videos as the pipeline gives them.

    Returns:
        Tensor: The same, normalised.
    """
    data = dict(inputs=list(frames), data_samples=[])
    return preprocessor(data)['inputs'].cpu()


def check_repeatable(model: nn.Module, frames: Tensor) -> None:
    """Refuse a model that draws at random in a test, as ``TRNHead`` does.

    Args:
        model (nn.Module): A recognizer.
        frames (Tensor): Videos as the pipeline gives them.

    Raises:
        ValueError: If its scores are others each time.
    """
    # Raw scores differ where a softmax may hide it.
    with patch.object(model.cls_head, 'average_clips', None):
        first, second = (reference_scores(model, frames) for _ in range(2))
    if (first - second).abs().max() > TOLERANCE * first.abs().max():
        raise ValueError(
            f'{type(model.cls_head).__name__} gives a video other scores each '
            'time, of which a file would keep one draw: it cannot be exported')


def check_parity(run: Callable[[Tensor], Tensor],
                    model: nn.Module,
                    shape: Sequence[int],
                    with_preprocessing: bool,
                    tolerance: float = TOLERANCE) -> float:
    """Compare an exported file with the model that it was made of.

    One, two and three videos go through both, the two with two views each
    where the file takes any number.

    Args:
        run (Callable): Runs the file, from frames to scores.
        model (nn.Module): The recognizer.
        shape (Sequence[int]): The shape of a video with one view.
        with_preprocessing (bool): Whether the file normalises the frames.
        tolerance (float): How far scores may be apart, absolutely and
            relatively. Defaults to 1e-4.

    Returns:
        float: The largest difference of two scores.

    Raises:
        ValueError: If one is greater.
    """
    model = model.eval()
    worst = 0.
    several = 2 if 1 in free_dimensions(model) else 1
    for num_videos, num_views in ((1, 1), (2, several), (3, 1)):
        frames = example_frames(shape, num_videos, num_views)
        expected = reference_scores(model, frames)
        given = frames if with_preprocessing else normalised(
            model.data_preprocessor, frames)
        scores = run(given)
        difference = (scores - expected).abs().max().item()
        worst = max(worst, difference)
        if not torch.allclose(
                scores, expected, atol=tolerance, rtol=tolerance):
            raise ValueError(
                f'The exported file does not agree with the model: scores of '
                f'{num_videos} videos differ by {difference:.2g}')
    return worst
