from typing import Callable, Sequence

import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from .frames import example_frames

TOLERANCE = 1e-4
# Videos, views, and by how much height and width grow.
CASES = ((1, 1, 0), (2, 2, 0), (3, 1, 0), (1, 1, 32))


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


def check_agreement(run: Callable[[Tensor], Tensor], model: nn.Module,
                    shape: Sequence[int], with_preprocessing: bool) -> float:
    """Compare an exported file with the model that it was made of.

    One to three videos, one and two views, and a larger picture go through
    both.

    Args:
        run (Callable): Runs the file, from frames to scores.
        model (nn.Module): The recognizer.
        shape (Sequence[int]): The shape of a video with one view.
        with_preprocessing (bool): Whether the file normalises the frames.

    Returns:
        float: The largest difference of two scores.

    Raises:
        ValueError: If one is greater than 1e-4, absolutely and relatively.
    """
    model = model.eval()
    worst = 0.
    for num_videos, num_views, growth in CASES:
        larger = (*shape[:-2], shape[-2] + growth, shape[-1] + growth)
        frames = example_frames(larger, num_videos, num_views)
        expected = reference_scores(model, frames)
        given = frames if with_preprocessing else normalised(
            model.data_preprocessor, frames)
        scores = run(given)
        difference = (scores - expected).abs().max().item()
        worst = max(worst, difference)
        if not torch.allclose(
                scores, expected, atol=TOLERANCE, rtol=TOLERANCE):
            raise ValueError(
                f'The exported file does not agree with the model: scores of '
                f'{num_videos} videos in {num_views} views of '
                f'{larger[-2]}x{larger[-1]} differ by {difference:.2g}')
    return worst
