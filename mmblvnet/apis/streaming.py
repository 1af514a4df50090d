"""The classes of every moment of a live video, each frame computed once."""
import copy
from collections import defaultdict
from typing import Dict, Hashable, List, NamedTuple, Optional, Sequence

import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmblvnet.models import BLResNet, BLVNet, ResNetTAM
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.common.frame_blending import SPLIT
from mmblvnet.models.common.streaming import StreamStep, stream_through

from .streamable import check_streamable, clip_length

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


class _Stream:
    """What is known of a stream.

    Args:
        waiting (Tensor): Frames for the next step, ``(n, C, H, W)``.
        num_pairs (int): Pairs that an average is of.
    """

    def __init__(self, waiting: Tensor, num_pairs: int) -> None:
        self.waiting = waiting
        self.num_pairs = num_pairs
        self.num_frames = 0
        self.num_steps = 0
        self.ended = False
        self.maps: Dict[str, Tensor] = {}
        self.recent: List[Tensor] = []

    def add(self, frames: Tensor) -> None:
        if len(self.waiting):
            frames = torch.cat((self.waiting, frames))
        self.waiting = frames

    def predict(self, pair: int, scores: Tensor) -> StreamPrediction:
        self.recent = [*self.recent, scores][-self.num_pairs:]
        return StreamPrediction(pair, scores, torch.stack(self.recent).mean(0))


class StreamingRecognizer:
    """A recognizer of live video, through which each frame goes once.

    A temporal module is a filter along time, so that a new pair of frames
    needs a few maps of those before it and nothing of a window. The scores
    are those of the same network over one clip of all frames of the stream.
    For BLVNet, ResNetTAM, and TAMNeck behind a backbone that sees each frame
    by itself.

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

    Raises:
        ValueError: If the model cannot run frame by frame.
    """

    def __init__(self,
                 model: nn.Module,
                 num_pairs: Optional[int] = None) -> None:
        check_streamable(model)
        shared = {id(p): p for p in model.parameters()}
        self.model = copy.deepcopy(model, shared).eval()
        backbone, head = self.model.backbone, self.model.cls_head
        self.num_pairs = num_pairs or clip_length(self.model)
        self.group = 2 if isinstance(backbone, BLVNet) else 1
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
        self._streams: Dict[Hashable, _Stream] = {}

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
            stream (Hashable): Which stream. Defaults to 0.

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

        Args:
            frames (dict): The next frames of each stream, as for
                :meth:`push`.

        Returns:
            dict: The predictions of each stream.

        Raises:
            ValueError: If these are no such frames.
        """
        prepared = {
            name: self._prepare(name, new)
            for name, new in frames.items()
        }
        for name, new in prepared.items():
            if name not in self._streams:
                blank = new.new_zeros(self._lead, *new.shape[1:])
                self._streams[name] = _Stream(blank, self.num_pairs)
            self._streams[name].add(new)
            self._streams[name].num_frames += len(new)
        return self._run(list(frames))

    def close(self, stream: Hashable = 0) -> List[StreamPrediction]:
        """End a stream and forget it.

        A last frame without a partner makes no pair.

        Args:
            stream (Hashable): Which stream. Defaults to 0.

        Returns:
            list[StreamPrediction]: The predictions that were still waiting
            for later frames.

        Raises:
            KeyError: If there is no such stream.
        """
        ending = self._stream(stream)
        ending.ended = True
        num_groups = ending.num_frames // self.group
        missing = (num_groups + self.delay - ending.num_steps) * self.group
        if num_groups:
            ending.add(
                ending.waiting.new_zeros(
                    max(0, missing - len(ending.waiting)),
                    *ending.waiting.shape[1:]))
        predictions = self._run([stream])[stream]
        del self._streams[stream]
        return predictions

    def state_dict(self, stream: Hashable = 0) -> Dict[str, Tensor]:
        """What is kept of a stream, to go on with it later or elsewhere.

        Args:
            stream (Hashable): Which stream. Defaults to 0.

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

        Args:
            state (dict[str, Tensor]): The tensors.
            stream (Hashable): Which stream takes them; what it had is lost.
                Defaults to 0.

        Raises:
            ValueError: If they are none of this model's streams.
        """
        maps = {
            name.removeprefix('maps.'): value
            for name, value in state.items() if name.startswith('maps.')
        }
        rest = {'waiting', 'recent', 'counts'}
        if set(state) - {f'maps.{name}' for name in maps} != rest or (
                maps and set(maps) != set(self.modules)):
            raise ValueError(
                'this is not the state of a stream of this model: it has '
                f'{sorted(state)}, but the temporal modules are '
                f'{sorted(self.modules)}')
        device = next(self.model.parameters()).device
        loaded = _Stream(state['waiting'].to(device), self.num_pairs)
        loaded.num_frames, loaded.num_steps = state['counts'].tolist()
        loaded.maps = {name: value.to(device) for name, value in maps.items()}
        loaded.recent = list(state['recent'].to(device))
        self._streams[stream] = loaded

    def _stream(self, name: Hashable) -> _Stream:
        if name not in self._streams:
            raise KeyError(f'there is no stream {name!r}; push begins one')
        return self._streams[name]

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
        known = self._streams.get(name)
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
                stream = self._streams[name]
                if len(stream.waiting) >= self.group:
                    shape = stream.waiting.shape[1:]
                    batches[bool(stream.num_steps), shape].append(name)
            if not batches:
                return predictions
            for batch in batches.values():
                streams = [self._streams[name] for name in batch]
                results = self._run_batch(streams)
                for name, new in zip(batch, results):
                    predictions[name] += new

    def _run_batch(
            self,
            streams: Sequence[_Stream]) -> List[List[StreamPrediction]]:
        num_groups = min(len(s.waiting) for s in streams) // self.group
        num_frames = num_groups * self.group
        frames = _joined([s.waiting[:num_frames] for s in streams])
        step = self._step(streams, frames.device, {
            name: _joined([s.maps[name] for s in streams])
            for name in streams[0].maps
        })
        scores = self.scores_of(frames, step).unflatten(
            0, (len(streams), num_groups))
        results = []
        for i, (stream, of_stream) in enumerate(zip(streams, scores)):
            stream.waiting = stream.waiting[num_frames:]
            stream.maps = {
                name: maps.chunk(len(streams))[i]
                for name, maps in step.maps.items()
            }
            first = stream.num_steps - self.delay
            stream.num_steps += num_groups
            results.append([
                stream.predict(pair, of_pair)
                for pair, of_pair in enumerate(of_stream, first) if pair >= 0
            ])
        return results

    def _step(self, streams: Sequence[_Stream], device: torch.device,
              maps: Dict[str, Tensor]) -> StreamStep:
        first = [s.num_steps for s in streams]
        return StreamStep(
            maps,
            first=torch.tensor(first, device=device),
            num_frames=torch.tensor(
                [s.num_frames if s.ended else ENDLESS for s in streams],
                device=device),
            group=self.group,
            within=min(first) > self.delay and not any(
                s.ended for s in streams))

    def scores_of(self, frames: Tensor, step: StreamStep) -> Tensor:
        """Run a step.

        Args:
            frames (Tensor): The new frames, stream after stream, ``(streams *
                groups * frames per group, C, H, W)``.
            step (StreamStep): The step, which is changed.

        Returns:
            Tensor: The scores of the groups that are finished, ``(streams *
            groups, num_classes)``.
        """
        for module in self.modules.values():
            module.step = step
        feats, _ = self.model.extract_feat(
            frames[None], stage='backbone', test_mode=True)
        if not isinstance(feats, Tensor):
            feats = feats[-1]
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
