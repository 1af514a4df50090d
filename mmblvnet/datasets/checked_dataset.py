import logging
import os.path as osp
import re
from itertools import takewhile
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.datasets.transforms import Flip
from mmaction.registry import DATASETS as MMACTION_DATASETS
from mmengine.fileio import list_from_file
from mmengine.logging import print_log

from mmblvnet.registry import DATASETS
from .reading_errors import BrokenVideoError, read_video


class _CheckedDataset:
    """Base class that adds checks of annotations and videos to MMAction2's datasets.

    In training, a random other sample replaces a video that cannot be read. In
    testing, such a video is an error or, with ``skip_broken``, counts as wrong:
    the next sample replaces it, without a label, so that no prediction matches.
    The metainfo ``broken_videos`` of the replacement, pairs of a video and an
    error message, is what :class:`DataCheckHook` reports.
    """

    # The form of a line of the annotation file, for error messages.
    line_form = ''
    delimiter = ' '

    def __init__(self, ann_file: str, *args, skip_broken: bool = False, max_refetch: int = 100, **kwargs) -> None:
        if not isinstance(ann_file, str):
            raise TypeError(
                f'ann_file = {ann_file!r} is not a file path. For several files use '
                "dict(type='ConcatDataset', datasets=[..]) with one dataset per file"
            )
        self.skip_broken = skip_broken
        self._broken: Dict[str, str] = {}
        self._num_failures = 0
        super().__init__(ann_file, *args, max_refetch=max_refetch, **kwargs)  # type: ignore[call-arg]
        if self.multi_class and any(getattr(step, 'flip_label_map', None) for step in self.pipeline.transforms):
            remedy = 'leave out the transform, or the map if mirrored videos keep their labels'
            raise ValueError(f'flip_label_map does not change the labels of multi_class=True: {remedy}')

    def load_data_list(self) -> List[dict]:
        """Load the annotation file and check each of its lines.

        A line is a path, which may contain spaces, followed by whole numbers.
        """
        if self.multi_class and not self.num_classes:
            raise ValueError('multi_class=True requires num_classes')
        try:
            lines = list_from_file(self.ann_file, encoding='utf-8-sig')
        except (OSError, UnicodeDecodeError) as error:
            problem = f'The annotation file {self.ann_file} cannot be read as text in UTF-8: {error}'
            remedy = 'Set ann_file to a text file in UTF-8, or convert it: iconv -f CP1252 (or UTF-16) -t UTF-8'
            raise ValueError(f'{problem}. {remedy}. Each line has to be: {self.line_form}') from error
        while lines and not lines[-1].strip():
            lines.pop()
        if not lines:
            raise ValueError(f'{self.ann_file} is empty; each line has to name a video: {self.line_form}')
        samples = []
        for number, line in enumerate(lines, 1):
            try:
                samples.append(self._sample(*self._split(line.strip())))
            except ValueError as error:
                place = f'{self.ann_file}, line {number}: {line!r}'
                raise ValueError(f'{place} {error}. The form is: {self.line_form}') from None
        return samples

    def _split(self, line: str) -> Tuple[str, List[int]]:
        """Split a line into a path and the whole numbers that follow it."""
        separator = None if self.delimiter == ' ' else self.delimiter
        # Any number of 18 digits fits into 64 bits.
        is_number = re.compile(r'\s*\d{1,18}\s*').fullmatch
        numbers = list(takewhile(is_number, line.split(separator)[:0:-1]))
        path = line.rsplit(separator, len(numbers))[0] if line else ''
        if not path.strip():
            raise ValueError('names no video')
        *before, last = path.split(separator)
        is_signed = before and re.fullmatch(r'[-+]?[\d.]+', last.strip())
        if is_signed or not numbers and not self.test_mode:
            raise ValueError(f'has no label: {last!r} is not a whole number of at least 0')
        return path, list(map(int, numbers[::-1]))

    def _label(self, labels: List[int]) -> dict:
        """Check the labels of a sample and return them as its ``label`` entry."""
        if not labels and not self.test_mode:
            raise ValueError('has no label')
        if self.num_classes and max(labels, default=0) >= self.num_classes:
            end = f'with num_classes = {self.num_classes} labels range from 0 to {self.num_classes - 1}'
            raise ValueError(f'has the label {max(labels)}, but {end}')
        if self.multi_class:
            return dict(label=labels)
        if len(labels) > 1:
            remedy = 'set multi_class=True, or rename the path if it ends with a number'
            raise ValueError(f'has {len(labels)} labels; {remedy}')
        return dict(label=labels[0] if labels else -1)

    def get_cat_ids(self, idx: int) -> Sequence[int]:
        """Return the classes of a sample, for MMEngine's ``ClassBalancedDataset``."""
        label = self.get_data_info(idx)['label']
        if self.multi_class:
            return label.nonzero().flatten().tolist()
        return [] if label < 0 else [label]

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Load and augment a sample; None makes MMEngine draw another one."""
        info = self.get_data_info(idx)
        video = info.get('filename', info.get('frame_dir'))
        remedy = f'Repair it, or take it out of {self.ann_file}'
        if self.test_mode and not self.skip_broken:
            remedy += ', or set skip_broken=True in the dataset to count it as wrong'
        try:
            data = read_video(self.pipeline, info, video, remedy)
        except BrokenVideoError as error:
            if self.test_mode and not self.skip_broken:
                raise
            self._broken[video] = str(error)
            self._num_failures += 1
            if self._num_failures > self.max_refetch:
                raise BrokenVideoError(
                    f'{self._num_failures} videos in a row cannot be read. Check '
                    f'that data_prefix = {self.data_prefix} is right. The last error: {error}'
                ) from error
            if not self.test_mode:
                return None
            # Replace the video by the next sample, without its label.
            data = self.prepare_data((idx + 1) % len(self))  # type: ignore[arg-type]
            data['data_samples'].set_gt_label(torch.zeros(self.num_classes) if self.multi_class else -1)
            return data
        self._num_failures = 0
        if data is not None and self._broken:
            data['data_samples'].set_metainfo(dict(broken_videos=tuple(self._broken.items())))
            self._broken = {}
        return data


@DATASETS.register_module('VideoDataset')
@MMACTION_DATASETS.register_module()
class CheckedVideoDataset(_CheckedDataset, VideoDataset):
    """MMAction2's :class:`VideoDataset` with checks of its annotations and videos.

    In configs it is ``dict(type='VideoDataset', _scope_='mmblvnet')``, since
    MMAction2's tools accept only the names of their own datasets.

    Args:
        skip_broken (bool): In testing, whether a video that cannot be read
            counts as wrong instead of ending the test. Defaults to False.
        max_refetch (int): Number of consecutive unreadable videos that are
            replaced before an error ends the run. Defaults to 100.
        num_classes (int, optional): Number of classes. Labels have to be
            smaller.
        args, kwargs: As for :class:`VideoDataset`.

    Raises:
        ValueError: If the annotation file or one of its lines is malformed.
        BrokenVideoError: If a test video, or too many in a row, cannot be read.
    """

    line_form = 'PATH LABEL'

    def _sample(self, path: str, labels: List[int]) -> dict:
        return dict(filename=osp.join(self.data_prefix['video'] or '', path), **self._label(labels))


@DATASETS.register_module('RawframeDataset')
@MMACTION_DATASETS.register_module()
class CheckedRawframeDataset(_CheckedDataset, RawframeDataset):
    """MMAction2's :class:`RawframeDataset` with checks of its annotations and frames.

    In configs it is ``dict(type='RawframeDataset', _scope_='mmblvnet')``. Its
    further arguments and errors are those of :class:`CheckedVideoDataset`.
    """

    line_form = 'FOLDER [OFFSET] NUMBER_OF_FRAMES LABEL'

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.modality == 'Flow' and any(type(transform) is Flip for transform in self.pipeline.transforms):
            print_log(
                "MMAction2's Flip inverts both channels of every other image of flow: use dict(type='FlowFlip', ..)",
                logger='current',
                level=logging.WARNING,
            )

    def _sample(self, path: str, numbers: List[int]) -> dict:
        names = ('offset', 'total_frames')[not self.with_offset :]
        if len(numbers) < len(names):
            raise ValueError('does not name a folder and how many frames it holds')
        return dict(
            frame_dir=osp.join(self.data_prefix['img'] or '', path),
            **dict(zip(names, numbers)),
            **self._label(numbers[len(names) :]),
        )
