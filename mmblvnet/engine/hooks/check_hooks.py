"""What stops a run, or is reported, before it wastes time."""

from collections import ChainMap, defaultdict
from typing import Any, Dict, Optional, Sequence

import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader, Runner, find_latest_checkpoint
from torch import Tensor, nn

from mmblvnet.checkpoints.safe_loading import load_checkpoint
from mmblvnet.checkpoints.validation import mismatches, report, weights_in

HEAD = 'cls_head.'
SAFE = 'safe://'


def model_of(runner: Runner) -> nn.Module:
    """The model without what distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@CheckpointLoader.register_scheme(SAFE, force=True)
def load_from_safe(filename: str, map_location: Any = None) -> dict:
    """Load what MMEngine's loader takes, without running code in it."""
    return load_checkpoint(filename.removeprefix(SAFE), map_location)


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Refuse checkpoints that do not fit the model or hold no numbers.

    MMEngine loads what fits and warns of the rest, so that a test with the
    wrong config gives the accuracy of partly random weights. It also runs
    code in files that it downloads, and the config in a file that it resumes
    from.

    Args:
        may_differ (Sequence[str]): Starts of the names of weights that may be
            missing, left over or of another shape where training starts from
            a checkpoint (``load_from``). Defaults to ``('cls_head.', )``,
            since other data has other classes. Where a checkpoint is tested,
            or training resumed from it, every weight has to fit.

    Raises:
        RuntimeError: If a weight is missing, left over, of another shape or
            not finite, with its name, or if there are no weights, or nothing
            of the training that is to be resumed.
    """

    def __init__(self, may_differ: Sequence[str] = (HEAD,)) -> None:
        self.may_differ = tuple(may_differ)

    def before_run(self, runner: Runner) -> None:
        """Have the runner load its checkpoint without running code in it."""
        # Others have strategies that load.
        file = _file_of(runner) if isinstance(runner, Runner) else None
        if file is not None:
            runner._load_from = f'{SAFE}{file}'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint that was read with the model."""
        file = _file_of(runner)
        try:
            weights = weights_in(checkpoint)
        except ValueError as error:
            raise RuntimeError(f'The checkpoint {file} cannot be loaded: {error}') from error
        expected = model_of(runner).state_dict()
        # A head without weights, FeatureHead, stands in for the trained one.
        if not any(name.startswith(HEAD) for name in expected):
            weights = {k: v for k, v in weights.items() if not k.startswith(HEAD)}
        problems = mismatches(expected, weights)
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            problems = {k: v for k, v in problems.items() if not k.startswith(self.may_differ)}
        if problems:
            raise RuntimeError(
                f'The checkpoint {file} does not belong to the model of the config, in {len(problems)} weights. Give '
                'the one that does; to start training from another model on purpose, name what may differ: '
                'CheckpointCheckHook(may_differ=[..])\n' + report(problems)
            )
        if not runner._resume:
            return
        meta, hub = (part if isinstance(part, dict) else {} for part in map(checkpoint.get, ('meta', 'message_hub')))
        if not hub or not all(isinstance(meta.get(key), int) for key in ('epoch', 'iter')):
            raise RuntimeError(
                f'The checkpoint {file} holds no training that could be resumed, only weights. To start from them, set '
                'load_from to it and leave --resume out'
            )
        # MMEngine would run it, for settings that only mmcv 1 had.
        meta.pop('config', None)


def _file_of(runner: Runner) -> Optional[str]:
    """The checkpoint that a runner loads."""
    file = runner._load_from
    if file is None and runner._resume:
        file = find_latest_checkpoint(runner.work_dir)
    return file and str(file).removeprefix(SAFE)


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

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None, outputs=None, mode='train') -> None:
        # Tools of MMAction2 run without any data.
        for data_sample in data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []:
            broken = dict(data_sample.get('broken_videos', ()))
            self._broken[mode].update(broken)
            self._name(runner, broken)

    def _name(self, runner: Runner, broken: Dict[str, str]) -> None:
        for video, message in broken.items():
            if video not in self._named:
                self._named.add(video)
                runner.logger.warning(message)

    def _report(self, runner: Runner, mode: str, text: str) -> int:
        """Log the number of broken videos in all processes, and name them."""
        broken = dict(ChainMap(*all_gather_object(self._broken[mode])))
        self._name(runner, broken)
        if broken:
            runner.logger.warning(text.format(len(broken)))
        return len(broken)

    def after_train_epoch(self, runner: Runner) -> None:
        text = f'Epoch {runner.epoch + 1}: {{}} videos could not be read; other samples took their places'
        self._report(runner, 'train', text)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None, mode: str = 'val') -> None:
        num_broken = self._report(runner, mode, '{} videos could not be read and count as wrong')
        if num_broken and metrics is not None:
            metrics['missing_videos'] = num_broken

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        self.after_val_epoch(runner, metrics, 'test')


def _check_labels(runner: Runner, dataset, lowest: int) -> None:
    head = getattr(model_of(runner), 'cls_head', None)
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
            f'{problem} of {info.get("filename", info.get("frame_dir"))} does not fit {type(head).__name__} with '
            f'num_classes = {num_classes}, whose labels are 0 to {num_classes - 1}. Correct the annotation file, the '
            'num_classes of the data set, or model.cls_head.num_classes'
        )


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop training when the loss is no number any more.

    The steps in which it is not are counted on the device; the count is
    looked at every few steps, and before a checkpoint is written, so that the
    last checkpoint is always one from before.

    Args:
        interval (int): Steps between two looks. Defaults to 5.
        patience (int): With a loss scaler, so many steps in a row may
            overflow, since it leaves them out and lowers its scale. Without
            one, the first ends the training. Defaults to 10.
    """

    # Before CheckpointHook writes what the loss has spoiled.
    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 5, patience: int = 10) -> None:
        self.interval = interval
        self.patience = patience
        self._streak = torch.tensor(0)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None, outputs: dict = None) -> None:
        # MMAction2's vis_scheduler runs without a model.
        if outputs is None:
            return
        loss = outputs['loss'].detach()
        streak = self._streak.to(loss.device)
        self._streak = (streak + 1) * (~loss.isfinite()).any()
        if self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        scaled = scaler is not None and scaler.is_enabled()
        streak = int(self._streak)
        if streak > (self.patience if scaled else 0):
            last = find_latest_checkpoint(runner.work_dir)
            raise RuntimeError(
                f'The loss is not finite any more, after step {runner.iter + 1} for {streak} steps. The last '
                f'checkpoint from before: {last or "none"}. Go on from it with a lower learning rate '
                '(default_hooks.learning_rate.new_lr=True lets it replace that of the checkpoint), or with gradients '
                'clipped (optim_wrapper.clip_grad)'
            )
