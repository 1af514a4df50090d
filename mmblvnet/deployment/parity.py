"""Whether exported files have the scores of the model."""

from pathlib import Path
from typing import Callable, Sequence, Union
from unittest.mock import patch

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.apis import StreamingRecognizer

from .exportable import example_frames, free_dimensions, preprocessed

TOLERANCE = 1e-4
# Of untrained networks, OpenVINO's bfloat16 is up to 3 times as far from
# float32 as PyTorch's own, or far less; trained ones may hardly differ.
BFLOAT16_MARGIN, BFLOAT16_FLOOR = 5, 0.02


def reference_scores(model: nn.Module, frames: Tensor) -> Tensor:
    """The scores of videos, as the pipeline gives them, in MMAction2's test."""
    samples = [ActionDataSample() for _ in frames]
    with torch.no_grad():
        samples = model.test_step(dict(inputs=list(frames), data_samples=samples))
    return torch.stack([sample.pred_score for sample in samples]).cpu()


def check_repeatable(model: nn.Module, frames: Tensor) -> None:
    """Refuse a model that draws at random in a test, as ``TRNHead`` does."""
    # Raw scores differ where a softmax may hide it.
    with patch.object(model.cls_head, 'average_clips', None):
        first, second = (reference_scores(model, frames) for _ in range(2))
    if (first - second).abs().max() > TOLERANCE * first.abs().max():
        problem = 'gives a video other scores each time, of which a file would keep one draw: it cannot be exported'
        raise ValueError(f'{type(model.cls_head).__name__} {problem}')


def check_parity(
    run: Callable[[Tensor], Tensor],
    model: nn.Module,
    shape: Sequence[int],
    with_preprocessing: bool,
    precision: str = 'float32',
) -> float:
    """Compare an exported file with the model that it was made of.

    One, two and three videos go through both, the two with two views each
    where the file takes any number.

    Args:
        run (Callable): Runs the file, from frames to scores.
        model (nn.Module): The recognizer.
        shape (Sequence[int]): The shape of a view, ``(T, C, H, W)``.
        with_preprocessing (bool): Whether the file normalises the frames.
        precision (str): In which the file computes: scores may be 1e-4 apart,
            absolutely and relatively, and in ``'bfloat16'`` by a multiple of
            what PyTorch's own rounds. Defaults to ``'float32'``.

    Returns:
        float: The largest difference; a ValueError tells if it is larger.
    """
    model.eval()
    several = 2 if 1 in free_dimensions(model) else 1
    differences = []
    for num_videos, num_views in ((1, 1), (2, several), (3, 1)):
        frames = example_frames(shape, num_videos, num_views)
        taken = preprocessed(model.data_preprocessor, frames, with_preprocessing)
        expected, tolerance = reference_scores(model, frames), TOLERANCE
        if precision == 'bfloat16':
            with torch.autocast('cpu', torch.bfloat16):
                rounded = reference_scores(model, frames)
            tolerance = BFLOAT16_MARGIN * (rounded - expected).abs().max().item() + BFLOAT16_FLOOR
        differences.append(_difference(run(taken), expected, tolerance))
    return max(differences)


def check_stream_parity(
    path: Union[str, Path], model: nn.Module, shape: Sequence[int], with_preprocessing: bool, num_frames: int = 48
) -> float:
    """:func:`check_parity` for the ONNX file of a step, along a video.

    The shape is that of a frame, ``(C, H, W)``, and their number even.
    """
    from onnxruntime import InferenceSession

    recognizer = StreamingRecognizer(model)
    group, delay = recognizer.group, recognizer.delay
    frames = example_frames((1, *shape), num_frames, 1)
    predictions = recognizer.push(frames.flatten(0, 1)) + recognizer.close()
    frames = preprocessed(model.data_preprocessor, frames, with_preprocessing).flatten(0, 1).numpy()
    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    states = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name.startswith('state.')}
    scores = []
    for pair in range(num_frames // group + delay):
        # What follows the end does not matter.
        start = min(pair * group, num_frames - group)
        numbers = dict(pair=np.array([pair]), num_frames=np.array([num_frames]))
        of_pair, *new = session.run(None, dict(states, frames=frames[start : start + group], **numbers))
        scores.append(torch.from_numpy(of_pair[0]))
        states = dict(zip(states, new))
    return _difference(torch.stack(scores[delay:]), torch.stack([p.scores for p in predictions]), TOLERANCE)


def _difference(scores: Tensor, expected: Tensor, tolerance: float) -> float:
    """The largest difference, or a ValueError if it is too large."""
    difference = (scores - expected).abs().max().item()
    if not torch.allclose(scores, expected, atol=tolerance, rtol=tolerance):
        raise ValueError(f'The exported file does not agree with the model: scores differ by {difference:.2g}')
    return difference
