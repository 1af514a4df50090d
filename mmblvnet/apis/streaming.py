"""Frame-by-frame recognition of live video, which computes each frame only once."""

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Dict, Hashable, Iterator, List, NamedTuple, Optional, Sequence

import torch
from mmaction.models import ResNet, Recognizer2D, TSMHead, TSNHead
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import frames_per_view
from mmblvnet.models import BLResNet, BLVNet, ResNetTAM, TAMNeck
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.common.temporal_module import PAIRS, SPLIT, StreamStep, TemporalModule

# Stands for the length of a stream that has not ended. Twice as many fit int32.
ENDLESS = 2**29


class StreamPrediction(NamedTuple):
    """The scores of a pair of frames, or of a frame where the network has no pairs.

    Args:
        pair (int): The index of the pair, from 0: its frames are ``2 * pair``
            and ``2 * pair + 1``. Without pairs, the index of the frame.
        scores (Tensor): Its scores, before softmax, ``(num_classes, )``.
        average (Tensor): Mean scores of the last pairs, ``(num_classes, )``.
    """

    pair: int
    scores: Tensor
    average: Tensor


@dataclass
class _Stream:
    """The state of a stream between two steps."""

    # The frames for the next step, (n, C, H, W).
    waiting: Tensor
    # The scores of the last pairs, for the average, (pairs, num_classes).
    recent: Tensor
    # The maps that each temporal module keeps; none before the first step.
    maps: Dict[str, Tensor] = field(default_factory=dict)
    # Groups that have gone through the network.
    num_groups: int = 0
    # Known only when the stream ends.
    num_frames: int = ENDLESS


class StreamingRecognizer:
    """A recognizer of live video that computes each frame only once.

    Its scores equal those of the same network over one clip of all frames of
    the stream. It runs BLVNet, ResNetTAM, and TAMNeck behind a backbone that
    sees each frame by itself. Several streams are identified by name (any
    hashable, 0 by default); to close or save an unknown one is a KeyError.

    Args:
        model (nn.Module): A ``Recognizer2D``, as :func:`load_recognizer`
            returns it. It is copied, not changed.
        num_pairs (int, optional): Number of last pairs (without pairs: frames)
            whose scores are averaged. Defaults to those of a training clip.

    Attributes:
        model (nn.Module): The copy that runs.
        group (int): Frames per pair: 2, or 1 for networks without pairs.
        delay (int): Number of further pairs that a pair waits for.
        streams (dict): The state of each open stream, by name.

    Raises:
        ValueError: If the model cannot run frame by frame.
    """

    def __init__(self, model: nn.Module, num_pairs: Optional[int] = None) -> None:
        _check_streamable(model)
        self.model = copy.deepcopy(model).eval()
        backbone, head = self.model.backbone, self.model.cls_head
        # In MobileNetV2, which takes 3, in_channels is that of a later layer.
        self._channels = backbone.in_channels if isinstance(backbone, (BLResNet, ResNet)) else 3
        self.group = 2 if isinstance(backbone, BLVNet) else 1
        if num_pairs is None:
            num_pairs = (frames_per_view(model) or 0) // self.group
            if not num_pairs:
                raise ValueError('the model does not say how many frames a clip has: give num_pairs')
        if num_pairs < 1:
            raise ValueError(f'num_pairs = {num_pairs} is less than 1')
        self.num_pairs = num_pairs
        if isinstance(backbone, (BLResNet, ResNetTAM)):
            fold_norms(backbone)
        if isinstance(backbone, BLVNet):
            backbone.frame_output = 'pair'
        # One pair or frame per clip, so that any number of them may come.
        backbone.num_segments = self.group
        head.num_segments = 1
        self.model.test_cfg = None
        self.modules = {
            name: module for name, module in self.model.named_modules() if isinstance(module, TemporalModule)
        }
        self.delay = self._find_delay()
        self._lead = 0
        first = self.modules.get('backbone.tam')
        if first:
            # With an odd lookahead, steps begin one frame before a pair: then
            # the pair is finished one frame earlier.
            _, last = SPLIT.map_bounds(first.offsets())
            self._lead = (last - 1) % 2
        self.streams: Dict[Hashable, _Stream] = {}

    @property
    def lookahead(self) -> int:
        """int: Number of frames after a pair's last one until the pair is returned."""
        return self.delay * self.group - self._lead

    def push(self, frames: Tensor, stream: Hashable = 0) -> List[StreamPrediction]:
        """Feed the next frames to a stream; a new name begins a stream.

        Args:
            frames (Tensor): Its next frames, ``(n, C, H, W)``: pictures in
                integers, or already normalized by the ``data_preprocessor``.
            stream (Hashable): The stream's name.

        Returns:
            list[StreamPrediction]: One for each pair that they finish.

        Raises:
            ValueError: If their shape is wrong or not that of earlier frames.
        """
        return self.push_many({stream: frames})[stream]

    def push_many(self, frames: Dict[Hashable, Tensor]) -> Dict[Hashable, List[StreamPrediction]]:
        """:meth:`push` for several streams by name, run as one batch."""
        prepared = {name: self._prepare(name, new) for name, new in frames.items()}
        for name, new in prepared.items():
            if name not in self.streams:
                none = new.new_zeros(0, self.model.cls_head.num_classes)
                self.streams[name] = _Stream(new.new_zeros(self._lead, *new.shape[1:]), none)
            stream = self.streams[name]
            stream.waiting = torch.cat((stream.waiting, new))
        return self._run(list(frames))

    def close(self, stream: Hashable = 0) -> List[StreamPrediction]:
        """End a stream and delete its state; a last frame without a partner gives no prediction.

        Returns:
            list[StreamPrediction]: Those of pairs that waited for later frames.
        """
        ending = self._stream(stream)
        start, waiting = ending.num_groups * self.group, ending.waiting
        ending.num_frames = start + len(waiting) - self._lead
        end = (ending.num_frames // self.group + self.delay) * self.group
        missing = max(0, end - start - len(waiting))
        ending.waiting = torch.cat((waiting, waiting.new_zeros(missing, *waiting.shape[1:])))
        predictions = self._run([stream])[stream]
        del self.streams[stream]
        return predictions

    def state_dict(self, stream: Hashable = 0) -> Dict[str, Tensor]:
        """Return the state of a stream, from which :meth:`load_state_dict` continues it."""
        kept = self._stream(stream)
        return dict(
            {f'maps.{name}': maps.clone() for name, maps in kept.maps.items()},
            waiting=kept.waiting.clone(),
            recent=kept.recent.clone(),
            num_steps=torch.tensor(kept.num_groups),
        )

    def load_state_dict(self, state: Dict[str, Tensor], stream: Hashable = 0) -> None:
        """Continue a stream from a state that :meth:`state_dict` returned.

        An open stream of this name is replaced.

        Raises:
            ValueError: If the state is not one of this model.
        """
        maps = {f'maps.{name}': name for name in self.modules}
        # Before its first step a stream has no maps.
        always = {'waiting', 'recent', 'num_steps'}
        if set(state) not in (always, always.union(maps)):
            modules = f'the temporal modules are {sorted(self.modules)}'
            raise ValueError(f'this is not the state of a stream of this model: it has {sorted(state)}, but {modules}')
        device = next(self.model.parameters()).device
        state = {name: value.to(device) for name, value in state.items()}
        kept = {maps[key]: state[key] for key in maps if key in state}
        self.streams[stream] = _Stream(state['waiting'], state['recent'], kept, int(state['num_steps']))

    def _stream(self, name: Hashable) -> _Stream:
        if name not in self.streams:
            raise KeyError(f'there is no stream {name!r}; push begins one')
        return self.streams[name]

    def _prepare(self, name: Hashable, frames: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        if frames.dim() != 4 or frames.size(1) != self._channels or 0 in frames.shape:
            expected = f'(n, {self._channels}, H, W) with n >= 1'
            raise ValueError(f'frames of a stream are {expected}, not {tuple(frames.shape)}')
        if not frames.is_floating_point():
            frames = self.model.data_preprocessor(dict(inputs=[frames], data_samples=[ActionDataSample()]))['inputs'][0]
        known = self.streams.get(name)
        if known and known.waiting.shape[1:] != frames.shape[1:]:
            change = f'were {tuple(known.waiting.shape[1:])} and are now {tuple(frames.shape[1:])}'
            raise ValueError(f'the frames of the stream {name!r} {change}: close it and begin another')
        return frames.to(parameter.device, parameter.dtype)

    @torch.no_grad()
    def _run(self, names: Sequence[Hashable]) -> Dict[Hashable, List[StreamPrediction]]:
        """Run all complete groups of the streams; batch streams of equal shape and number of groups."""
        predictions = {name: [] for name in names}
        batches = defaultdict(list)
        for name in names:
            stream = self.streams[name]
            num_groups = len(stream.waiting) // self.group
            if num_groups:
                batches[num_groups, bool(stream.maps), stream.waiting.shape[1:]].append(name)
        for (num_groups, *_), batch in batches.items():
            streams = [self.streams[name] for name in batch]
            predictions.update(zip(batch, self._step(streams, num_groups)))
        return predictions

    def _step(self, streams: Sequence[_Stream], num_groups: int) -> Iterator[List[StreamPrediction]]:
        """Run the next groups of frames of each stream and yield its predictions."""
        num_frames = num_groups * self.group
        device = streams[0].waiting.device
        step = StreamStep(
            {name: _concatenate([s.maps[name] for s in streams]) for name in streams[0].maps},
            first=torch.tensor([s.num_groups for s in streams], device=device),
            num_frames=torch.tensor([s.num_frames for s in streams], device=device),
            group=self.group,
            lead_frames=self._lead,
            all_inside=all(s.num_groups > self.delay and s.num_frames == ENDLESS for s in streams),
        )
        scores = self.scores_of(_concatenate([s.waiting[:num_frames] for s in streams]), step)
        for i, (stream, new) in enumerate(zip(streams, scores.chunk(len(streams)))):
            first = stream.num_groups - self.delay
            stream.num_groups += num_groups
            stream.waiting = stream.waiting[num_frames:]
            stream.maps = {name: maps.chunk(len(streams))[i] for name, maps in step.maps.items()}
            yield [self._predict(stream, pair, of_pair) for pair, of_pair in enumerate(new, first) if pair >= 0]

    def _predict(self, stream: _Stream, pair: int, scores: Tensor) -> StreamPrediction:
        recent = torch.cat((stream.recent, scores[None]))
        stream.recent = recent[-self.num_pairs :]
        return StreamPrediction(pair, scores, stream.recent.mean(0))

    def scores_of(self, frames: Tensor, step: StreamStep) -> Tensor:
        """Run a step on frames, stream after stream, and update its maps.

        Takes ``(streams * groups * frames per group, C, H, W)``; returns the
        scores of the finished groups, ``(streams * groups, num_classes)``.
        """
        for name, module in self.modules.items():
            module.step, module.name = step, name
        feats, _ = self.model.extract_feat(frames[None], stage='backbone', test_mode=True)
        if not isinstance(feats, Tensor):
            feats = feats[-1]
        if self.model.with_neck:
            tam = self.model.neck.tams[-1]
            # The head is linear: the mean of a pair's maps gives its mean scores.
            feats = tam(feats) if self.group == 1 else sum(tam(feats, PAIRS)) / 2
        return self.model.cls_head(feats, num_segs=1)

    @torch.no_grad()
    def _find_delay(self) -> int:
        parameter = next(self.model.parameters())
        frames = parameter.new_zeros(self.group, self._channels, 64, 64)
        zero = torch.zeros(1, dtype=torch.long, device=parameter.device)
        step = StreamStep({}, zero, zero + ENDLESS, self.group)
        self.scores_of(frames, step)
        return step.delay


def _concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate the maps of streams, stream after stream."""
    return maps[0] if len(maps) == 1 else torch.cat(list(maps))


def _check_streamable(model: nn.Module) -> None:
    """Raise a ValueError for a model that cannot run frame by frame."""
    if not isinstance(model, Recognizer2D):
        raise ValueError(f'{type(model).__name__} sees clips, not frames: only a Recognizer2D can run along a stream')
    backbone, head = model.backbone, model.cls_head
    if 'forward' in vars(backbone):
        raise ValueError('the backbone was accelerated before: accelerate that of StreamingRecognizer.model instead')
    if type(head).forward not in (TSMHead.forward, TSNHead.forward) or (getattr(head, 'temporal_pool', False)):
        remedy = 'TSMHead without temporal_pool and TSNHead do'
        raise ValueError(f'{type(head).__name__} does not average the scores of frames: {remedy}')
    if model.with_neck and not isinstance(model.neck, TAMNeck):
        raise ValueError(f'{type(model.neck).__name__} cannot run along a stream; TAMNeck can')
    # MMAction2's backbones that relate frames to each other have num_segments.
    if not isinstance(backbone, (BLVNet, ResNetTAM)) and (getattr(backbone, 'num_segments', None)):
        problem = 'does not see each frame by itself, and cannot run along a stream; BLVNet and ResNetTAM can'
        raise ValueError(f'{type(backbone).__name__} {problem}')
