"""One step of a stream, whose state goes in and comes out."""
from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmblvnet.apis.streaming import ENDLESS, StreamingRecognizer
from mmblvnet.models.common.streaming import StreamStep
from mmblvnet.models.heads.probabilities import activation_of

from .parity import TOLERANCE
from .exportable import check_preprocessor, normalise
from .frames import example_frames


class ExportableStream(nn.Module):
    """A step of a stream, a pair of frames (or one frame) at a time.

    Args:
        model (nn.Module): A ``Recognizer2D``.
        with_preprocessing (bool): Whether it takes the pictures, and
            normalises them itself as the ``data_preprocessor`` does. Defaults
            to False.

    Raises:
        ValueError: If the model cannot run along a stream, or the step not
            normalise as the ``data_preprocessor`` does.
    """

    def __init__(self,
                 model: nn.Module,
                 with_preprocessing: bool = False) -> None:
        super().__init__()
        if with_preprocessing:
            check_preprocessor(model.data_preprocessor)
        self.with_preprocessing = with_preprocessing
        self.recognizer = StreamingRecognizer(model.cpu())
        # A module of this one, so that it is exported.
        self.model = self.recognizer.model.requires_grad_(False)
        for module in self.recognizer.modules.values():
            # Whole pairs come.
            module.lead = 0

    def forward(self, frames: Tensor, pair: Tensor, num_frames: Tensor,
                *states: Tensor) -> Tuple[Tensor, ...]:
        """Run a step.

        Args:
            frames (Tensor): The frames of the pair, ``(2, C, H, W)``, or a
                frame, ``(1, C, H, W)``.
            pair (Tensor): Its number from 0, ``(1, )``, int64.
            num_frames (Tensor): Frames of the stream, ``(1, )``, int64, or
                2^29 while it has not ended.
            states (Tensor): What the modules keep, at most four dimensions.

        Returns:
            tuple[Tensor]: The scores of an earlier pair, ``(1,
            num_classes)``, and the states for the next step.
        """
        if self.with_preprocessing:
            frames = normalise(self.model.data_preprocessor, frames)
        names = list(self.recognizer.modules)
        step = StreamStep(
            dict(zip(names, states)), pair, num_frames, self.recognizer.group)
        scores = self.recognizer.scores_of(frames, step)
        return (scores, *(step.maps[name] for name in names))

    @torch.no_grad()
    def examples(self, shape: Sequence[int]) -> Tuple[Tensor, ...]:
        """Inputs of the first step.

        Args:
            shape (Sequence[int]): Of a frame, ``(C, H, W)``.

        Returns:
            tuple[Tensor]: Random frames, the numbers, and empty states.
        """
        frames = example_frames((self.recognizer.group, *shape), 1, 1)[0]
        if not self.with_preprocessing:
            frames = frames.float()
        pair = torch.zeros(1, dtype=torch.long)
        _, *states = self(frames, pair, pair + ENDLESS)
        return (frames, pair, pair + ENDLESS, *map(torch.zeros_like, states))

    @property
    def state_names(self) -> List[str]:
        """list[str]: The names of the states."""
        return [f'state.{name}' for name in self.recognizer.modules]

    @property
    def input_names(self) -> List[str]:
        """list[str]: The names of the inputs."""
        return ['frames', 'pair', 'num_frames', *self.state_names]

    @property
    def output_names(self) -> List[str]:
        """list[str]: The names of the outputs."""
        return ['scores', *(f'next.{name}' for name in self.state_names)]

    def describe(self, shape: Sequence[int]) -> Dict[str, str]:
        """What someone has to know who is to feed an exported step.

        Args:
            shape (Sequence[int]): Of a frame, ``(C, H, W)``.

        Returns:
            dict: By name, what is to be known, in text.
        """
        preprocessor = self.model.data_preprocessor
        about = dict(
            streaming='one step',
            layout='NCHW',
            channels='BGR' if preprocessor.to_rgb else 'RGB',
            frames_per_step=str(self.recognizer.group),
            # The scores of step n are those of pair n - delay.
            delay=str(self.recognizer.delay),
            average_over=str(self.recognizer.num_pairs),
            height=str(shape[1]),
            width=str(shape[2]),
            output='scores',
            activation=activation_of(self.model.cls_head),
            preprocessing='included'
            if self.with_preprocessing else 'normalise first')
        if not self.with_preprocessing:
            for name in ('mean', 'std'):
                value = getattr(preprocessor, name, None)
                if value is not None:
                    about[name] = str(value.flatten().tolist())
        return about


def check_stream(path: str,
                 model: nn.Module,
                 shape: Sequence[int],
                 with_preprocessing: bool,
                 num_frames: int = 48) -> float:
    """Compare an exported step with the model, over a whole video.

    Args:
        path (str): The ONNX file.
        model (nn.Module): The recognizer.
        shape (Sequence[int]): Of a frame, ``(C, H, W)``.
        with_preprocessing (bool): Whether the file normalises the frames.
        num_frames (int): Frames of the video, even. Defaults to 48.

    Returns:
        float: The largest difference of two scores.

    Raises:
        ValueError: If one is greater than 1e-4, absolutely and relatively.
    """
    from onnxruntime import InferenceSession
    recognizer = StreamingRecognizer(model)
    frames = torch.cat([
        example_frames((1, *shape), 1, 1)[0] for _ in range(num_frames)
    ])
    predictions = recognizer.push(frames) + recognizer.close()
    expected = np.stack([p.scores.numpy() for p in predictions])
    if not with_preprocessing:
        frames = model.data_preprocessor(
            dict(inputs=[frames], data_samples=[]))['inputs'][0]
    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    states = {
        i.name: np.zeros(i.shape, np.float32)
        for i in session.get_inputs() if i.name.startswith('state.')
    }
    group = recognizer.group
    scores = []
    for pair in range(num_frames // group + recognizer.delay):
        # What follows the end does not matter.
        start = min(pair * group, num_frames - group)
        outputs = session.run(None, dict(
            states,
            frames=frames[start:start + group].numpy(),
            pair=np.array([pair]),
            num_frames=np.array([num_frames])))
        scores.append(outputs[0][0])
        states = dict(zip(states, outputs[1:]))
    actual = np.stack(scores[recognizer.delay:])
    difference = float(np.abs(actual - expected).max())
    if not np.allclose(actual, expected, atol=TOLERANCE, rtol=TOLERANCE):
        raise ValueError('The exported step does not agree with the model: '
                         f'scores differ by {difference:.2g}')
    return difference
