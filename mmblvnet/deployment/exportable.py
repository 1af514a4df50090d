"""The modules that are exported from a recognizer, and checks of the exported files."""

import copy
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.models import TPNHead
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.structures import ActionDataSample
from mmengine.registry import DATASETS
from torch import Tensor, nn
from torch.export import Dim

from mmblvnet.apis.streaming import ENDLESS, StreamingRecognizer
from mmblvnet.datasets.pipelines import datasets_in, dry_run, frames_per_view, pipeline_of
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.common.temporal_module import StreamStep
from mmblvnet.models.heads.probabilities import activation_of

MAX_AXIS_SIZE = 2**20
TOLERANCE = 1e-4
# On untrained networks, OpenVINO's bfloat16 error is up to 3 times PyTorch's:
# hence a margin. On trained ones PyTorch's may be almost 0: hence a floor.
BFLOAT16_MARGIN, BFLOAT16_FLOOR = 5, 0.02


def dynamic_axes(model: nn.Module) -> Dict[int, Dim]:
    """Return the dynamic axes of an exported file's input, by their numbers.

    They are the batch size and the number of frames, a multiple of those of a
    view if the model has views. MMAction2's clip backbones (TSM, TANet) are
    exported for one view: with both axes dynamic in their reshapes,
    ``torch.export`` does not terminate.
    """
    axes = {0: Dim('batch', max=MAX_AXIS_SIZE)}
    num_segments = frames_per_view(model)
    if num_segments is None:
        axes[1] = Dim('frames', max=MAX_AXIS_SIZE)
    elif not (hasattr(model.backbone, 'num_segments') and type(model.backbone).__module__.startswith('mmaction.')):
        axes[1] = num_segments * Dim('views', max=MAX_AXIS_SIZE)
    return axes


def frames_shape(model: nn.Module, size: Optional[Sequence[int]] = None) -> Tuple[int, ...]:
    """Return the shape of a view, ``(T, C, H, W)``, as validation prepares it.

    The model is a recognizer with its config as ``cfg``. ``T`` is its frames
    per view or, if it takes any number, those that validation samples.
    ``size`` replaces the height and width.

    Raises:
        ValueError: If the pipeline does not return frames of this shape.
    """
    example = dry_run(model, 'val')
    shape = example.inputs.shape
    if len(shape) != 4:
        given = f'the val pipeline of {model.cfg.filename} gives {tuple(shape)}'
        raise ValueError(f'Only a Recognizer2D can be exported: {given}, not (frames, C, H, W)')
    return (example.num_frames, shape[1], *(size or shape[2:]))


def example_frames(shape: Sequence[int], num_videos: int, num_views: int) -> Tensor:
    """Return random videos of large patches: a network sees no difference between frames of fine noise.

    ``shape`` is that of a view, ``(T, C, H, W)``. The videos are uint8, as from
    the pipeline, ``(num_videos, num_views * T, C, H, W)``.
    """
    num_frames, channels, height, width = shape
    patches = torch.randint(0, 256, (num_videos * num_views * num_frames, channels, 3, 3))
    frames = F.interpolate(patches.float(), (height, width))
    return frames.to(torch.uint8).unflatten(0, (num_videos, -1))


def preprocessed(preprocessor: nn.Module, frames: Tensor, already_included: bool = False) -> Tensor:
    """Return the pipeline's videos as an exported file takes them: normalised unless it does so itself."""
    return frames if already_included else preprocessor(dict(inputs=list(frames), data_samples=[]))['inputs'].cpu()


def calibration_clips(model: nn.Module, number: int, ann_file: Optional[str], with_preprocessing: bool) -> List[Tensor]:
    """Return training videos, prepared as for validation, each ``(1, frames, C, H, W)``.

    ``number`` videos are spread evenly over the training set or ``ann_file``.
    They are normalised unless the file does so itself (``with_preprocessing``).
    """
    cfg = copy.deepcopy(model.cfg.train_dataloader.dataset)
    for part in datasets_in(cfg):
        part.update(pipeline=pipeline_of(model.cfg, 'val'), test_mode=True)
        if ann_file:
            part.ann_file = ann_file
    dataset = DATASETS.build(cfg)
    if len(dataset) < number:
        source = ann_file or 'The training set'
        raise ValueError(f'{source} has {len(dataset)} videos, but --calibration-clips asks for {number}')
    clips = (dataset[i * len(dataset) // number]['inputs'][None] for i in range(number))
    return [preprocessed(model.data_preprocessor, clip, with_preprocessing) for clip in clips]


class Exportable(nn.Module):
    """Base class of the exported modules, which may normalise their frames themselves."""

    def __init__(self, model: nn.Module, shape: Sequence[int], with_preprocessing: bool = False) -> None:
        super().__init__()
        kind = type(model.data_preprocessor)
        if with_preprocessing and kind is not ActionDataPreprocessor:
            allowed = 'only ActionDataPreprocessor can: leave out --with-preprocessing'
            raise ValueError(f'{kind.__name__} cannot be exported, {allowed}')
        self.shape = tuple(shape)
        self.with_preprocessing = with_preprocessing

    def prepare(self, frames: Tensor) -> Tensor:
        """Normalise frames, ``(.., C, H, W)``, if the module includes that."""
        if not self.with_preprocessing:
            return frames
        preprocessor, frames = self.model.data_preprocessor, frames.float()
        if preprocessor.to_rgb:
            frames = frames.flip(-3)
        if preprocessor._enable_normalize:
            frames = (frames - preprocessor.mean) / preprocessor.std
        return frames

    def describe(self) -> Dict[str, str]:
        """Return the metadata of the exported file."""
        _, channels, height, width = self.shape
        preprocessor = self.model.data_preprocessor
        order = 'RGB' if channels == 3 else 'x and y of the flow in turn'
        metadata = dict(
            channels='BGR' if preprocessor.to_rgb else order,
            height=str(height),
            width=str(width),
            activation=activation_of(self.model.cls_head),
            preprocessing='included' if self.with_preprocessing else 'normalise first',
        )
        for name in () if self.with_preprocessing else ('mean', 'std'):
            value = getattr(preprocessor, name, None)
            if value is not None:
                metadata[name] = str(value.flatten().tolist())
        return metadata


class ExportableRecognizer(Exportable):
    """A copy of a recognizer in test mode, with its backbone's batch norms folded.

    Its attribute ``dynamic_axes`` holds those of :func:`dynamic_axes`.

    Args:
        model (nn.Module): A ``Recognizer2D``.
        shape (Sequence[int]): The shape of a view, ``(T, C, H, W)``.
        with_preprocessing (bool): Whether it takes frames that are not yet
            normalised; a ValueError if its ``data_preprocessor`` is not an
            ``ActionDataPreprocessor``. Defaults to False.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int], with_preprocessing: bool = False) -> None:
        super().__init__(model, shape, with_preprocessing)
        self.model = copy.deepcopy(model)
        head = self.model.cls_head
        if isinstance(head, TPNHead):
            # TrainedTPNHead would copy its classifier in each forward pass.
            with torch.no_grad():
                head._init_new_cls()
            head.forward = partial(TPNHead.forward, head)
        self.model.cpu().eval().requires_grad_(False)
        fold_norms(self.model.backbone)
        # Tracing would fix the number of chunks that the views are run in.
        self.model.test_cfg = dict(self.model.test_cfg or {}, max_testing_views=False)
        self.dynamic_axes = dynamic_axes(model)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of videos, ``(N, views * T, C, H, W)``.

        If the head averages over the views, they are ``(N, num_classes)``,
        otherwise ``(N, views, num_classes)``.
        """
        head = self.model.cls_head
        feats, kwargs = self.model.extract_feat(self.prepare(x), test_mode=True)
        scores = head(feats, **kwargs)
        # Not len(), which would make the batch size a constant of the file.
        return head.average_clip(scores, scores.size(0) // x.size(0))

    def examples(self) -> Tuple[Tensor, ...]:
        """Return random frames of 2 videos: with only 1, the traced batch size would be constant."""
        frames = example_frames(self.shape, num_videos=2, num_views=2 if 1 in self.dynamic_axes else 1)
        return (frames if self.with_preprocessing else frames.float(),)

    def describe(self) -> Dict[str, str]:
        return dict(
            super().describe(),
            layout='NTCHW',
            frames_per_view=str(self.shape[0]),
            views='any' if 1 in self.dynamic_axes else '1',
            output='probabilities' if self.model.cls_head.average_clips == 'prob' else 'scores',
        )


class ExportableStream(Exportable):
    """One step along a stream, whose state is both an input and an output.

    It takes a pair of frames (or one frame) at a time; the ``T`` of ``shape``
    is ignored. For its arguments and errors see :class:`ExportableRecognizer`
    and ``StreamingRecognizer``.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int], with_preprocessing: bool = False) -> None:
        super().__init__(model, shape, with_preprocessing)
        self.recognizer = StreamingRecognizer(model.cpu())
        # A submodule, so that its weights are exported.
        self.model = self.recognizer.model.requires_grad_(False)
        states = [f'state.{name}' for name in self.recognizer.modules]
        self.input_names = ['frames', 'pair', 'num_frames', *states]
        self.output_names = ['scores', *(f'next.{state}' for state in states)]

    def forward(self, frames: Tensor, pair: Tensor, num_frames: Tensor, *states: Tensor) -> Tuple[Tensor, ...]:
        """Return the scores of an earlier pair, ``(1, num_classes)``, and the states for the next step.

        Args:
            frames (Tensor): The frames of the pair, ``(2 or 1, C, H, W)``.
            pair (Tensor): The pair's number from 0, ``(1, )``, int64.
            num_frames (Tensor): Length of the stream in frames, ``(1, )``,
                int64; 2^29 while it has not ended.
            states (Tensor): Maps that temporal modules keep, ``(n, C, H, W)``.
        """
        names = list(self.recognizer.modules)
        step = StreamStep(dict(zip(names, states)), pair, num_frames, self.recognizer.group)
        scores = self.recognizer.scores_of(self.prepare(frames), step)
        return (scores, *(step.maps[name] for name in names))

    @torch.no_grad()
    def examples(self) -> Tuple[Tensor, ...]:
        """Return the inputs of a stream's first step: random frames, and states of zeros."""
        frames = example_frames((self.recognizer.group, *self.shape[1:]), 1, 1)[0]
        pair = torch.zeros(1, dtype=torch.long)
        step = (frames if self.with_preprocessing else frames.float(), pair, pair + ENDLESS)
        _, *states = self(*step)
        return (*step, *map(torch.zeros_like, states))

    def describe(self) -> Dict[str, str]:
        return dict(
            super().describe(),
            streaming='one step',
            layout='NCHW',
            frames_per_step=str(self.recognizer.group),
            # The scores of step n are those of pair n - delay.
            delay=str(self.recognizer.delay),
            average_over=str(self.recognizer.num_pairs),
            output='scores',
        )


def reference_scores(model: nn.Module, frames: Tensor) -> Tensor:
    """Return the scores that MMAction2's test gives the pipeline's videos, ``(N, views * T, C, H, W)``."""
    samples = [ActionDataSample() for _ in frames]
    with torch.no_grad():
        samples = model.test_step(dict(inputs=list(frames), data_samples=samples))
    return torch.stack([sample.pred_score for sample in samples]).cpu()


def check_repeatable(model: nn.Module, frames: Tensor) -> None:
    """Raise a ValueError for a model whose test is random, such as one with a ``TRNHead``."""
    # Compares raw scores, since a softmax may hide the differences.
    with patch.object(model.cls_head, 'average_clips', None):
        first, second = (reference_scores(model, frames) for _ in range(2))
    if (first - second).abs().max() > TOLERANCE * first.abs().max():
        problem = 'gives a video different scores each time: it cannot be exported, as a file would keep one draw'
        raise ValueError(f'{type(model.cls_head).__name__} {problem}')


def check_parity(
    run: Callable[[Tensor], Tensor], model: nn.Module, module: ExportableRecognizer, precision: str = 'float32'
) -> float:
    """Compare the scores of an exported file with those of its model.

    Both get one, two and three videos, the two with two views each if the
    file takes any number of views.

    Args:
        run (Callable): Runs the file, from frames to scores.
        model (nn.Module): The recognizer.
        module (ExportableRecognizer): The module that was exported from it.
        precision (str): ``'float32'`` (the default), with an absolute and
            relative tolerance of 1e-4, or ``'bfloat16'``, with a multiple of
            PyTorch's own rounding error.

    Returns:
        float: The largest absolute difference.

    Raises:
        ValueError: If the scores differ by more than the tolerance.
    """
    model.eval()
    several = 2 if 1 in module.dynamic_axes else 1
    differences = []
    for num_videos, num_views in ((1, 1), (2, several), (3, 1)):
        frames = example_frames(module.shape, num_videos, num_views)
        taken = preprocessed(model.data_preprocessor, frames, module.with_preprocessing)
        expected, tolerance = reference_scores(model, frames), TOLERANCE
        if precision == 'bfloat16':
            with torch.autocast('cpu', torch.bfloat16):
                rounded = reference_scores(model, frames)
            tolerance = BFLOAT16_MARGIN * (rounded - expected).abs().max().item() + BFLOAT16_FLOOR
        differences.append(_difference(run(taken), expected, tolerance))
    return max(differences)


def check_stream_parity(path: Path, model: nn.Module, module: ExportableStream, num_frames: int = 48) -> float:
    """Compare a step's ONNX file with its model as :func:`check_parity`, on ``num_frames`` (even) frames."""
    from onnxruntime import InferenceSession

    recognizer = StreamingRecognizer(model)
    group, delay = recognizer.group, recognizer.delay
    frames = example_frames((1, *module.shape[1:]), num_frames, 1)
    predictions = recognizer.push(frames.flatten(0, 1)) + recognizer.close()
    frames = preprocessed(module.model.data_preprocessor, frames, module.with_preprocessing).flatten(0, 1).numpy()
    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    states = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name.startswith('state.')}
    scores = []
    for pair in range(num_frames // group + delay):
        # After the end any frames will do, since they are masked.
        start = min(pair * group, num_frames - group)
        numbers = dict(pair=np.array([pair]), num_frames=np.array([num_frames]))
        of_pair, *new = session.run(None, dict(states, frames=frames[start : start + group], **numbers))
        scores.append(torch.from_numpy(of_pair[0]))
        states = dict(zip(states, new))
    return _difference(torch.stack(scores[delay:]), torch.stack([p.scores for p in predictions]), TOLERANCE)


def _difference(scores: Tensor, expected: Tensor, tolerance: float) -> float:
    """Return the largest absolute difference, or raise a ValueError beyond the tolerance."""
    difference = (scores - expected).abs().max().item()
    if not torch.allclose(scores, expected, atol=tolerance, rtol=tolerance):
        raise ValueError(f'The exported file does not agree with the model: scores differ by {difference:.2g}')
    return difference
