from typing import Optional, Sequence

from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Checks labels before a run and reports broken videos during it.

    The labels have to fit the head's number of classes. Videos that a
    :class:`CheckedVideoDataset` could not read are named once in the log, and
    each epoch, validation or test ends with their number.
    """

    def __init__(self) -> None:
        self._named = set()
        self._broken = set()

    def before_train(self, runner: Runner) -> None:
        """Check the labels that are trained on.

        Raises:
            ValueError: If one does not fit the head.
        """
        self._check_labels(runner, runner.train_dataloader.dataset, lowest=0)

    def before_val(self, runner: Runner) -> None:
        """Check the labels that are validated on."""
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
        if num_classes is None:
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

    def before_train_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self._broken.clear()

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self._broken.clear()

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self._broken.clear()

    def _after_iter(self,
                    runner: Runner,
                    batch_idx: int,
                    data_batch: Optional[dict] = None,
                    outputs=None,
                    mode: str = 'train') -> None:
        for data_sample in (data_batch or {}).get('data_samples', []):
            self._broken.update(data_sample.get('broken_videos', ()))
        self._name(runner, sorted(self._broken))

    def _name(self, runner: Runner, messages: Sequence[str]) -> None:
        for message in messages:
            if message not in self._named:
                self._named.add(message)
                runner.logger.warning(message)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report how many videos were replaced in the epoch."""
        num_broken = self._count(runner)
        if num_broken:
            runner.logger.warning(
                f'Epoch {runner.epoch + 1}: {num_broken} videos could not be '
                'read; other samples took their places')

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: Optional[dict] = None) -> None:
        """Report how many videos are missing from the validation."""
        self._report_missing(runner, metrics)

    def after_test_epoch(self,
                         runner: Runner,
                         metrics: Optional[dict] = None) -> None:
        """Report how many videos are missing from the test."""
        self._report_missing(runner, metrics)

    def _report_missing(self, runner: Runner,
                        metrics: Optional[dict]) -> None:
        num_broken = self._count(runner)
        if num_broken:
            runner.logger.warning(
                f'{num_broken} videos could not be read and count as wrong')
            if metrics is not None:
                metrics['missing_videos'] = num_broken

    def _count(self, runner: Runner) -> int:
        """The broken videos of all processes, named where they were not."""
        everywhere = set().union(*all_gather_object(self._broken))
        self._name(runner, sorted(everywhere))
        return len(everywhere)
