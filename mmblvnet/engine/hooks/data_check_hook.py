import functools
import multiprocessing
import os
import re
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional

from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mmblvnet.datasets.checked_dataset import BrokenVideoError
from mmblvnet.datasets.reading_notes import (ReadingNote, read_notes,
                                             start_notes)

TIMED_OUT = re.compile(r'DataLoader timed out after ([\d.]+) seconds')


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Checks labels before a run and reports broken videos during it.

    The labels have to fit the head's number of classes. Videos that a
    :class:`CheckedVideoDataset` could not read are named once in the log, and
    each epoch, validation or test ends with their number. One that a loader
    worker died of or hangs at is named in the error that ends the run.

    What each process is reading stands in the folder ``reading`` beside the
    log while a run lasts, and stays there if the run dies.
    """

    # Before RuntimeInfoHook hands the metrics on to the log.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._named = set()
        # Broken videos and messages of the epoch, per mode.
        self._broken = defaultdict(dict)

    def before_run(self, runner: Runner) -> None:
        """Let datasets note what they read, and loops read it in an error."""
        loops = dict(
            train=runner._train_loop,
            val=runner._val_loop,
            test=runner._test_loop)
        for mode, loop in loops.items():
            if not isinstance(loop, BaseLoop):
                continue
            folder = start_notes(self._notes_folder(runner) / mode)
            for dataset in _checked_datasets(loop.dataloader.dataset):
                dataset.notes_folder = folder
            loop.run = _naming_videos(loop.run, folder)

    def after_run(self, runner: Runner) -> None:
        """Remove the notes of a run that has come to its end."""
        shutil.rmtree(self._notes_folder(runner), ignore_errors=True)

    @staticmethod
    def _notes_folder(runner: Runner) -> Path:
        return Path(runner.log_dir, 'reading', f'rank{get_rank()}')

    def before_train(self, runner: Runner) -> None:
        """Check the labels that are trained and validated on.

        Raises:
            ValueError: If one does not fit the head.
        """
        self._check_labels(runner, runner.train_dataloader.dataset, lowest=0)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Check the labels that are validated on; -1 stands for none."""
        self._check_labels(runner, runner.val_dataloader.dataset, lowest=-1)

    def before_test(self, runner: Runner) -> None:
        """Check the labels that are tested on; -1 stands for none."""
        self._check_labels(runner, runner.test_dataloader.dataset, lowest=-1)

    @staticmethod
    def _check_labels(runner: Runner, dataset, lowest: int) -> None:
        model = runner.model.module if is_model_wrapper(
            runner.model) else runner.model
        head = getattr(model, 'cls_head', None)
        num_classes = getattr(head, 'num_classes', None)
        # Only MMEngine's datasets tell a label without loading the sample.
        if num_classes is None or not hasattr(dataset, 'get_data_info'):
            return
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            label = info.get('label')
            if isinstance(label, int) and not lowest <= label < num_classes:
                raise ValueError(
                    f'The label {label} of '
                    f'{info.get("filename", info.get("frame_dir"))} does not '
                    f'fit {type(head).__name__} with num_classes = '
                    f'{num_classes}, whose labels are 0 to {num_classes - 1}. '
                    'Correct the annotation file or '
                    'model.cls_head.num_classes')

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._broken[mode].clear()

    def _after_iter(self,
                    runner: Runner,
                    batch_idx: int,
                    data_batch: Optional[dict] = None,
                    outputs=None,
                    mode: str = 'train') -> None:
        for data_sample in (data_batch or {}).get('data_samples', []):
            broken = dict(data_sample.get('broken_videos', ()))
            self._broken[mode].update(broken)
            self._name(runner, broken)

    def _name(self, runner: Runner, broken: Dict[str, str]) -> None:
        for video, message in broken.items():
            if video not in self._named:
                self._named.add(video)
                runner.logger.warning(message)

    def _count(self, runner: Runner, mode: str) -> int:
        """The broken videos of all processes, named where they were not."""
        everywhere = {}
        for broken in all_gather_object(self._broken[mode]):
            everywhere.update(broken)
        self._name(runner, everywhere)
        return len(everywhere)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report how many videos were replaced in the epoch."""
        num_broken = self._count(runner, 'train')
        if num_broken:
            runner.logger.warning(
                f'Epoch {runner.epoch + 1}: {num_broken} videos could not be '
                'read; other samples took their places')

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: Optional[dict] = None) -> None:
        """Report how many videos are missing from the validation."""
        self._report_missing(runner, 'val', metrics)

    def after_test_epoch(self,
                         runner: Runner,
                         metrics: Optional[dict] = None) -> None:
        """Report how many videos are missing from the test."""
        self._report_missing(runner, 'test', metrics)

    def _report_missing(self, runner: Runner, mode: str,
                        metrics: Optional[dict]) -> None:
        num_broken = self._count(runner, mode)
        if num_broken:
            runner.logger.warning(
                f'{num_broken} videos could not be read and count as wrong')
            if metrics is not None:
                metrics['missing_videos'] = num_broken


def _checked_datasets(dataset) -> Iterator:
    """The checked datasets in a dataset, which may wrap others."""
    if hasattr(dataset, 'notes_folder'):
        yield dataset
    for inner in (getattr(dataset, 'dataset', None),
                  *getattr(dataset, 'datasets', ())):
        if inner is not None:
            yield from _checked_datasets(inner)


def _naming_videos(run: Callable, folder: str) -> Callable:
    """Let a loop name the videos that its loader workers failed at."""

    @functools.wraps(run)
    def run_naming(*args, **kwargs):
        try:
            return run(*args, **kwargs)
        except Exception as error:
            # PyTorch may tell of the death at any call from here on as well.
            try:
                named = _named(error, folder)
            except RuntimeError:
                named = _named(error, folder)
            if named is None:
                raise
            raise named from error

    return run_naming


def _named(error: Exception, folder: str) -> Optional[BrokenVideoError]:
    """The error that names the video, None if it has to do with none."""
    timed_out = TIMED_OUT.search(str(error))
    if timed_out:
        return _slow(timed_out[1], folder)
    # What a worker has sent is gone with it, which shows just before.
    wait = isinstance(error, (OSError, EOFError))
    note = _left_by_the_dead(folder, wait)
    if note is None:
        return None
    return BrokenVideoError(
        note.video, f'The process that was reading {note.video} died: the '
        'decoder crashed on it, or the system ended it for want of memory. '
        f'Take the video out of {note.ann_file} and go on with --resume')


def _left_by_the_dead(folder: str, wait: bool) -> Optional[ReadingNote]:
    """The note of a worker that died while it was reading.

    PyTorch tells of a death wherever the main process happens to be, so that
    an error alone does not show it.

    Args:
        folder (str): Where the notes are.
        wait (bool): Whether the worker may be about to die.
    """
    for _ in range(20 if wait else 1):
        living = {worker.pid for worker in multiprocessing.active_children()}
        living.add(os.getpid())
        for note in read_notes(folder):
            if note.process not in living:
                return note
        if wait:
            time.sleep(0.1)
    return None


def _slow(seconds: str, folder: str) -> Optional[BrokenVideoError]:
    notes = read_notes(folder)
    if not notes:
        return None
    videos = ', '.join(note.video for note in notes)
    return BrokenVideoError(
        notes[0].video, f'No sample came within the timeout of {seconds} '
        f'seconds, while the workers were reading {videos}. If the decoder '
        f'hangs at one of them, take it out of {notes[0].ann_file} and go on '
        'with --resume; else set a longer timeout in the dataloader')
