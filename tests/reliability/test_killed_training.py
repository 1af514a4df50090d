"""Killed training resumes from an intact checkpoint."""

import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
from make_motion_dataset import make_dataset
from mmengine.hooks import Hook
from motion_training import train_motion
from small_training import EPOCHS, STEPS_PER_EPOCH, Diary, exit_status, in_a_process, last_checkpoint, read_diary, train

FILES = ('.pth', 'last_checkpoint', '.tmp')


def watch_files(act):
    """Call `act` before each change of a checkpoint file.

    A Python audit hook reports the changes, however the files are written. It
    cannot be removed, so this belongs in a process of its own.
    """

    def hook(event, args):
        if event not in ('open', 'os.remove', 'os.rename', 'os.truncate'):
            return
        path, flags = str(args[0]), args[2] if event == 'open' else os.O_WRONLY
        if path.endswith(FILES) and flags & (os.O_WRONLY | os.O_RDWR):
            act(event, path, *[args[1]] * (event == 'os.rename'))

    sys.addaudithook(hook)


def train_until(folder, number, fault):
    """Train until the change of this number, and die before it or while writing."""
    left = [number]

    def act(event, *paths):
        left[0] -= 1
        if left[0] != 0:
            return
        if fault == 'before':
            os.kill(os.getpid(), signal.SIGKILL)
        # Limits files to one byte: the kernel writes it, then kills this
        # process with SIGXFSZ.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))

    watch_files(act)
    train(folder, resume=True)


def write_changes_down(folder):
    with open(folder / 'changes.txt', 'w') as file:
        watch_files(lambda event, *paths: print(event, *map(os.path.basename, paths), file=file, flush=True))
        train(folder)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """Return the folder of a training that was not interrupted."""
    folder = tmp_path_factory.mktemp('uninterrupted')
    output = folder / 'output.txt'
    assert exit_status(in_a_process(folder, write_changes_down, folder)) == 0, output.read_text()
    return folder


def schedule(folder):
    """Return the learning rate of each step, as of the last time it ran."""
    return {entry['step']: entry['lr'] for entry in read_diary(folder) if 'step' in entry}


def completed_epochs(folder):
    return max([entry.get('completed', 0) for entry in read_diary(folder)], default=0)


def resume_and_check(folder, uninterrupted, train=train):
    """Resume a killed training; it must lose no completed epoch and end like the uninterrupted one."""
    completed = completed_epochs(folder)
    checkpoint = last_checkpoint(folder)
    assert (checkpoint['meta']['epoch'] if checkpoint else 0) >= completed
    entries = len(read_diary(folder))
    assert exit_status(in_a_process(folder, train, folder, True)) == 0, (folder / 'output.txt').read_text()
    resumed = [e['step'] for e in read_diary(folder)[entries:] if 'step' in e]
    assert not resumed or resumed[0] >= completed * STEPS_PER_EPOCH
    assert last_checkpoint(folder)['meta']['epoch'] == EPOCHS
    assert schedule(folder) == schedule(uninterrupted)
    weights = last_checkpoint(uninterrupted)['state_dict']
    for name, value in last_checkpoint(folder)['state_dict'].items():
        assert torch.equal(value, weights[name])


def changes_of_epoch_2(folder):
    """Return the changes from the first to the last of epoch_2.pth, by number for ``train_until``.

    A file is opened under a temporary name, which the next change renames.
    """
    changes = (folder / 'changes.txt').read_text().splitlines()
    for i, change in enumerate(changes):
        if change.startswith('open .checkpoint-'):
            changes[i] = f'open {changes[i + 1].split()[-1]}'
    middle = [i for i, change in enumerate(changes) if 'epoch_2.pth' in change]
    return {i + 1: changes[i] for i in range(middle[0], middle[-1] + 1)}


def kill_and_check(tmp_path, uninterrupted, number, change, fault):
    folder = tmp_path / f'{number}_{fault}'
    folder.mkdir()
    status = exit_status(in_a_process(folder, train_until, folder, number, fault))
    assert status in (-signal.SIGKILL, -signal.SIGXFSZ), change
    resume_and_check(folder, uninterrupted)


@pytest.mark.parametrize(
    'fault, change',
    [('within', 'open epoch_2.pth'), ('within', 'open last_checkpoint'), ('before', 'os.remove epoch_1.pth')],
)
def test_killed_while_a_checkpoint_is_written(tmp_path, uninterrupted, fault, change):
    for number, found in changes_of_epoch_2(uninterrupted).items():
        if found == change:
            return kill_and_check(tmp_path, uninterrupted, number, found, fault)
    pytest.fail(f'there is no {change}')


class Seeds(Hook):
    """A hook that records the seeds of the runner and of the sampler."""

    def __init__(self, file):
        self.file = file

    def before_train(self, runner):
        seeds = [runner.seed, runner.train_dataloader.sampler.seed]
        with open(self.file, 'a') as file:
            file.write(json.dumps(seeds) + '\n')


def test_without_a_seed_resumed_training_takes_another_order(tmp_path):
    file = tmp_path / 'seeds.jsonl'

    def run(epochs):
        np.random.seed()  # unlike a fork, a new process has its own random state
        train(tmp_path, resume=True, epochs=epochs, seed=None, hooks=[Seeds(file)])

    for epochs in (EPOCHS - 1, EPOCHS):
        process = in_a_process(tmp_path, run, epochs)
        assert exit_status(process) == 0, (tmp_path / 'output.txt').read_text()
    (seed, order), (resumed_seed, resumed_order) = [json.loads(line) for line in file.read_text().splitlines()]
    assert seed == order == resumed_seed != resumed_order


@pytest.mark.slow
def test_killed_at_every_change_of_a_checkpoint(tmp_path, uninterrupted):
    changes = changes_of_epoch_2(uninterrupted)
    assert len(changes) >= 8
    for number, change in changes.items():
        kill_and_check(tmp_path, uninterrupted, number, change, 'before')
        if change.startswith('open'):
            kill_and_check(tmp_path, uninterrupted, number, change, 'within')
    print(f'\n{len(changes)} changes')


def runs(process):
    ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended is None


def kill_again_and_again(folder, train, rng, kills, longest):
    """Train, kill the training at random moments and resume it each time.

    Returns:
        list[int]: The number of completed epochs at each kill.
    """
    folder.mkdir()
    moments = []
    for _ in range(kills):
        completed = completed_epochs(folder)
        # Counted in diary entries, since the time to start varies.
        entries = len(read_diary(folder)) + rng.randint(0, 6)
        process = in_a_process(folder, train, folder, True)
        while len(read_diary(folder)) < entries and runs(process):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, longest))
        os.kill(process, signal.SIGKILL)
        if exit_status(process):
            moments.append(completed_epochs(folder))
        checkpoint = last_checkpoint(folder)
        kept = checkpoint['meta']['epoch'] if checkpoint else 0
        assert kept >= completed_epochs(folder) >= completed
    return moments


@pytest.mark.slow
def test_killed_at_random_moments_again_and_again(tmp_path, uninterrupted):
    rng, moments, trainings = random.Random(0), [], 25
    for training in range(trainings):
        folder = tmp_path / str(training)
        moments += kill_again_and_again(folder, train, rng, 4, 0.02)
        resume_and_check(folder, uninterrupted)
    assert set(moments) >= set(range(EPOCHS))  # in each epoch
    print(
        f'\n{len(moments)} kills in {trainings} trainings; with so many '
        f'epochs completed: {dict(sorted(Counter(moments).items()))}'
    )


@pytest.mark.slow
def test_blvnet_killed_again_and_again(tmp_path):
    data = tmp_path / 'motion'
    make_dataset(data, train=4 * STEPS_PER_EPOCH, val=8, seed=0)

    def train(folder, resume=False):
        train_motion(
            data,
            folder / 'work_dir',
            epochs=EPOCHS,
            num_pairs=1,
            num_workers=2,
            persistent=True,
            # Resuming does not restore the state of random generators.
            augment=False,
            dropout=0,
            resume=resume,
            hooks=[Diary(folder / 'diary.jsonl')],
        )

    whole = tmp_path / 'whole'
    whole.mkdir()
    status = exit_status(in_a_process(whole, train, whole))
    assert status == 0, (whole / 'output.txt').read_text()
    killed = tmp_path / 'killed'
    moments = kill_again_and_again(killed, train, random.Random(0), 5, 1)
    print(f'\nepochs completed at {len(moments)} kills: {moments}')
    resume_and_check(killed, whole, train)
