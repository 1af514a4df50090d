"""Hooks that check checkpoints, data and losses, so that no run wastes time on broken ones."""

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
from mmblvnet.datasets.pipelines import check_frames_per_clip

HEAD = 'cls_head.'
SAFE = 'safe://'


def model_of(runner: Runner) -> nn.Module:
    """Return the model without its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@CheckpointLoader.register_scheme(SAFE, force=True)
def load_from_safe(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint, from any place that MMEngine can read, without running code in it."""
    return load_checkpoint(filename.removeprefix(SAFE), map_location)


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Hook that refuses checkpoints that do not fit the model or hold NaN or infinity.

    MMEngine loads the weights that fit and only warns of the others, so that a
    test with the wrong config reports the accuracy of partly random weights. It
    also runs code in downloaded checkpoints, and the Python config inside a
    checkpoint that it resumes from.

    Args:
        may_differ (Sequence[str]): Prefixes of the names of weights that may
            be missing, left over or of another shape when training starts
            from a checkpoint (``load_from``). Defaults to ``('cls_head.', )``,
            since other data has other classes. To test a checkpoint or to
            resume training from it, every weight has to fit.

    Raises:
        RuntimeError: If weights are missing, left over, of another shape or
            not finite (it names them), or if the checkpoint has no weights,
            or no training state although training is to be resumed.
    """

    def __init__(self, may_differ: Sequence[str] = (HEAD,)) -> None:
        self.may_differ = tuple(may_differ)

    def before_run(self, runner: Runner) -> None:
        """Have the runner load its checkpoint without running code in it."""
        # Other runners (FlexibleRunner) load through a strategy.
        file = _file_of(runner) if isinstance(runner, Runner) else None
        if file is not None:
            runner._load_from = f'{SAFE}{file}'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raise a RuntimeError if a checkpoint does not fit the model or the task."""
        file = _file_of(runner)
        try:
            weights = weights_in(checkpoint)
        except ValueError as error:
            raise RuntimeError(f'The checkpoint {file} cannot be loaded: {error}') from error
        expected = model_of(runner).state_dict()
        # FeatureHead, which has no weights, may replace the trained head.
        if not any(name.startswith(HEAD) for name in expected):
            weights = {k: v for k, v in weights.items() if not k.startswith(HEAD)}
        problems = mismatches(expected, weights)
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            problems = {k: v for k, v in problems.items() if not k.startswith(self.may_differ)}
        if problems:
            raise RuntimeError(
                f'The checkpoint {file} does not fit the model of the config in {len(problems)} weights. Use a '
                'matching checkpoint; to start training from another model on purpose, list the prefixes of the '
                'weights that may differ: CheckpointCheckHook(may_differ=[..])\n' + report(problems)
            )
        if not runner._resume:
            return
        meta, hub = (part if isinstance(part, dict) else {} for part in map(checkpoint.get, ('meta', 'message_hub')))
        if not hub or not all(isinstance(meta.get(key), int) for key in ('epoch', 'iter')):
            raise RuntimeError(
                f'The checkpoint {file} contains only weights, no training state to resume. To start from them, set '
                'load_from to it and omit --resume'
            )
        # MMEngine would execute this config, only to find a setting of mmcv 1.
        meta.pop('config', None)


def _file_of(runner: Runner) -> Optional[str]:
    """Return the path or URL of the checkpoint that a runner loads, None without one."""
    file = runner._load_from
    if file is None and runner._resume:
        file = find_latest_checkpoint(runner.work_dir)
    return file and str(file).removeprefix(SAFE)


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Hook that checks the data before a run and reports broken videos during it.

    The labels have to fit the head's number of classes; -1 means that there is
    none, which is allowed in validation and test. Sampler, backbone and head
    have to agree on the frames per clip. The hook logs each video that a
    :class:`CheckedVideoDataset` could not read once, and their number at the
    end of each epoch, validation or test.

    Raises:
        ValueError: If a label does not fit the head, or the frames per clip differ.
    """

    # Adds a metric before RuntimeInfoHook passes the metrics to the log.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._reported = set()
        # The epoch's broken videos with their error messages, per mode.
        self._broken = defaultdict(dict)

    def before_train(self, runner: Runner) -> None:
        _check_data(runner, 'train', lowest=0)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        _check_data(runner, 'val', lowest=-1)

    def before_test(self, runner: Runner) -> None:
        _check_data(runner, 'test', lowest=-1)

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._broken[mode].clear()

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None, outputs=None, mode='train') -> None:
        # Tools of MMAction2 run this hook without data.
        for data_sample in data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []:
            broken = dict(data_sample.get('broken_videos', ()))
            self._broken[mode].update(broken)
            self._warn_once(runner, broken)

    def _warn_once(self, runner: Runner, broken: Dict[str, str]) -> None:
        for video, message in broken.items():
            if video not in self._reported:
                self._reported.add(video)
                runner.logger.warning(message)

    def _report(self, runner: Runner, mode: str, text: str) -> int:
        """Log the broken videos of all processes; return their number."""
        broken = dict(ChainMap(*all_gather_object(self._broken[mode])))
        self._warn_once(runner, broken)
        if broken:
            runner.logger.warning(text.format(len(broken)))
        return len(broken)

    def after_train_epoch(self, runner: Runner) -> None:
        text = f'Epoch {runner.epoch + 1}: {{}} videos could not be read and were replaced by other samples'
        self._report(runner, 'train', text)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None, mode: str = 'val') -> None:
        num_broken = self._report(runner, mode, '{} videos could not be read and count as wrong')
        if num_broken and metrics is not None:
            metrics['missing_videos'] = num_broken

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        self.after_val_epoch(runner, metrics, 'test')


def _check_data(runner: Runner, split: str, lowest: int) -> None:
    model, dataset = model_of(runner), getattr(runner, f'{split}_dataloader').dataset
    check_frames_per_clip(model, runner.cfg, split)
    head = getattr(model, 'cls_head', None)
    num_classes = getattr(head, 'num_classes', None)
    # Only MMEngine's data sets return a label without loading the sample.
    if num_classes is None or not hasattr(dataset, 'get_data_info'):
        return
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        label = info.get('label')
        if isinstance(label, int) and not lowest <= label < num_classes:
            problem = f'The label {label}'
        elif isinstance(label, Tensor) and len(label) != num_classes:
            problem = f'The label vector (num_classes = {len(label)})'
        else:
            continue
        raise ValueError(
            f'{problem} of {info.get("filename", info.get("frame_dir"))} does not fit {type(head).__name__} with '
            f'num_classes = {num_classes}, whose labels are 0 to {num_classes - 1}. Correct the annotation file, the '
            'num_classes of the data set, or model.cls_head.num_classes'
        )


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Hook that stops training when the loss has become NaN or infinite.

    It counts such steps on the device and reads the count only every
    ``interval`` steps, and before a checkpoint is written, so that the last
    checkpoint always precedes them.

    Args:
        interval (int): Steps between two readings. Defaults to 5.
        patience (int): Number of such steps in a row that are allowed with a
            loss scaler, which skips them and lowers its scale. Without one,
            the first ends the training with a RuntimeError. Defaults to 10.
    """

    # Before CheckpointHook, which would save the spoiled weights.
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
                f'The loss has been NaN or infinite for {streak} steps, up to step {runner.iter + 1}. Last checkpoint '
                f'before that: {last or "none"}. Resume from it with a lower learning rate '
                '(default_hooks.learning_rate.new_lr=True lets it replace the one in the checkpoint) or with gradient '
                'clipping (optim_wrapper.clip_grad)'
            )
