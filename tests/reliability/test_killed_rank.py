"""A distributed job ends when one of its ranks is killed."""

import signal
import time
from pathlib import Path

import pytest
from make_motion_dataset import make_dataset
from mim_job import STEP, Job, send

PATIENCE = 60


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('motion')
    make_dataset(folder, train=16, val=8, seed=0)
    return folder


@pytest.fixture
def job(tmp_path, data):
    """Start a long training with two ranks; kill it after the test."""
    job = Job(
        data,
        tmp_path,
        '--launcher',
        'pytorch',
        '--gpus',
        '2',
        '--cfg-options',
        'env_cfg.dist_cfg.backend=gloo',
        'train_cfg.max_epochs=1000',
        'train_cfg.val_interval=1000',
        'default_hooks.checkpoint.interval=1000',
    )
    yield job
    job.kill()


def processor_time(process):
    """Return the CPU time of a process over all threads, in clock ticks."""
    stat = Path(f'/proc/{process}/stat').read_text()
    user, system = stat.rpartition(')')[2].split()[11:13]
    return int(user) + int(system)


def wait_until_it_waits(process):
    """Wait until a process uses no CPU time, since it waits for the stopped rank."""
    then, now = None, processor_time(process)
    while now != then:
        time.sleep(3)
        then, now = now, processor_time(process)


@pytest.mark.slow
@pytest.mark.parametrize('waiting', [0, 1])
@pytest.mark.parametrize('killed', [0, 1])
def test_a_killed_rank_ends_the_job(job, killed, waiting):
    assert job.watch(STEP, 3), job.log
    ranks = job.ranks()
    assert sorted(ranks) == [0, 1]
    # One rank is inside a collective operation, the other stopped before it.
    send(ranks[1 - waiting], signal.SIGSTOP)
    wait_until_it_waits(ranks[waiting])
    send(ranks[killed], signal.SIGKILL)
    send(ranks[1 - waiting], signal.SIGCONT)

    end = time.monotonic() + PATIENCE
    assert job.wait(PATIENCE) != 0
    assert f'rank      : {killed} ' in job.log
    assert 'Signal 9 (SIGKILL)' in job.log
    # The other rank and the data loader workers must end, too.
    while job.processes():
        assert time.monotonic() < end
        time.sleep(0.5)
