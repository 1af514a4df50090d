from typing import Optional

import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint


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

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None, outputs: Optional[dict] = None
    ) -> None:
        """Count a step."""
        # MMAction2's vis_scheduler runs without a model.
        if outputs is None:
            return
        loss = outputs['loss'].detach()
        streak = self._streak.to(loss.device)
        self._streak = (streak + 1) * (~loss.isfinite()).any()
        if self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the count."""
        self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the count, so that no spoiled checkpoint is written."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        scaled = scaler is not None and scaler.is_enabled()
        streak = int(self._streak)
        if streak > (self.patience if scaled else 0):
            last = find_latest_checkpoint(runner.work_dir)
            raise RuntimeError(
                f'The loss is not finite any more, after step '
                f'{runner.iter + 1} for {streak} steps. The last checkpoint '
                f'from before: {last or "none"}. Go on from it with a lower '
                'learning rate (default_hooks.learning_rate.new_lr=True lets '
                'it replace that of the checkpoint), or with gradients '
                'clipped (optim_wrapper.clip_grad)'
            )
