import logging
from numbers import Integral
from typing import Any, List

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from ..reading_errors import UnreadableVideoError

# Frame indices are int32, as in MMAction2, and may start at 1.
MAX_FRAMES = 2**31 - 2
# What to give for each argument, for the message about an invalid value.
REMEDIES = dict(
    clip_len='the num_segments of BLVNet, e.g. 16 for "8x2": each pair of frames shares the two branches',
    num_clips='the number of views',
    frame_interval='the distance between successive frames of a clip, in frames of the video',
    num_consecutive_frames='1, or 5 for stacks of 5 flow images',
)


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and number >= 1


def _check_length(video: str, total_frames: int) -> None:
    if not _is_count(total_frames) or total_frames > MAX_FRAMES:
        problem = f'{video} has an invalid number of frames, {total_frames!r}, in its annotation or header'
        raise UnreadableVideoError(f'{problem}: correct it, or take the video out of the annotation file')
    if total_frames == 1:
        problem = f'{video} has only 1 frame, which fills every clip: it shows no motion'
        remedy = 'Take it out of the annotation file, unless it is a picture on purpose'
        print_log(f'{problem}. {remedy}', logger='current', level=logging.WARNING)


def _merge_equal(clips: List[np.ndarray]) -> List[np.ndarray]:
    """Drop repeated views as far as the mean over the views stays the same."""
    distinct, counts = np.unique(clips, axis=0, return_counts=True)
    return list(np.repeat(distinct, counts // np.gcd.reduce(counts), axis=0))


@TRANSFORMS.register_module()
class BigLittleSampleFrames(BaseTransform):
    """Sample clips whose frames are spread evenly over the whole video.

    bLVNet-TAM samples Something-Something this way. In training one random
    offset shifts all frames of a clip. In testing each view has a fixed offset,
    and NumPy's global random state is not used. Videos shorter than a clip
    repeat some of their frames.

    Required Keys:

    - total_frames
    - start_index

    Added Keys:

    - frame_inds, clip_len, num_clips, frame_interval

    Args:
        clip_len (int): Frames per clip, ``T``, even.
        num_clips (int): Clips, or views, per video. Defaults to 1.
        test_mode (bool): Whether to sample for testing, deterministically.
            Defaults to False.
        num_consecutive_frames (int): Consecutive frames at each position of a
            clip, which FormatShape stacks as channels: 5 for optical flow.
            Defaults to 1.
        merge_equal_views (bool): In testing, whether to drop repeated views of
            identical frames, as short videos have, as far as the mean over the
            views stays the same. Videos of a batch may then have different
            numbers of views, which TestViewsHook evens out. Defaults to False.

    Raises:
        ValueError: If an argument is out of range.
    """

    # For MMAction2's key: evenly spread frames have no fixed interval.
    frame_interval = 1

    def __init__(
        self,
        clip_len: int,
        num_clips: int = 1,
        test_mode: bool = False,
        num_consecutive_frames: int = 1,
        merge_equal_views: bool = False,
    ) -> None:
        self._check(clip_len=clip_len, num_clips=num_clips, num_consecutive_frames=num_consecutive_frames)
        self.clip_len = clip_len
        self.num_clips = num_clips
        self.test_mode = test_mode
        self.num_consecutive_frames = num_consecutive_frames
        self.merge_equal_views = merge_equal_views

    def _check(self, **arguments) -> None:
        for name, number in arguments.items():
            kind = 'a positive even number' if name == 'clip_len' else 'a whole number, at least 1'
            if not _is_count(number) or name == 'clip_len' and number % 2:
                raise ValueError(f'{name} = {number!r} of {type(self).__name__} is not {kind}: give {REMEDIES[name]}')

    def transform(self, results: dict) -> dict:
        """Choose the frames of the clips.

        ``frame_inds``, ``(num_clips * clip_len, )`` in int32, holds view after
        view, without merged ones. Several consecutive frames lie side by side
        in it, and count as a clip of their own in these two numbers.

        Raises:
            UnreadableVideoError: If the number of frames is not a valid one,
                at least 1.
        """
        total_frames = results['total_frames']
        _check_length(results.get('filename', results.get('frame_dir')), total_frames)
        # Number of frames at which a stack of consecutive frames can begin.
        starts = max(1, total_frames - self.num_consecutive_frames + 1)
        if self.test_mode:
            clips = self._test_clips(starts)
            if self.merge_equal_views:
                clips = _merge_equal(clips)
        else:
            clips = [self._train_clip(starts) for _ in range(self.num_clips)]
        # [num_clips * clip_len, num_consecutive_frames]
        frame_inds = np.concatenate(clips)[:, None] + np.arange(self.num_consecutive_frames)
        frame_inds = np.minimum(frame_inds, total_frames - 1).reshape(-1)
        frame_inds += results['start_index']
        results.update(frame_inds=frame_inds.astype(np.int32), frame_interval=self.frame_interval)
        results.update(clip_len=self.clip_len, num_clips=len(clips))
        if self.num_consecutive_frames > 1:
            # FormatShape stacks each such clip as the channels of one image.
            results.update(clip_len=self.num_consecutive_frames, num_clips=len(clips) * self.clip_len)
        return results

    def __repr__(self) -> str:
        arguments = ', '.join(f'{k}={v}' for k, v in vars(self).items())
        return f'{type(self).__name__}({arguments})'

    def _train_clip(self, total_frames: int) -> np.ndarray:
        group = total_frames // self.clip_len
        if group == 0:
            return np.sort(np.random.choice(total_frames, self.clip_len))
        offset = np.random.choice(group, 1, replace=False)
        return np.arange(self.clip_len) * group + offset

    def _test_clips(self, total_frames: int) -> list:
        if total_frames <= self.clip_len:
            states = map(np.random.RandomState, range(self.num_clips))
            return [np.sort(state.choice(total_frames, self.clip_len)) for state in states]
        tick = total_frames / self.clip_len
        offsets = np.arange(-self.num_clips // 2 + 1, self.num_clips // 2 + 1)
        # Less than half a tick, so that each frame stays within its tick.
        offsets = np.clip(offsets, -tick / 2, tick / 2 - 1e-4)
        ticks = tick * np.arange(self.clip_len)
        return [(tick / 2 + offset + ticks).astype(int) for offset in offsets]


@TRANSFORMS.register_module()
class BigLittleDenseSampleFrames(BigLittleSampleFrames):
    """Sample clips whose frames have a fixed interval.

    bLVNet-TAM samples Kinetics this way. In training a clip starts at random;
    in testing the starts of the views are spread evenly. A clip that is longer
    than the video continues at the start of the video.

    Args:
        clip_len (int): Frames per clip, ``T``, even.
        frame_interval (int): Distance between successive frames of a clip, in
            frames of the video.
        num_clips, test_mode, num_consecutive_frames, merge_equal_views: As for
            :class:`BigLittleSampleFrames`, which has the same keys and errors.
    """

    def __init__(self, clip_len: int, frame_interval: int, *args, **kwargs) -> None:
        super().__init__(clip_len, *args, **kwargs)
        self._check(frame_interval=frame_interval)
        self.frame_interval = frame_interval

    def _clip(self, start: int, total_frames: int) -> np.ndarray:
        frames = start + np.arange(self.clip_len) * self.frame_interval
        return frames % total_frames

    def _train_clip(self, total_frames: int) -> np.ndarray:
        starts = total_frames - self.clip_len * self.frame_interval
        start = np.random.randint(starts) if starts > 0 else 0
        return self._clip(start, total_frames)

    def _test_clips(self, total_frames: int) -> list:
        starts = 1 + total_frames - self.clip_len * self.frame_interval
        first_frames = np.linspace(0, max(1, starts) - 1, self.num_clips).astype(int)
        return [self._clip(start, total_frames) for start in first_frames]
