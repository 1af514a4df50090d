"""Hooks for training."""

import warnings
from typing import Iterator, List

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmblvnet.models.common import TemporalModule

# State of schedules, and parameters of groups; all other keys are settings.
PROGRESS = {'last_step', '_global_step', '_last_value', 'verbose', 'params'}


@HOOKS.register_module()
class LearningRateHook(Hook):
    """Hook that makes training use the learning rate of the config.

    MMEngine's ``--auto-scale-lr`` scales it to the videos per iteration, though
    an optimizer step sees ``accumulative_counts`` times as many; this hook
    scales it to those. When training is resumed, MMEngine takes the settings of
    the optimizer and the schedules from the checkpoint, and the old number of
    iterations per epoch; with this hook the config decides, and a warning names
    both values. If a schedule depends on metrics (``ReduceOnPlateauLR``), all
    settings are restored from the checkpoint.

    Args:
        new_lr (bool): Whether resumed training may use another learning rate
            than the checkpoint. Defaults to False: a ValueError, since the
            cause may be a forgotten ``--auto-scale-lr``.
    """

    # After CheckpointCheckHook has checked the checkpoint.
    priority = 'LOW'

    def __init__(self, new_lr: bool = False) -> None:
        self.new_lr = new_lr
        self._is_scaled = False

    def before_run(self, runner: Runner) -> None:
        """Scale the learning rate by the iterations per optimizer step too, under ``--auto-scale-lr``."""
        counts = runner.optim_wrapper._accumulative_counts if _trains(runner) else 1
        # A validation or test after training calls this again.
        if counts == 1 or self._is_scaled or not _auto_scales_lr(runner):
            return
        self._is_scaled = True
        for group in runner.optim_wrapper.param_groups:
            for name in {'lr', 'initial_lr'} & set(group):
                group[name] *= counts
        for schedule in _schedules(runner):
            if schedule.param_name == 'lr':
                schedule.base_values = [value * counts for value in schedule.base_values]
        runner.logger.info(
            f'An optimizer step covers accumulative_counts = {counts} iterations. Scaling the LR by {counts} as well.'
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the settings in a checkpoint to resume from by those of the config."""
        if not runner._resume or not _trains(runner) or any(hasattr(s, 'need_val_args') for s in _schedules(runner)):
            return
        # Without its state (save_optimizer=False) the optimizer starts afresh.
        checkpoint.setdefault('optimizer', runner.optim_wrapper.state_dict())
        changes = list(dict.fromkeys(_changes(runner, checkpoint)))
        if not changes:
            return
        rates = [c for c in changes if c.startswith(('initial_lr ', 'lr '))]
        if rates and not (self.new_lr or _auto_scales_lr(runner)):
            raise ValueError(
                f"The learning rate differs from the checkpoint's: {rates[0]}. Pass the options of the original "
                'training, e.g. --auto-scale-lr; or, to continue with the new learning rate, --cfg-options '
                'default_hooks.learning_rate.new_lr=True'
            )
        before = checkpoint['optimizer']['param_groups'][0]['lr']
        _follow_config(runner, checkpoint)
        runner.logger.warning(
            f'Settings of the config replace those of the checkpoint: {"; ".join(changes)}. The learning rate is '
            f'{runner.optim_wrapper.get_lr()["lr"][0]:g} now; in the checkpoint it is {before:g}'
        )


def _changes(runner: Runner, checkpoint: dict) -> Iterator[str]:
    """Yield how the config, before the first step, differs from a checkpoint."""
    schedules, saved = _schedules(runner), checkpoint.get('param_schedulers') or []
    progress = PROGRESS | {s.param_name for s in schedules}
    pairs = [
        ('', *groups) for groups in zip(_groups(runner.optim_wrapper.state_dict()), _groups(checkpoint['optimizer']))
    ]
    pairs += [(f'{type(new).__name__}.', new.state_dict(), old) for new, old in zip(schedules, saved)]
    for name, new, old in pairs:
        for key in sorted((new.keys() | old.keys()) - progress):
            if new.get(key) != old.get(key):
                yield f'{name}{key} is {new.get(key)}, not {old.get(key)}'
    if len(schedules) != len(saved):
        yield f'there are {len(schedules)} schedules, not {len(saved)}'
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        info = checkpoint['message_hub'].get('runtime_info', {})
        old = info.get('max_iters', 0) // info.get('max_epochs', 1)
        steps = len(runner.train_dataloader)
        if old not in (0, steps):
            yield f'an epoch has {steps} iterations, not {old}'


def _follow_config(runner: Runner, checkpoint: dict) -> None:
    """Step the config's schedules to the checkpoint's iteration; write them and the optimizer to it."""
    meta, steps = checkpoint['meta'], None
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        steps = len(runner.train_dataloader)
        meta['iter'] = meta['epoch'] * steps
    with warnings.catch_warnings():
        # Schedules warn if the optimizer makes no steps in between.
        warnings.simplefilter('ignore')
        # MMEngine steps the schedules by iteration before those by epoch.
        schedules = sorted(_schedules(runner), key=lambda schedule: schedule.by_epoch)
        for number in range(1, meta['iter'] + 1):
            for schedule in schedules:
                if not schedule.by_epoch or steps and number % steps == 0:
                    schedule.step()
    for new, old in zip(_groups(runner.optim_wrapper.state_dict()), _groups(checkpoint['optimizer'])):
        old.update({**new, 'params': old['params']})
    checkpoint['param_schedulers'] = [schedule.state_dict() for schedule in _schedules(runner)]


def _trains(runner: Runner) -> bool:
    """Return whether the run trains with exactly one optimizer."""
    return isinstance(runner.optim_wrapper, OptimWrapper) and not isinstance(runner.optim_wrapper, OptimWrapperDict)


def _auto_scales_lr(runner: Runner) -> bool:
    return (runner.auto_scale_lr or {}).get('enable', False)


def _schedules(runner: Runner) -> list:
    return runner.param_schedulers or []


def _groups(optimizer: dict) -> List[dict]:
    """Return the parameter groups in an optimizer wrapper's state dict, and its base settings if any."""
    base = optimizer.get('base_param_settings')
    return optimizer['param_groups'] + ([base] if base else [])


@HOOKS.register_module()
class StreamTrainingHook(Hook):
    """Hook that trains a model for streams, where frames precede and follow a clip.

    In training, temporal modules treat the clips of a batch as consecutive:
    instead of padding with zeros, they blend the last frames of one clip with
    the first of the next. Validation and tests keep clips separate.
    """

    def before_train(self, runner: Runner) -> None:
        """Set ``across_clips`` of the temporal modules; raise a ValueError if there are none."""
        modules = [module for module in runner.model.modules() if isinstance(module, TemporalModule)]
        if not modules:
            raise ValueError('StreamTrainingHook found no temporal module in the model: remove it from custom_hooks')
        for module in modules:
            module.across_clips = True
