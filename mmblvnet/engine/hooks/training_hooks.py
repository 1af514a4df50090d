"""What training needs."""

import warnings
from typing import Iterator, List

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmblvnet.models.common import TemporalModule

# How far a schedule is, and what the groups hold; the rest are settings.
PROGRESS = {'last_step', '_global_step', '_last_value', 'verbose', 'params'}


@HOOKS.register_module()
class LearningRateHook(Hook):
    """Train with the learning rate that the config asks for.

    ``--auto-scale-lr`` fits it to the videos of one iteration, of which a step
    sees ``accumulative_counts`` times as many; with this hook all of them
    count. And resumed training takes the settings of the optimizer and of the
    schedules from the checkpoint, whatever the config says, and counts as if
    an epoch still had as many iterations; with this hook the config decides,
    with a warning that names both values. Schedules that depend on results
    (``ReduceOnPlateauLR``) are left as the checkpoint has them.

    Args:
        new_lr (bool): Whether resumed training may start from another learning
            rate than the checkpoint did. Defaults to False, since a forgotten
            ``--auto-scale-lr`` looks the same and is a ValueError.
    """

    # After CheckpointCheckHook.
    priority = 'LOW'

    def __init__(self, new_lr: bool = False) -> None:
        self.new_lr = new_lr
        self._is_scaled = False

    def before_run(self, runner: Runner) -> None:
        """Scale the learning rate as well by the iterations of a step."""
        counts = runner.optim_wrapper._accumulative_counts if _learns(runner) else 1
        # A validation or test may come after training.
        if counts == 1 or self._is_scaled or not _scales(runner):
            return
        self._is_scaled = True
        for group in runner.optim_wrapper.param_groups:
            for name in {'lr', 'initial_lr'} & set(group):
                group[name] *= counts
        for schedule in _schedules(runner):
            if schedule.param_name == 'lr':
                schedule.base_values = [value * counts for value in schedule.base_values]
        runner.logger.info(
            f'A step sees the videos of accumulative_counts = {counts} iterations. Scaling the LR by {counts} as well.'
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let a checkpoint to resume from say what the config does."""
        if not runner._resume or not _learns(runner) or any(hasattr(s, 'need_val_args') for s in _schedules(runner)):
            return
        # Without one (save_optimizer=False) it starts afresh.
        checkpoint.setdefault('optimizer', runner.optim_wrapper.state_dict())
        changes = list(dict.fromkeys(_changes(runner, checkpoint)))
        if not changes:
            return
        rates = [c for c in changes if c.startswith(('initial_lr ', 'lr '))]
        if rates and not (self.new_lr or _scales(runner)):
            raise ValueError(
                f'The learning rate is not the one of the checkpoint: {rates[0]}. Give the options that it was trained '
                'with as well, like --auto-scale-lr; or, to go on with the new one, --cfg-options '
                'default_hooks.learning_rate.new_lr=True'
            )
        before = checkpoint['optimizer']['param_groups'][0]['lr']
        _follow_config(runner, checkpoint)
        runner.logger.warning(
            f'The config differs from the checkpoint, and decides: {"; ".join(changes)}. The learning rate is '
            f'{runner.optim_wrapper.get_lr()["lr"][0]:g} now; in the checkpoint it is {before:g}'
        )


def _changes(runner: Runner, checkpoint: dict) -> Iterator[str]:
    """In what the config differs from a checkpoint, before its first step."""
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
    """Go through the config's schedules up to where the checkpoint is."""
    meta, steps = checkpoint['meta'], None
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        steps = len(runner.train_dataloader)
        meta['iter'] = meta['epoch'] * steps
    with warnings.catch_warnings():
        # The optimizer makes no steps meanwhile.
        warnings.simplefilter('ignore')
        # MMEngine ends an iteration before the epoch that it is the last of.
        schedules = sorted(_schedules(runner), key=lambda schedule: schedule.by_epoch)
        for number in range(1, meta['iter'] + 1):
            for schedule in schedules:
                if not schedule.by_epoch or steps and number % steps == 0:
                    schedule.step()
    for new, old in zip(_groups(runner.optim_wrapper.state_dict()), _groups(checkpoint['optimizer'])):
        old.update({**new, 'params': old['params']})
    checkpoint['param_schedulers'] = [schedule.state_dict() for schedule in _schedules(runner)]


def _learns(runner: Runner) -> bool:
    """Whether there is an optimizer to train with, and only one."""
    return isinstance(runner.optim_wrapper, OptimWrapper) and not isinstance(runner.optim_wrapper, OptimWrapperDict)


def _scales(runner: Runner) -> bool:
    return (runner.auto_scale_lr or {}).get('enable', False)


def _schedules(runner: Runner) -> list:
    return runner.param_schedulers or []


def _groups(optimizer: dict) -> List[dict]:
    """The settings of each group of parameters in an optimizer's state."""
    base = optimizer.get('base_param_settings')
    return optimizer['param_groups'] + ([base] if base else [])


@HOOKS.register_module()
class StreamTrainingHook(Hook):
    """Train a model for streams, in which a clip has neighbours.

    In training the clips of a batch follow each other: a temporal module
    blends the last frames of one with the first of the next, as where a
    stream is cut, in the place of zeros. Validation and tests see clips.
    """

    def before_train(self, runner: Runner) -> None:
        """Tell the temporal modules, or raise a ValueError without any."""
        modules = [module for module in runner.model.modules() if isinstance(module, TemporalModule)]
        if not modules:
            raise ValueError('StreamTrainingHook found no temporal module in the model: take it out of custom_hooks')
        for module in modules:
            module.across_clips = True
