from typing import Dict, List, Optional

import torch
from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.registry import DATASETS
from mmengine.dataset import Compose
from mmengine.fileio import list_from_file

from .reading_errors import BrokenVideoError, read_video


def _is_number(text: str) -> bool:
    """Whether a text is a whole number from 0 that 64 bits hold."""
    return text.isdecimal() and len(text) <= 18


class _CheckedDataset:
    """Checks of annotations and videos, for the datasets of MMAction2.

    In training another sample takes the place of a video that cannot be read;
    such videos travel with that sample as the metainfo ``broken_videos``,
    pairs of a name and a message, for :class:`DataCheckHook` to report. In
    test such a video is an error, or, with ``skip_broken``, counts as wrong:
    the sample in its place has no label that a prediction could meet.
    """

    # What the lines of the annotation file look like, for messages.
    line_form = ''

    def __init__(self,
                 *args,
                 skip_broken: bool = False,
                 max_refetch: int = 100,
                 **kwargs) -> None:
        self.skip_broken = skip_broken
        self._broken: Dict[str, str] = {}
        self._num_failures = 0
        super().__init__(*args, max_refetch=max_refetch, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Load the annotation file and check every line of it.

        Returns:
            list[dict]: The samples.

        Raises:
            ValueError: If the file cannot be read, or a line is out of form,
                or there is none.
        """
        if self.multi_class and not self.num_classes:
            raise ValueError('multi_class=True needs to know num_classes')
        try:
            lines = list_from_file(self.ann_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f'The annotation file {self.ann_file} cannot be read as text '
                f'({error}). Each of its lines has to be: {self.line_form}'
            ) from error
        if lines and lines[0].startswith('\ufeff'):
            raise ValueError(f'{self.ann_file} starts with a byte order mark, '
                             'which would become part of the first path; save '
                             'it as UTF-8 without one')
        if not lines:
            raise ValueError(
                f'{self.ann_file} is empty; each line has to name a video: '
                f'{self.line_form}')
        for number, line in enumerate(lines, 1):
            problem = self._line_problem(line)
            if problem:
                raise ValueError(
                    f'{self.ann_file}, line {number}: {line!r} {problem}. '
                    f'The form is: {self.line_form}')
        return super().load_data_list()

    def _labels_problem(self, labels: List[str]) -> Optional[str]:
        """What is wrong with the labels of a line, None if nothing is."""
        if not labels and not self.test_mode:
            return 'has no label'
        if len(labels) > 1 and not self.multi_class:
            return f'has {len(labels)} labels; for that set multi_class=True'
        for label in labels:
            if not _is_number(label):
                return (f'has the label {label!r}, which is not a whole '
                        'number from 0')
            if self.num_classes and int(label) >= self.num_classes:
                return (f'has the label {label}, but the labels of '
                        f'num_classes = {self.num_classes} classes end at '
                        f'{self.num_classes - 1}')
        return None

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Load and augment a sample.

        Args:
            idx (int): Its index.

        Returns:
            dict, optional: The sample; None in training if its video cannot
            be read, upon which MMEngine asks for another.

        Raises:
            BrokenVideoError: If the video cannot be read in test, or too many
                in a row in training.
        """
        num_loading = self._num_loading()
        try:
            data = self._load(idx, num_loading)
        except BrokenVideoError as error:
            return self._without_video(idx, error)
        self._num_failures = 0
        if data is not None:
            data = Compose(self.pipeline.transforms[num_loading:])(data)
        if data is not None and self._broken:
            data['data_samples'].set_metainfo(
                dict(broken_videos=tuple(self._take_broken().items())))
        return data

    def _num_loading(self) -> int:
        """How many transforms of the pipeline it takes to have frames."""
        names = [type(t).__name__ for t in self.pipeline.transforms]
        return 1 + max(
            (i for i, name in enumerate(names) if name.endswith('Decode')),
            default=-1)

    def _load(self, idx: int, num_loading: int) -> Optional[dict]:
        info = self.get_data_info(idx)
        video = info.get('filename', info.get('frame_dir'))
        return read_video(self.pipeline.transforms[:num_loading], info, video,
                          f'Repair it, or take it out of {self.ann_file}')

    def _take_broken(self) -> Dict[str, str]:
        """The broken videos since the last sample, which are forgotten."""
        broken, self._broken = self._broken, {}
        return broken

    def _without_video(self, idx: int,
                       error: BrokenVideoError) -> Optional[dict]:
        if self.test_mode and not self.skip_broken:
            raise BrokenVideoError(
                error.video,
                f'{error}, or set skip_broken=True in the dataset to count '
                'it as wrong') from error
        self._broken[error.video] = error.message
        self._num_failures += 1
        if self._num_failures > self.max_refetch:
            raise BrokenVideoError(
                error.video,
                f'{self._num_failures} videos in a row cannot be read; does '
                f'data_prefix = {self.data_prefix} lead to them? The last: '
                f'{error}') from error
        if not self.test_mode:
            return None
        data = self.prepare_data((idx + 1) % len(self))
        data['data_samples'].set_gt_label(
            torch.zeros(self.num_classes) if self.multi_class else -1)
        return data


@DATASETS.register_module()
class CheckedVideoDataset(_CheckedDataset, VideoDataset):
    """:class:`VideoDataset` that names what is wrong with its files.

    Args:
        skip_broken (bool): In test, whether a video that cannot be read
            counts as wrong instead of ending the test. Defaults to False.
        max_refetch (int): So many videos in a row may be unreadable in
            training. Defaults to 100.
        num_classes (int, optional): Number of classes, which every label has
            to be below.
        args, kwargs: As for :class:`VideoDataset`.

    Raises:
        ValueError: If a line of the annotation file is out of form.
        BrokenVideoError: If a video cannot be read in test.
    """

    line_form = 'PATH LABEL'

    def _line_problem(self, line: str) -> Optional[str]:
        path, *labels = line.strip().split(self.delimiter)
        if not path:
            return 'names no video'
        if not self.multi_class and len(labels) > 1:
            return (f'has {1 + len(labels)} parts between {self.delimiter!r}; '
                    'if the path contains it, set another delimiter')
        return self._labels_problem(labels)


@DATASETS.register_module()
class CheckedRawframeDataset(_CheckedDataset, RawframeDataset):
    """:class:`RawframeDataset` that names what is wrong with its files.

    Its further arguments and errors are those of
    :class:`CheckedVideoDataset`.
    """

    line_form = 'FOLDER [OFFSET] NUMBER_OF_FRAMES LABEL'

    def _line_problem(self, line: str) -> Optional[str]:
        parts = line.split()
        num_numbers = 2 if self.with_offset else 1
        numbers = parts[1:1 + num_numbers]
        if len(numbers) < num_numbers:
            return 'does not name a folder and how many frames it holds'
        if not all(map(_is_number, numbers)):
            return f'has {numbers} where the number of frames is expected'
        return self._labels_problem(parts[1 + num_numbers:])
