"""The classes of every moment of a live video, each frame computed once."""
import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Dict, Hashable, List, NamedTuple, Optional, Sequence

import torch
from mmaction.models import Recognizer2D, TSMHead, TSNHead
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import frames_per_view
from mmblvnet.models import BLResNet, BLVNet, ResNetTAM, TAMNeck
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.common.streaming import StreamStep, stream_through
from mmblvnet.models.common.temporal_module import SPLIT

# Frames of a stream that has not ended; 32 bits hold twice as many.
ENDLESS = 2**29


class StreamPrediction(NamedTuple):
    """The classes of a pair of frames, or of a frame.

    Args:
        pair (int): The number of the pair from 0: it is made of the frames
            ``2 * pair`` and ``2 * pair + 1``. Of networks without pairs, the
            number of the frame.
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
    num_frames: int = 0
    num_steps: int = 0
    ended: bool = False
    # Of each temporal module.
    maps: Dict[str, Tensor] = field(default_factory=dict)
    # The scores that the next average is of.
    recent: List[Tensor] = field(default_factory=list)


class StreamingRecognizer:
    """A recognizer of live video, through which each frame goes once.

    A temporal module is a filter along time, so that a new pair of frames
    needs a few maps of those before it and nothing of a window. The scores
    are those of the same network over one clip of all frames of the stream.
    For BLVNet, ResNetTAM, and TAMNeck behind a backbone that sees each frame
    by itself. Of several streams each has a name, that of one alone is 0.

    Args:
        model (nn.Module): A ``Recognizer2D``, as :func:`load_recognizer`
            returns it. It is left as it is.
        num_pairs (int, optional): Of how many pairs (or frames, of networks
            without pairs) a moment's classes are the mean. Defaults to None,
            which takes those of a training clip.

    Attributes:
        model (nn.Module): The copy of it that sees the stream.
        group (int): Frames of a pair: 2, or 1 without pairs.
        delay (int): How many pairs later than its frames a pair is finished.
        streams (dict): The streams that were begun and not closed, by name.

    Raises:
        ValueError: If the model cannot run frame by frame.
    """

    def __init__(self,
                 model: nn.Module,
                 num_pairs: Optional[int] = None) -> None:
        _check_streamable(model)
        shared = {id(p): p for p in model.parameters()}
        self.model = copy.deepcopy(model, shared).eval()
        backbone, head = self.model.backbone, self.model.cls_head
        self.group = 2 if isinstance(backbone, BLVNet) else 1
        self.num_pairs = num_pairs or (
            (frames_per_view(model) or 0) // self.group)
        if not self.num_pairs:
            raise ValueError('the model does not say how many frames a clip '
                             'has: give num_pairs')
        if isinstance(backbone, (BLResNet, ResNetTAM)):
            fold_norms(backbone)
        if isinstance(backbone, BLVNet):
            backbone.frame_output = 'pair'
        # Any number of pairs or frames may come.
        backbone.num_segments = self.group
        head.num_segments = 1
        self.model.test_cfg = None
        self.modules = stream_through(self.model)
        self.delay = self._find_delay()
        self._lead = 0
        first = self.modules.get('backbone.tam')
        if first:
            # So that no frame of a pair waits for the other without need.
            _, last = SPLIT.span(first.module.offsets())
            self._lead = first.lead = (last - 1) % 2
        self.streams: Dict[Hashable, _Stream] = {}

    @property
    def lookahead(self) -> int:
        """int: Frames after a pair's last one until it is returned."""
        return self.delay * self.group - self._lead

    def push(self,
             frames: Tensor,
             stream: Hashable = 0) -> List[StreamPrediction]:
        """Go on with a stream, which begins with its first frame.

        Args:
            frames (Tensor): Its next frames, ``(n, C, H, W)``: pictures of 8
                bits as the pipeline gives them, or what the model's
                ``data_preprocessor`` makes of these.
            stream (Hashable): The stream's name. Defaults to 0.

        Returns:
            list[StreamPrediction]: One for each pair that they finish.

        Raises:
            ValueError: If these are no such frames.
        """
        return self.push_many({stream: frames})[stream]

    def push_many(
        self, frames: Dict[Hashable, Tensor]
    ) -> Dict[Hashable, List[StreamPrediction]]:
        """Go on with several streams, which run as one batch.

        It takes the next frames of each stream and gives its predictions, as
        :meth:`push` does.
        """
        prepared = {
            name: self._prepare(name, new)
            for name, new in frames.items()
        }
        for name, new in prepared.items():
            if name not in self.streams:
                blank = new.new_zeros(self._lead, *new.shape[1:])
                self.streams[name] = _Stream(blank)
            stream = self.streams[name]
            stream.waiting = torch.cat((stream.waiting, new))
            stream.num_frames += len(new)
        return self._run(list(frames))

    def close(self, stream: Hashable = 0) -> List[StreamPrediction]:
        """End a stream and forget it.

        A last frame without a partner makes no pair.

        Returns:
            list[StreamPrediction]: The predictions that were still waiting
            for later frames.

        Raises:
            KeyError: If there is no such stream.
        """
        ending = self._stream(stream)
        ending.ended = True
        num_steps = ending.num_frames // self.group + self.delay
        missing = (num_steps - ending.num_steps) * self.group - len(
            ending.waiting)
        zeros = ending.waiting.new_zeros(
            max(0, missing), *ending.waiting.shape[1:])
        ending.waiting = torch.cat((ending.waiting, zeros))
        predictions = self._run([stream])[stream]
        del self.streams[stream]
        return predictions

    def state_dict(self, stream: Hashable = 0) -> Dict[str, Tensor]:
        """What is kept of a stream, to go on with it later or elsewhere.

        Returns:
            dict[str, Tensor]: Tensors alone.

        Raises:
            KeyError: If there is no such stream.
        """
        state = self._stream(stream)
        counts = torch.tensor([state.num_frames, state.num_steps])
        recent = torch.stack(state.recent) if state.recent else torch.empty(0)
        return dict(
            {f'maps.{name}': maps.clone()
             for name, maps in state.maps.items()},
            waiting=state.waiting.clone(),
            recent=recent,
            counts=counts)

    def load_state_dict(self,
                        state: Dict[str, Tensor],
                        stream: Hashable = 0) -> None:
        """Go on with a stream from what :meth:`state_dict` gave.

        What the stream of that name had before is lost.

        Raises:
            ValueError: If they are none of this model's streams.
        """
        maps = {f'maps.{name}': name for name in self.modules}
        always = {'waiting', 'recent', 'counts'}
        # Before its first step a stream has no maps.
        if set(state) not in (always, always.union(maps)):
            raise ValueError(
                'this is not the state of a stream of this model: it has '
                f'{sorted(state)}, but the temporal modules are '
                f'{sorted(self.modules)}')
        device = next(self.model.parameters()).device
        state = {name: value.to(device) for name, value in state.items()}
        num_frames, num_steps = state['counts'].tolist()
        self.streams[stream] = _Stream(
            state['waiting'], num_frames, num_steps,
            maps={maps[key]: state[key] for key in maps if key in state},
            recent=list(state['recent']))

    def _stream(self, name: Hashable) -> _Stream:
        if name not in self.streams:
            raise KeyError(f'there is no stream {name!r}; push begins one')
        return self.streams[name]

    def _prepare(self, name: Hashable, frames: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        if frames.dim() != 4 or not len(frames):
            raise ValueError(
                f'{tuple(frames.shape)} are no frames (n, C, H, W) of a '
                'stream, n >= 1')
        if frames.dtype == torch.uint8:
            frames = self.model.data_preprocessor(
                dict(inputs=[frames],
                     data_samples=[ActionDataSample()]))['inputs'][0]
        known = self.streams.get(name)
        if known and known.waiting.shape[1:] != frames.shape[1:]:
            raise ValueError(
                f'the frames of the stream {name!r} were '
                f'{tuple(known.waiting.shape[1:])} and are now '
                f'{tuple(frames.shape[1:])}: close it and begin another')
        return frames.to(parameter.device, parameter.dtype)

    @torch.no_grad()
    def _run(
        self, names: Sequence[Hashable]
    ) -> Dict[Hashable, List[StreamPrediction]]:
        """Run what can be run of some streams, those alike as a batch."""
        predictions = {name: [] for name in names}
        while True:
            batches = defaultdict(list)
            for name in names:
                stream = self.streams[name]
                if len(stream.waiting) >= self.group:
                    shape = stream.waiting.shape[1:]
                    batches[bool(stream.num_steps), shape].append(name)
            if not batches:
                return predictions
            for batch in batches.values():
                streams = [self.streams[name] for name in batch]
                for name, new in zip(batch, self._run_batch(streams)):
                    predictions[name] += new

    def _run_batch(
            self,
            streams: Sequence[_Stream]) -> List[List[StreamPrediction]]:
        num_groups = min(len(s.waiting) for s in streams) // self.group
        num_frames = num_groups * self.group
        step = self._step(streams)
        scores = self.scores_of(
            _joined([s.waiting[:num_frames] for s in streams]), step)
        results = []
        for i, (stream, new) in enumerate(
                zip(streams, scores.chunk(len(streams)))):
            stream.waiting = stream.waiting[num_frames:]
            stream.maps = {
                name: maps.chunk(len(streams))[i]
                for name, maps in step.maps.items()
            }
            first = stream.num_steps - self.delay
            stream.num_steps += num_groups
            results.append([
                self._predict(stream, pair, of_pair)
                for pair, of_pair in enumerate(new, first) if pair >= 0
            ])
        return results

    def _step(self, streams: Sequence[_Stream]) -> StreamStep:
        device = streams[0].waiting.device
        first = [s.num_steps for s in streams]
        num_frames = [s.num_frames if s.ended else ENDLESS for s in streams]
        return StreamStep(
            {name: _joined([s.maps[name] for s in streams])
             for name in streams[0].maps},
            first=torch.tensor(first, device=device),
            num_frames=torch.tensor(num_frames, device=device),
            group=self.group,
            within=min(first) > self.delay and not any(
                s.ended for s in streams))

    def _predict(self, stream: _Stream, pair: int,
                 scores: Tensor) -> StreamPrediction:
        stream.recent = [*stream.recent, scores][-self.num_pairs:]
        return StreamPrediction(pair, scores,
                                torch.stack(stream.recent).mean(0))

    def scores_of(self, frames: Tensor, step: StreamStep) -> Tensor:
        """Run a step, which is changed.

        It takes the new frames, stream after stream, ``(streams * groups *
        frames per group, C, H, W)``, and gives the scores of the groups that
        are finished, ``(streams * groups, num_classes)``.
        """
        for module in self.modules.values():
            module.step = step
        feats = _backbone_maps(self.model, frames)
        if self.model.with_neck:
            feats = self._run_neck(feats)
        return self.model.cls_head(feats, num_segs=1)

    def _run_neck(self, feats: Tensor) -> Tensor:
        tam = self.model.neck.tams[-1]
        if self.group == 1:
            return tam(feats)
        # The head, which is linear, averages both frames of a pair.
        even, odd = tam.forward_pairs(feats)
        return (even + odd) / 2

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


def _backbone_maps(model: nn.Module, frames: Tensor) -> Tensor:
    """The last maps of the backbone, of frames ``(n, C, H, W)``."""
    feats, _ = model.extract_feat(
        frames[None], stage='backbone', test_mode=True)
    return feats if isinstance(feats, Tensor) else feats[-1]


def _check_streamable(model: nn.Module) -> None:
    """Refuse a model that cannot run frame by frame."""
    backbone, head = model.backbone, model.cls_head
    if 'forward' in vars(backbone):
        raise ValueError('the backbone was accelerated before; accelerate '
                         'that of the model in the StreamingRecognizer '
                         'instead')
    if not isinstance(model, Recognizer2D):
        raise ValueError(f'{type(model).__name__} sees clips, not frames: '
                         'only a Recognizer2D can run along a stream')
    if type(head).forward not in (TSMHead.forward, TSNHead.forward) or (
            getattr(head, 'temporal_pool', False)):
        raise ValueError(f'{type(head).__name__} does not average the scores '
                         'of frames: TSMHead without temporal_pool and '
                         'TSNHead do')
    if model.with_neck and not isinstance(model.neck, TAMNeck):
        raise ValueError(f'{type(model.neck).__name__} cannot run along a '
                         'stream; TAMNeck can')
    if not isinstance(backbone, (BLVNet, ResNetTAM)) and (
            not _sees_frames_apart(model)):
        raise ValueError(
            f'{type(backbone).__name__} does not see each frame by itself, '
            'and cannot run along a stream; BLVNet and ResNetTAM can')


@torch.no_grad()
def _sees_frames_apart(model: nn.Module) -> bool:
    """Whether the backbone's map of a frame does not depend on another."""
    frames = next(model.parameters()).new_empty(2, 3, 64, 64).normal_()
    training = model.training
    model.eval()
    try:
        together, alone = (
            _backbone_maps(model, frames[:count])[:1] for count in (2, 1))
        return torch.allclose(together, alone, atol=1e-3, rtol=1e-3)
    except (RuntimeError, ValueError):
        return False
    finally:
        model.train(training)
