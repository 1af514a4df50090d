"""What is exported of a recognizer, and whether its file has the scores."""

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

LARGEST = 2**20
TOLERANCE = 1e-4
# Of untrained networks, OpenVINO's bfloat16 is up to 3 times as far from
# float32 as PyTorch's own, or far less; trained ones may hardly differ.
BFLOAT16_MARGIN, BFLOAT16_FLOOR = 5, 0.02


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
    """The shape of a view, ``(T, C, H, W)``, as validation prepares it.

    ``T`` is what the model, a recognizer with its config as ``cfg``, relates
    to each other, or, where it takes any number, what validation samples;
    ``size`` is another height and width.

    Raises:
        ValueError: If the pipeline does not give such frames.
    """
    example = dry_run(model, 'val')
    shape = example.inputs.shape
    if len(shape) != 4:
        given = f'the val pipeline of {model.cfg.filename} gives {tuple(shape)}'
        raise ValueError(f'Only a Recognizer2D can be exported: {given}, not (frames, C, H, W)')
    return (example.num_frames, shape[1], *(size or shape[2:]))


def example_frames(shape: Sequence[int], num_videos: int, num_views: int) -> Tensor:
    """Random patches, since in fine noise all frames look alike to a network.

    From the shape of a view, ``(T, C, H, W)``, come ``(num_videos, num_views
    * T, C, H, W)`` of 8 bits, as the pipeline gives them.
    """
    num_frames, channels, height, width = shape
    patches = torch.randint(0, 256, (num_videos * num_views * num_frames, channels, 3, 3))
    frames = F.interpolate(patches.float(), (height, width))
    return frames.to(torch.uint8).unflatten(0, (num_videos, -1))


def preprocessed(preprocessor: nn.Module, frames: Tensor, included: bool = False) -> Tensor:
    """Videos of the pipeline as a file takes them, which may include this."""
    return frames if included else preprocessor(dict(inputs=list(frames), data_samples=[]))['inputs'].cpu()


def calibration_clips(model: nn.Module, number: int, ann_file: Optional[str], with_preprocessing: bool) -> List[Tensor]:
    """Videos of the training set as validation sees them, a batch of one each.

    So many are spread evenly over the set, or over that of another annotation
    file. They are normalised if the file does not do so itself.
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
    """A module that may normalise its frames itself."""

    def __init__(self, model: nn.Module, shape: Sequence[int], with_preprocessing: bool = False) -> None:
        super().__init__()
        kind = type(model.data_preprocessor)
        if with_preprocessing and kind is not ActionDataPreprocessor:
            allowed = 'only ActionDataPreprocessor can: leave out --with-preprocessing'
            raise ValueError(f'{kind.__name__} cannot go into the file, {allowed}')
        self.shape = tuple(shape)
        self.with_preprocessing = with_preprocessing

    def prepare(self, frames: Tensor) -> Tensor:
        """Normalise frames, ``(.., C, H, W)``, where that is included."""
        if not self.with_preprocessing:
            return frames
        preprocessor, frames = self.model.data_preprocessor, frames.float()
        if preprocessor.to_rgb:
            frames = frames.flip(-3)
        if preprocessor._enable_normalize:
            frames = (frames - preprocessor.mean) / preprocessor.std
        return frames

    def describe(self) -> Dict[str, str]:
        """The file's metadata."""
        _, channels, height, width = self.shape
        preprocessor = self.model.data_preprocessor
        order = 'RGB' if channels == 3 else 'x and y of the flow in turn'
        about = dict(
            channels='BGR' if preprocessor.to_rgb else order,
            height=str(height),
            width=str(width),
            activation=activation_of(self.model.cls_head),
            preprocessing='included' if self.with_preprocessing else 'normalise first',
        )
        for name in () if self.with_preprocessing else ('mean', 'std'):
            value = getattr(preprocessor, name, None)
            if value is not None:
                about[name] = str(value.flatten().tolist())
        return about


class ExportableRecognizer(Exportable):
    """A copy of a recognizer in test mode, whose backbone's norms are folded.

    ``free`` are the dimensions of its input that may differ from call to call.

    Args:
        model (nn.Module): A ``Recognizer2D``.
        shape (Sequence[int]): Of a view, ``(T, C, H, W)``.
        with_preprocessing (bool): Whether it normalises frames itself as an
            ``ActionDataPreprocessor`` does (of others a ValueError tells), or
            takes normalised ones. Defaults to False.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int], with_preprocessing: bool = False) -> None:
        super().__init__(model, shape, with_preprocessing)
        self.model = copy.deepcopy(model)
        head = self.model.cls_head
        if isinstance(head, TPNHead):
            # Whose classifier of fcn_test each test would make otherwise.
            with torch.no_grad():
                head._init_new_cls()
            head.forward = partial(TPNHead.forward, head)
        self.model.cpu().eval().requires_grad_(False)
        fold_norms(self.model.backbone)
        # Which only a bounded number of views needs.
        self.model.test_cfg = dict(self.model.test_cfg or {}, max_testing_views=False)
        self.free = free_dimensions(model)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of videos, ``(N, views * T, C, H, W)``.

        They are what the head averages over the views, ``(N, num_classes)``,
        or those of each view, ``(N, views, num_classes)``.
        """
        head = self.model.cls_head
        feats, kwargs = self.model.extract_feat(self.prepare(x), test_mode=True)
        scores = head(feats, **kwargs)
        # Unlike size(), len() would fix the number in the file.
        return head.average_clip(scores, scores.size(0) // x.size(0))

    def examples(self) -> Tuple[Tensor, ...]:
        """Random frames: traced with one video, it would hold for one only."""
        frames = example_frames(self.shape, num_videos=2, num_views=2 if 1 in self.free else 1)
        return (frames if self.with_preprocessing else frames.float(),)

    def describe(self) -> Dict[str, str]:
        return dict(
            super().describe(),
            layout='NTCHW',
            frames_per_view=str(self.shape[0]),
            views='any' if 1 in self.free else '1',
            output='probabilities' if self.model.cls_head.average_clips == 'prob' else 'scores',
        )


class ExportableStream(Exportable):
    """A step of a stream, whose state goes in and comes out.

    It takes a pair of frames (or one frame) at a time, whatever the T of the
    shape. For its arguments and errors see :class:`ExportableRecognizer` and
    ``StreamingRecognizer``.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int], with_preprocessing: bool = False) -> None:
        super().__init__(model, shape, with_preprocessing)
        self.recognizer = StreamingRecognizer(model.cpu())
        # A module of this one, so that it is exported.
        self.model = self.recognizer.model.requires_grad_(False)
        states = [f'state.{name}' for name in self.recognizer.modules]
        self.input_names = ['frames', 'pair', 'num_frames', *states]
        self.output_names = ['scores', *(f'next.{state}' for state in states)]

    def forward(self, frames: Tensor, pair: Tensor, num_frames: Tensor, *states: Tensor) -> Tuple[Tensor, ...]:
        """The scores of an earlier pair, and the states for the next step.

        Args:
            frames (Tensor): Those of the pair, ``(2 or 1, C, H, W)``.
            pair (Tensor): Its number from 0, ``(1, )``, int64.
            num_frames (Tensor): Frames of the stream, ``(1, )``, int64, or
                2^29 while it has not ended.
            states (Tensor): What the modules keep, at most four dimensions.
        """
        names = list(self.recognizer.modules)
        step = StreamStep(dict(zip(names, states)), pair, num_frames, self.recognizer.group)
        scores = self.recognizer.scores_of(self.prepare(frames), step)
        return (scores, *(step.maps[name] for name in names))

    @torch.no_grad()
    def examples(self) -> Tuple[Tensor, ...]:
        """Random frames, and the rest of the first step."""
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
    run: Callable[[Tensor], Tensor], model: nn.Module, module: ExportableRecognizer, precision: str = 'float32'
) -> float:
    """Compare an exported file with the model that it was made of.

    One, two and three videos go through both, the two with two views each
    where the file takes any number.

    Args:
        run (Callable): Runs the file, from frames to scores.
        model (nn.Module): The recognizer.
        module (ExportableRecognizer): What was made of it and exported.
        precision (str): In which the file computes: scores may be 1e-4 apart,
            absolutely and relatively, and in ``'bfloat16'`` by a multiple of
            what PyTorch's own rounds. Defaults to ``'float32'``.

    Returns:
        float: The largest difference; a ValueError tells if it is larger.
    """
    model.eval()
    several = 2 if 1 in module.free else 1
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
    """:func:`check_parity` for the ONNX file of a step, along a video.

    It has ``num_frames``, an even number.
    """
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
