"""A killed ``mim train`` continues with ``--resume``."""

from pathlib import Path

import pytest
from make_motion_dataset import make_dataset
from mim_job import STEP, Job
from mmblvnet.checkpoints.safe_loading import load_safely

EPOCHS, STEPS_PER_EPOCH = 3, 2


def train(data, folder, *args):
    return Job(data, folder, *args, '--cfg-options', f'train_cfg.max_epochs={EPOCHS}')


@pytest.mark.slow
def test_killed_training_goes_on_with_resume(tmp_path):
    data, folder = tmp_path / 'motion', tmp_path / 'work_dir'
    make_dataset(data, train=4 * STEPS_PER_EPOCH, val=8, seed=0)
    killed = train(data, folder)
    assert killed.watch(rf'Epoch\(train\)\s+\[{EPOCHS}\]'), killed.log
    killed.kill()
    checkpoint = load_safely(Path((folder / 'last_checkpoint').read_text()))
    completed = checkpoint['meta']['epoch']
    assert completed >= EPOCHS - 1

    resumed = train(data, folder, '--resume')
    assert resumed.wait() == 0, resumed.log
    rates = {}
    for *step, rate in STEP.findall(killed.log) + STEP.findall(resumed.log):
        assert rates.setdefault(tuple(step), rate) == rate
    assert len(rates) == EPOCHS * STEPS_PER_EPOCH
    # Completed epochs are not trained again.
    assert {int(epoch) for epoch, *_ in STEP.findall(resumed.log)} == set(range(completed + 1, EPOCHS + 1))
    meta = load_safely(folder / f'epoch_{EPOCHS}.pth')['meta']
    assert meta['epoch'] == EPOCHS
    assert meta['iter'] == EPOCHS * STEPS_PER_EPOCH
