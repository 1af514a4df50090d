"""The classes of every moment of a live video, each frame computed once."""

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Dict, Hashable, Iterator, List, NamedTuple, Optional, Sequence

import torch
from mmaction.models import Recognizer2D, TSMHead, TSNHead
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import frames_per_view
from mmblvnet.models import BLResNet, BLVNet, ResNetTAM, TAMNeck
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.common.temporal_module import PAIRS, SPLIT, StreamStep, TemporalModule

# Frames of a stream that has not ended; 32 bits hold twice as many.
ENDLESS = 2**29


class StreamPrediction(NamedTuple):
    """The classes of a pair of frames, or of a frame.

    Args:
        pair (int): The number of the pair (of networks without pairs, of the
            frame) from 0: its frames are ``2 * pair`` and ``2 * pair + 1``.
        scores (Tensor): Its scores, before softmax, ``(num_classes, )``.
        average (Tensor): Their mean over the last pairs, ``(num_classes, )``.
    """

    pair: int
    scores: Tensor
    average: Tensor


@dataclass
class _Stream:
    """What is kept of a stream."""

    # The frames for the next step, (n, C, H, W).
    waiting: Tensor
    # The scores that the next average is of, (pairs, num_classes).
    recent: Tensor
    # Of each temporal module; none before the first step.
    maps: Dict[str, Tensor] = field(default_factory=dict)
    num_steps: int = 0
    # Counted when it ends.
    num_frames: int = ENDLESS


class StreamingRecognizer:
    """A recognizer of live video, through which each frame goes once.

    The scores are those of the same network over one clip of all frames of
    the stream. For BLVNet, ResNetTAM, and TAMNeck behind a backbone that sees
    each frame by itself. Each of several streams has a name (``stream``, any
    hashable, 0 by default); a KeyError tells of one that there is not.

    Args:
        model (nn.Module): A ``Recognizer2D``, as :func:`load_recognizer`
            returns it. It is left as it is.
        num_pairs (int, optional): Of how many pairs (or frames, of networks
            without pairs) a moment's classes are the mean. Defaults to those
            of a training clip.

    Attributes:
        model (nn.Module): The copy of it that sees the stream.
        group (int): Frames of a pair: 2, or 1 without pairs.
        delay (int): How many pairs later than its frames a pair is finished.
        streams (dict): The streams that were begun and not closed, by name.

    Raises:
        ValueError: If the model cannot run frame by frame.
    """

    def __init__(self, model: nn.Module, num_pairs: Optional[int] = None) -> None:
        _check_streamable(model)
        self.model = copy.deepcopy(model).eval()
        backbone, head = self.model.backbone, self.model.cls_head
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
        # Any number of pairs or frames may come.
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
            # So that no frame of a pair waits for the other without need.
            _, last = SPLIT.span(first.offsets())
            self._lead = (last - 1) % 2
        self.streams: Dict[Hashable, _Stream] = {}

    @property
    def lookahead(self) -> int:
        """int: Frames after a pair's last one until it is returned."""
        return self.delay * self.group - self._lead

    def push(self, frames: Tensor, stream: Hashable = 0) -> List[StreamPrediction]:
        """Go on with a stream, which begins with its first frame.

        Args:
            frames (Tensor): Its next frames, ``(n, C, H, W)``: pictures of 8
                bits, or what the ``data_preprocessor`` makes of these.
            stream (Hashable): The stream's name.

        Returns:
            list[StreamPrediction]: One for each pair that they finish.

        Raises:
            ValueError: If these are no such frames.
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
        """End a stream and forget it; a frame without a partner is no pair.

        Returns:
            list[StreamPrediction]: Those that waited for later frames.
        """
        ending = self._stream(stream)
        start, waiting = ending.num_steps * self.group, ending.waiting
        ending.num_frames = start + len(waiting) - self._lead
        end = (ending.num_frames // self.group + self.delay) * self.group
        missing = max(0, end - start - len(waiting))
        ending.waiting = torch.cat((waiting, waiting.new_zeros(missing, *waiting.shape[1:])))
        predictions = self._run([stream])[stream]
        del self.streams[stream]
        return predictions

    def state_dict(self, stream: Hashable = 0) -> Dict[str, Tensor]:
        """The tensors to go on with a stream elsewhere."""
        kept = self._stream(stream)
        return dict(
            {f'maps.{name}': maps.clone() for name, maps in kept.maps.items()},
            waiting=kept.waiting.clone(),
            recent=kept.recent.clone(),
            num_steps=torch.tensor(kept.num_steps),
        )

    def load_state_dict(self, state: Dict[str, Tensor], stream: Hashable = 0) -> None:
        """Go on with a stream from what :meth:`state_dict` gave.

        What a stream of this name had before is lost.

        Raises:
            ValueError: If the state is none of this model's.
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
        if frames.dim() != 4 or not len(frames):
            raise ValueError(f'{tuple(frames.shape)} are no frames (n, C, H, W) of a stream, n >= 1')
        if frames.dtype == torch.uint8:
            frames = self.model.data_preprocessor(dict(inputs=[frames], data_samples=[ActionDataSample()]))['inputs'][0]
        known = self.streams.get(name)
        if known and known.waiting.shape[1:] != frames.shape[1:]:
            change = f'were {tuple(known.waiting.shape[1:])} and are now {tuple(frames.shape[1:])}'
            raise ValueError(f'the frames of the stream {name!r} {change}: close it and begin another')
        return frames.to(parameter.device, parameter.dtype)

    @torch.no_grad()
    def _run(self, names: Sequence[Hashable]) -> Dict[Hashable, List[StreamPrediction]]:
        """Run what can be run of some streams, those alike as a batch."""
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
        """Run the next groups of frames of each stream."""
        num_frames = num_groups * self.group
        device = streams[0].waiting.device
        step = StreamStep(
            {name: _joined([s.maps[name] for s in streams]) for name in streams[0].maps},
            first=torch.tensor([s.num_steps for s in streams], device=device),
            num_frames=torch.tensor([s.num_frames for s in streams], device=device),
            group=self.group,
            lead=self._lead,
            within=all(s.num_steps > self.delay and s.num_frames == ENDLESS for s in streams),
        )
        scores = self.scores_of(_joined([s.waiting[:num_frames] for s in streams]), step)
        for i, (stream, new) in enumerate(zip(streams, scores.chunk(len(streams)))):
            first = stream.num_steps - self.delay
            stream.num_steps += num_groups
            stream.waiting = stream.waiting[num_frames:]
            stream.maps = {name: maps.chunk(len(streams))[i] for name, maps in step.maps.items()}
            yield [self._predict(stream, pair, of_pair) for pair, of_pair in enumerate(new, first) if pair >= 0]

    def _predict(self, stream: _Stream, pair: int, scores: Tensor) -> StreamPrediction:
        recent = torch.cat((stream.recent, scores[None]))
        stream.recent = recent[-self.num_pairs :]
        return StreamPrediction(pair, scores, stream.recent.mean(0))

    def scores_of(self, frames: Tensor, step: StreamStep) -> Tensor:
        """Run a step, which is changed, on frames, stream after stream.

        Of ``(streams * groups * frames per group, C, H, W)`` come the scores
        of the groups that are finished, ``(streams * groups, num_classes)``.
        """
        for name, module in self.modules.items():
            module.step, module.name = step, name
        feats, _ = self.model.extract_feat(frames[None], stage='backbone', test_mode=True)
        if not isinstance(feats, Tensor):
            feats = feats[-1]
        if self.model.with_neck:
            tam = self.model.neck.tams[-1]
            # The head, which is linear, averages both frames of a pair.
            feats = tam(feats) if self.group == 1 else sum(tam(feats, PAIRS)) / 2
        return self.model.cls_head(feats, num_segs=1)

    @torch.no_grad()
    def _find_delay(self) -> int:
        parameter = next(self.model.parameters())
        channels = getattr(self.model.backbone, 'in_channels', 3)
        frames = parameter.new_zeros(self.group, channels, 64, 64)
        zero = torch.zeros(1, dtype=torch.long, device=parameter.device)
        step = StreamStep({}, zero, zero + ENDLESS, self.group)
        self.scores_of(frames, step)
        return step.delay


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """The maps of streams, stream after stream."""
    return maps[0] if len(maps) == 1 else torch.cat(list(maps))


def _check_streamable(model: nn.Module) -> None:
    """Refuse a model that cannot run frame by frame."""
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
    # Those of MMAction2 that relate frames to each other say how many.
    if not isinstance(backbone, (BLVNet, ResNetTAM)) and (getattr(backbone, 'num_segments', None)):
        problem = 'does not see each frame by itself, and cannot run along a stream; BLVNet and ResNetTAM can'
        raise ValueError(f'{type(backbone).__name__} {problem}')
