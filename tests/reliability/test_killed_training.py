"""Training that is killed goes on from a whole checkpoint."""
import os
import random
import resource
import signal
import sys
import time

import pytest
import torch
from small_training import (EPOCHS, STEPS_PER_EPOCH, exit_status,
                            in_a_process, last_checkpoint, read_diary, train)

FILES = ('.pth', '.pth.tmp', 'last_checkpoint', 'last_checkpoint.tmp')


def watch_files(act):
    """Call something before each change of a checkpoint's file.

    It is Python that reports the changes, so nothing has to be known of how
    the files are written. This cannot be undone.
    """

    def hook(event, args):
        if event not in ('open', 'os.remove', 'os.rename', 'os.truncate'):
            return
        path, flags = str(args[0]), args[2] if event == 'open' else os.O_WRONLY
        if path.endswith(FILES) and flags & (os.O_WRONLY | os.O_RDWR):
            act(event, path)

    sys.addaudithook(hook)


def train_until(folder, number, fault):
    """Train until the change of this number, and die at it."""
    left = [number]

    def act(event, path):
        left[0] -= 1
        if left[0] != 0:
            return
        if fault == 'before':
            os.kill(os.getpid(), signal.SIGKILL)
        # The system lets no file grow beyond a byte: it writes the first
        # and kills us.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))

    watch_files(act)
    train(folder, resume=True)


def write_changes_down(folder):
    with open(folder / 'changes.txt', 'w') as file:
        watch_files(lambda event, path: print(
            event, os.path.basename(path), file=file, flush=True))
        train(folder)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """Folder of a training that nothing happened to."""
    folder = tmp_path_factory.mktemp('uninterrupted')
    output = folder / 'output.txt'
    assert exit_status(in_a_process(folder, write_changes_down,
                                    folder)) == 0, output.read_text()
    return folder


def schedule(folder):
    """The last learning rate that each step was made with."""
    return {entry['step']: entry['lr'] for entry in read_diary(folder)
            if 'step' in entry}


def completed_epochs(folder):
    return max([entry.get('completed', 0) for entry in read_diary(folder)],
               default=0)


def resume_and_check(folder, uninterrupted):
    """Resume training that was killed, and check all that is asked of it."""
    completed = completed_epochs(folder)
    checkpoint = last_checkpoint(folder)
    assert (checkpoint['meta']['epoch'] if checkpoint else 0) >= completed
    entries = len(read_diary(folder))
    assert exit_status(in_a_process(folder, train, folder, True)) == 0, (
        folder / 'output.txt').read_text()
    resumed = [e['step'] for e in read_diary(folder)[entries:] if 'step' in e]
    assert not resumed or resumed[0] >= completed * STEPS_PER_EPOCH
    assert last_checkpoint(folder)['meta']['epoch'] == EPOCHS
    assert schedule(folder) == schedule(uninterrupted)
    weights = last_checkpoint(uninterrupted)['state_dict']
    for name, value in last_checkpoint(folder)['state_dict'].items():
        assert torch.equal(value, weights[name])


def moments(folder):
    """The changes in an epoch in the middle, as numbers of ``train_until``."""
    changes = (folder / 'changes.txt').read_text().splitlines()
    middle = [i for i, change in enumerate(changes) if 'epoch_2.pth' in change]
    return {i + 1: changes[i] for i in range(middle[0], middle[-1] + 1)}


def kill_and_check(tmp_path, uninterrupted, number, change, fault):
    folder = tmp_path / f'{number}_{fault}'
    folder.mkdir()
    status = exit_status(
        in_a_process(folder, train_until, folder, number, fault))
    assert status in (-signal.SIGKILL, -signal.SIGXFSZ), change
    resume_and_check(folder, uninterrupted)


@pytest.mark.parametrize('fault, change', [
    ('within', 'open epoch_2.pth'),
    ('within', 'open last_checkpoint'),
    ('before', 'os.remove epoch_1.pth'),
])
def test_killed_while_a_checkpoint_is_written(tmp_path, uninterrupted, fault,
                                              change):
    for number, found in moments(uninterrupted).items():
        if found.removesuffix('.tmp') == change:
            return kill_and_check(tmp_path, uninterrupted, number, found,
                                  fault)
    pytest.fail(f'there is no {change}')


@pytest.mark.slow
def test_killed_at_every_change_of_a_checkpoint(tmp_path, uninterrupted):
    changes = moments(uninterrupted)
    assert len(changes) >= 8
    for number, change in changes.items():
        kill_and_check(tmp_path, uninterrupted, number, change, 'before')
        if change.startswith('open'):
            kill_and_check(tmp_path, uninterrupted, number, change, 'within')
    print(f'\n{len(changes)} changes')


@pytest.mark.slow
def test_killed_at_random_moments_again_and_again(tmp_path, uninterrupted):
    rng = random.Random(0)
    kills, trainings = 0, 25
    for training in range(trainings):
        folder = tmp_path / str(training)
        folder.mkdir()
        for _ in range(4):
            completed = completed_epochs(folder)
            process = in_a_process(folder, train, folder, True)
            time.sleep(rng.uniform(0.05, 0.4))
            os.kill(process, signal.SIGKILL)
            kills += exit_status(process) != 0
            assert completed_epochs(folder) >= completed
            checkpoint = last_checkpoint(folder)
            assert checkpoint is not None or not completed_epochs(folder)
        resume_and_check(folder, uninterrupted)
    print(f'\n{kills} kills in {trainings} trainings')
