"""Reproducibility of training with the same seed."""

import os
import signal

import pytest
import torch
from mmblvnet.checkpoints.safe_loading import load_safely
from mmengine.hooks import Hook
from motion_training import train_motion
from small_training import exit_status, in_a_process


@pytest.fixture(scope='module')
def trained(motion, tmp_path_factory):
    """Return a function that trains with some arguments and returns the last checkpoint, cached.

    With ``resume``, the training is killed after its first epoch before.
    """
    folders = {}

    def train(again=False, epochs=2, resume=False, **kwargs):
        key = repr((again, epochs, resume, sorted(kwargs.items())))
        if key not in folders:
            folder = folders[key] = tmp_path_factory.mktemp('trained')
            if resume:
                run(motion, folder, killed=True, epochs=epochs, **kwargs)
            run(motion, folder, epochs=epochs, resume=resume, **kwargs)
        return folders[key] / f'epoch_{epochs}.pth'

    return train


def run(motion, folder, killed=False, **kwargs):
    hooks = [KilledAfterEpoch() if killed else Witness(folder / 'steps.pth')]
    process = in_a_process(folder, lambda: train_motion(motion, folder, hooks=hooks, **kwargs))
    wanted = -signal.SIGKILL if killed else 0
    assert exit_status(process) == wanted, (folder / 'output.txt').read_text()


def weights(file):
    return load_safely(file)['state_dict']


def equal(file, other):
    ours, theirs = weights(file), weights(other)
    return all(torch.equal(theirs[name], ours[name]) for name in ours)


class Witness(Hook):
    """A hook that records the batch and the random state (for dropout) of each step."""

    def __init__(self, file):
        self.file = file
        self.steps = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.steps[runner.iter] = dict(batch=torch.stack(data_batch['inputs']), generator=torch.get_rng_state())

    def after_train(self, runner):
        torch.save(self.steps, self.file)


class KilledAfterEpoch(Hook):
    """A hook that kills the process after an epoch, once its checkpoint is complete."""

    priority = 'LOWEST'

    def after_train_epoch(self, runner):
        os.kill(os.getpid(), signal.SIGKILL)


def steps(file):
    return torch.load(file.parent / 'steps.pth')


WORKERS = dict(num_workers=2)
STEPS_PER_EPOCH = 2


def test_two_runs_are_equal(trained):
    options = dict(epochs=1, num_pairs=1)
    assert equal(trained(**options), trained(again=True, **options))


@pytest.mark.slow
def test_two_runs_with_workers_are_equal(trained):
    assert equal(trained(**WORKERS), trained(again=True, **WORKERS))


@pytest.mark.slow
def test_workers_change_nothing_without_augmentation(trained):
    alone = trained(augment=False)
    assert equal(alone, trained(augment=False, **WORKERS))


@pytest.mark.slow
def test_workers_change_the_augmentation(trained):
    alone, workers = steps(trained()), steps(trained(**WORKERS))
    for step in alone:
        assert not torch.equal(workers[step]['batch'], alone[step]['batch'])
    assert not equal(trained(), trained(**WORKERS))


@pytest.mark.slow
@pytest.mark.parametrize('workers', [{}, WORKERS], ids=['alone', 'workers'])
def test_resumed_training_is_equal_without_random_numbers(trained, workers):
    options = dict(augment=False, dropout=0, **workers)
    assert equal(trained(**options), trained(resume=True, **options))


@pytest.mark.slow
def test_resumed_training_repeats_the_dropout_of_the_first_epoch(trained):
    whole, resumed = trained(augment=False), trained(augment=False, resume=True)
    assert list(steps(resumed)) == [2, 3]
    for step in range(STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH):
        now, then = steps(resumed)[step], steps(whole)
        assert torch.equal(now['batch'], then[step]['batch'])
        assert not torch.equal(now['generator'], then[step]['generator'])
        assert torch.equal(now['generator'], then[step - STEPS_PER_EPOCH]['generator'])
    assert not equal(whole, resumed)


@pytest.mark.slow
def test_resumed_training_draws_another_augmentation(trained):
    whole = steps(trained(**WORKERS))
    for step, now in steps(trained(resume=True, **WORKERS)).items():
        assert not torch.equal(now['batch'], whole[step]['batch'])
