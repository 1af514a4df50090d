"""What the same seed makes equal."""
import pytest
import torch
from make_motion_dataset import make_dataset
from motion_training import train_motion
from small_training import exit_status, in_a_process


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('motion')
    make_dataset(folder, train=8, val=8, seed=0)
    return folder


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """The checkpoint of an epoch, of a training with some arguments."""
    folders = {}

    def train(again=False, epochs=2, **kwargs):
        key = repr((again, epochs, sorted(kwargs.items())))
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp('trained')
            run(data, folders[key], epochs=epochs, **kwargs)
        return folders[key] / f'epoch_{epochs}.pth'

    return train


def run(data, folder, **kwargs):
    process = in_a_process(folder, lambda: train_motion(
        data, folder, **kwargs))
    assert exit_status(process) == 0, (folder / 'output.txt').read_text()


def weights(file):
    return torch.load(file)['state_dict']


def equal(file, other):
    ours, theirs = weights(file), weights(other)
    return all(torch.equal(theirs[name], ours[name]) for name in ours)


PERSISTENT = dict(num_workers=2, persistent=True)


def test_two_runs_are_equal(trained):
    assert equal(trained(epochs=1), trained(epochs=1, again=True))


@pytest.mark.slow
@pytest.mark.parametrize('workers', [dict(num_workers=2), PERSISTENT],
                         ids=['workers', 'persistent'])
def test_two_runs_with_workers_are_equal(trained, workers):
    assert equal(trained(**workers), trained(again=True, **workers))
