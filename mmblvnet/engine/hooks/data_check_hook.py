from collections import defaultdict
from typing import Dict, Optional

from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Checks labels before a run and reports broken videos during it.

    The labels have to fit the head's number of classes; -1 stands for none,
    which is fine in validation and test. Videos that a
    :class:`CheckedVideoDataset` could not read are named once in the log, and
    each epoch, validation or test ends with their number.

    Raises:
        ValueError: If a label does not fit the head.
    """

    # Before RuntimeInfoHook hands the metrics on to the log.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._named = set()
        # Broken videos and messages of the epoch, per mode.
        self._broken = defaultdict(dict)

    def before_train(self, runner: Runner) -> None:
        _check_labels(runner, runner.train_dataloader.dataset, lowest=0)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        _check_labels(runner, runner.val_dataloader.dataset, lowest=-1)

    def before_test(self, runner: Runner) -> None:
        _check_labels(runner, runner.test_dataloader.dataset, lowest=-1)

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._broken[mode].clear()

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None, outputs=None, mode: str = 'train'
    ) -> None:
        # Tools of MMAction2 run without any data.
        if not isinstance(data_batch, dict):
            return
        for data_sample in data_batch.get('data_samples', []):
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
        num_broken = self._count(runner, 'train')
        if num_broken:
            runner.logger.warning(
                f'Epoch {runner.epoch + 1}: {num_broken} videos could not be read; other samples took their places'
            )

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None, mode: str = 'val') -> None:
        num_broken = self._count(runner, mode)
        if num_broken:
            runner.logger.warning(f'{num_broken} videos could not be read and count as wrong')
            if metrics is not None:
                metrics['missing_videos'] = num_broken

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        self.after_val_epoch(runner, metrics, 'test')


def _check_labels(runner: Runner, dataset, lowest: int) -> None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    head = getattr(model, 'cls_head', None)
    num_classes = getattr(head, 'num_classes', None)
    # Only MMEngine's datasets tell a label without loading the sample.
    if num_classes is None or not hasattr(dataset, 'get_data_info'):
        return
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        label = info.get('label')
        if isinstance(label, int) and not lowest <= label < num_classes:
            problem = f'The label {label}'
        elif isinstance(label, Tensor) and len(label) != num_classes:
            problem = f'The label of num_classes = {len(label)} classes'
        else:
            continue
        raise ValueError(
            f'{problem} of {info.get("filename", info.get("frame_dir"))} '
            f'does not fit {type(head).__name__} with num_classes = '
            f'{num_classes}, whose labels are 0 to {num_classes - 1}. '
            'Correct the annotation file, the num_classes of the data '
            'set, or model.cls_head.num_classes'
        )
