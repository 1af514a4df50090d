"""What training needs."""

import copy
import warnings
from typing import Iterator, List, Optional

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mmblvnet.models.common import TemporalModule

# How far a schedule is; the rest of its state are settings.
PROGRESS = {'last_step', '_global_step', '_last_value', 'verbose'}


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
            ``--auto-scale-lr`` looks the same.
    """

    # Before RuntimeInfoHook writes down how far the training is.
    priority = 'HIGHEST'

    def __init__(self, new_lr: bool = False) -> None:
        self.new_lr = new_lr
        self._wanted: Optional[List[dict]] = None
        self._num_schedules: Optional[int] = None

    def before_run(self, runner: Runner) -> None:
        """Scale the learning rate, and note what the config asks for."""
        # A validation or test, maybe after training, has nothing to learn.
        learns = isinstance(runner._train_loop, BaseLoop) and not isinstance(runner.optim_wrapper, OptimWrapperDict)
        if self._wanted or not learns:
            return
        counts = runner.optim_wrapper._accumulative_counts
        if counts > 1 and _scales(runner):
            for group in runner.optim_wrapper.param_groups:
                for name in {'lr', 'initial_lr'} & set(group):
                    group[name] *= counts
            for schedule in _schedules(runner):
                if schedule.param_name == 'lr':
                    schedule.base_values = [value * counts for value in schedule.base_values]
            runner.logger.info(
                f'A step sees the videos of accumulative_counts = {counts} '
                f'iterations. Scaling the LR by {counts} as well.'
            )
        self._wanted = copy.deepcopy(_state(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._num_schedules = len(checkpoint.get('param_schedulers') or [])

    def before_train(self, runner: Runner) -> None:
        """Let the config decide where a checkpoint differs from it.

        Raises:
            ValueError: If its learning rate is another one by mistake.
        """
        resumes = runner._resume and self._num_schedules is not None
        if not (resumes and self._wanted) or any(getattr(s, 'need_val_args', 0) for s in _schedules(runner)):
            return
        changes = list(dict.fromkeys(self._changes(runner)))
        if not changes:
            return
        rates = [c for c in changes if c.startswith(('initial_lr ', 'lr '))]
        if rates and not (self.new_lr or _scales(runner)):
            raise ValueError(
                f'The learning rate is not the one of the checkpoint: '
                f'{rates[0]}. Give the options that it was trained with as '
                'well, like --auto-scale-lr; or, to go on with the new one, '
                '--cfg-options default_hooks.learning_rate.new_lr=True'
            )
        get_lr = runner.optim_wrapper.get_lr
        before = get_lr()['lr'][0]
        self._follow_config(runner)
        runner.logger.warning(
            'The config differs from the checkpoint, and decides: '
            f'{"; ".join(changes)}. The learning rate is '
            f'{get_lr()["lr"][0]:g} now; in the checkpoint it is {before:g}'
        )

    def _changes(self, runner: Runner) -> Iterator[str]:
        schedules = _schedules(runner)
        progress = PROGRESS | {s.param_name for s in schedules}
        names = [''] * len(runner.optim_wrapper.param_groups) + [f'{type(s).__name__}.' for s in schedules]
        for name, new, old in zip(names, self._wanted, _state(runner)):
            for key in sorted((new.keys() | old.keys()) - progress):
                if new.get(key) != old.get(key):
                    yield (f'{name}{key} is {new.get(key)}, not {old.get(key)}')
        if len(schedules) != self._num_schedules:
            yield (f'there are {len(schedules)} schedules, not {self._num_schedules}')
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            # RuntimeInfoHook has not replaced the checkpoint's yet.
            hub = runner.message_hub
            old = hub.get_info('max_iters', 0) // hub.get_info('max_epochs', 1)
            steps = len(runner.train_dataloader)
            if old not in (0, steps):
                yield f'an epoch has {steps} iterations, not {old}'

    def _follow_config(self, runner: Runner) -> None:
        """Go through the schedules up to where the training is."""
        loop, schedules = runner.train_loop, _schedules(runner)
        steps = None
        if isinstance(loop, EpochBasedTrainLoop):
            steps = len(loop.dataloader)
            loop._iter = loop.epoch * steps
        groups = runner.optim_wrapper.param_groups
        for group, new in zip(groups, self._wanted):
            group.update(new)
        for schedule, new in zip(schedules, self._wanted[len(groups) :]):
            schedule.load_state_dict(new)
        # MMEngine ends an iteration before the epoch that it is the last of.
        schedules = sorted(schedules, key=lambda schedule: schedule.by_epoch)
        with warnings.catch_warnings():
            # The optimizer makes no steps meanwhile.
            warnings.simplefilter('ignore')
            for number in range(1, loop.iter + 1):
                for schedule in schedules:
                    if not schedule.by_epoch or steps and number % steps == 0:
                        schedule.step()
        runner.optim_wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)


def _scales(runner: Runner) -> bool:
    return (runner.auto_scale_lr or {}).get('enable', False)


def _schedules(runner: Runner) -> list:
    return runner.param_schedulers or []


def _state(runner: Runner) -> List[dict]:
    """The settings of each group of parameters, and of each schedule."""
    states = [dict(group) for group in runner.optim_wrapper.param_groups]
    for state in states:
        del state['params']
    return states + [s.state_dict() for s in _schedules(runner)]


@HOOKS.register_module()
class StreamTrainingHook(Hook):
    """Train a model for streams, in which a clip has neighbours.

    In training the clips of a batch follow each other: a temporal module
    blends the last frames of one with the first of the next, as where a
    stream is cut, in the place of zeros. Validation and tests see clips.
    """

    def before_train(self, runner: Runner) -> None:
        """Tell the temporal modules.

        Raises:
            ValueError: If the model has none.
        """
        modules = [module for module in runner.model.modules() if isinstance(module, TemporalModule)]
        if not modules:
            raise ValueError('StreamTrainingHook found no temporal module in the model: take it out of custom_hooks')
        for module in modules:
            module.across_clips = True
