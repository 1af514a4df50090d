import itertools
import re

import pytest
import torch
from mmblvnet.engine.hooks import LearningRateHook
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

VIDEOS = 32
# Numbers the runs, since the name of a run selects its log file.
RUNS = itertools.count()
WARMUP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6)
COSINE = dict(type='CosineAnnealingLR', eta_min=0, T_max=5, convert_to_iter_based=True)
ITERATIONS = dict(type='CosineAnnealingLR', eta_min=1e-3, by_epoch=False)
STEPS = dict(type='MultiStepLR', milestones=[1, 3], by_epoch=True)


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, mode='loss'):
        return dict(loss=self.layer(torch.stack(inputs)).square().mean())


class Diary(Hook):
    """A hook that records the learning rates and interrupts training before epoch `last`."""

    priority = 'LOWEST'

    def __init__(self, last=None) -> None:
        self.rates = []
        self.last = last

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])

    def before_train_epoch(self, runner) -> None:
        if runner.epoch == self.last:
            raise KeyboardInterrupt


def train(
    folder,
    last=None,
    batch_size=4,
    lr=0.1,
    accumulate=1,
    epochs=5,
    schedules=(WARMUP, COSINE),
    decay=0.0,
    base=None,
    resume=False,
    new_lr=False,
    by_epoch=True,
    load_from=None,
):
    """Train, and return the learning rate of every iteration and the runner."""
    diary = Diary(last)
    Runner._log_env = lambda *args: None  # takes most of the time
    runner = Runner(
        Model(),
        str(folder),
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=[dict(inputs=torch.rand(2)) for _ in range(VIDEOS)],
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        optim_wrapper=dict(accumulative_counts=accumulate, optimizer=dict(type='SGD', lr=lr, weight_decay=decay)),
        param_scheduler=[dict(schedule) for schedule in schedules],
        train_cfg=dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=40),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1 if by_epoch else 16, by_epoch=by_epoch)),
        custom_hooks=[LearningRateHook(new_lr), diary],
        auto_scale_lr=base and dict(enable=True, base_batch_size=base),
        resume=resume,
        load_from=load_from,
        default_scope='mmaction',
        experiment_name=f'rates_{next(RUNS)}',
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    return diary.rates, runner


@pytest.mark.parametrize(
    'batch_size, accumulate, rate, schedules',
    [(4, 4, 0.1, ()), (4, 1, 0.025, (WARMUP, COSINE)), (16, 2, 0.2, (WARMUP, COSINE))],
)
def test_the_rate_scales_with_the_videos_per_step(tmp_path, batch_size, accumulate, rate, schedules):
    rates, _ = train(tmp_path / 'a', batch_size=batch_size, accumulate=accumulate, base=16, schedules=schedules)
    wanted, _ = train(tmp_path / 'b', batch_size=batch_size, lr=rate, schedules=schedules)
    assert rates == pytest.approx(wanted, abs=1e-9)


def log(folder) -> str:
    """Return the log of the last run."""
    return max(folder.glob('*/*.log')).read_text()


IN_EPOCHS, IN_ITERATIONS = (WARMUP, COSINE), (STEPS, ITERATIONS)
CHANGES = {
    'smaller batches': (dict(batch_size=2), IN_ITERATIONS, 'has 16 iterations, not 8'),
    'more epochs': (dict(epochs=8), IN_EPOCHS, 'end is (8|64), not (5|40)'),
    'rate': (dict(lr=0.01, new_lr=True), IN_EPOCHS, 'lr is 0.01, not 0.1'),
    'scaled': (dict(base=16, accumulate=2), IN_ITERATIONS, 'lr is 0.05, not 0.1'),
    'decay': (dict(decay=0.01), IN_ITERATIONS, 'weight_decay is 0.01, not 0'),
    'schedule': (dict(schedules=(ITERATIONS, STEPS, WARMUP)), IN_EPOCHS, 'there are 3 schedules, not 2'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_the_config_decides_where_the_checkpoint_differs(tmp_path, change):
    options, schedules, message = CHANGES[change]
    options = dict(dict(schedules=schedules), **options)
    wanted, ends = train(tmp_path / 'b', **options)
    train(tmp_path / 'a', last=2, schedules=schedules)
    rates, runner = train(tmp_path / 'a', resume=True, **options)
    assert rates == wanted[-len(rates) :]
    assert runner.iter == ends.iter
    group = runner.optim_wrapper.param_groups[0]
    assert group['weight_decay'] == options.get('decay', 0)
    assert re.search(f'WARNING - Settings of the config .*{message}', log(tmp_path / 'a'))
    # The rate at which training resumes.
    assert f'is {rates[0]:g} now' in log(tmp_path / 'a')


def test_a_checkpoint_without_an_optimizer_is_resumed(tmp_path):
    wanted, _ = train(tmp_path / 'b', epochs=8)
    train(tmp_path / 'a', last=2)
    file = tmp_path / 'a' / 'epoch_2.pth'
    content = torch.load(file, weights_only=False)
    del content['optimizer']
    torch.save(content, file)
    rates, _ = train(tmp_path / 'a', resume=True, epochs=8)
    assert rates == wanted[-len(rates) :]


def test_a_rate_without_a_schedule_can_be_changed(tmp_path):
    train(tmp_path, last=2, schedules=())
    rates, _ = train(tmp_path, resume=True, lr=0.01, new_lr=True, schedules=())
    assert set(rates) == {0.01}
    assert '; in the checkpoint it is 0.1\n' in log(tmp_path)


def test_resuming_without_auto_scale_lr_is_refused(tmp_path):
    train(tmp_path, last=2, base=16)
    with pytest.raises(ValueError, match='lr is 0.1, not 0.025.*new_lr=True'):
        train(tmp_path, resume=True)


@pytest.mark.parametrize(
    'options', [dict(accumulate=4, base=16), dict(schedules=(dict(type='ReduceOnPlateauLR', monitor='loss'),))]
)
def test_an_unchanged_config_resumes_silently(tmp_path, options):
    wanted, _ = train(tmp_path / 'b', **options)
    first, _ = train(tmp_path / 'a', last=2, **options)
    rest, _ = train(tmp_path / 'a', resume=True, **options)
    assert first + rest == wanted
    assert 'WARNING - The config' not in log(tmp_path / 'a')


def test_training_by_iterations_follows_its_config(tmp_path):
    wanted, _ = train(tmp_path / 'b', by_epoch=False, lr=0.01)
    train(tmp_path / 'a', by_epoch=False)
    (tmp_path / 'a' / 'last_checkpoint').write_text(str(tmp_path / 'a' / 'iter_16.pth'))
    rates, _ = train(tmp_path / 'a', by_epoch=False, lr=0.01, new_lr=True, resume=True)
    assert rates == wanted[16:]


def test_load_from_changes_no_rate(tmp_path):
    wanted, runner = train(tmp_path / 'b', lr=0.01, batch_size=2)
    train(tmp_path / 'a')
    rates, _ = train(tmp_path / 'c', lr=0.01, batch_size=2, load_from=str(tmp_path / 'a' / 'epoch_5.pth'))
    assert rates == wanted
