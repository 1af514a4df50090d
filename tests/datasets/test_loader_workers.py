import random

import numpy as np
import pytest
import torch
from mmblvnet.datasets import start_worker
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from paths import MOTION


class Draws:
    """Samples that are what an augmentation would draw for them."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return np.random.random(), random.random(), torch.rand(()).item()


class Unsendable:
    """What cannot be handed on, as when shared memory is full."""

    def __reduce__(self):
        raise RuntimeError('unable to write to file </torch_1>: No space left '
                           'on device (28)')


class UnsendableSamples(Draws):

    def __getitem__(self, index):
        return Unsendable()


def loader(dataset, start_method=None, **settings):
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=1,
            sampler=dict(type=DefaultSampler, shuffle=False),
            collate_fn=dict(type=list),
            worker_init_fn=dict(type='start_worker'),
            **settings),
        seed=0)
    loader.multiprocessing_context = start_method
    return loader


def epochs(number, **settings):
    torch.manual_seed(0)
    batches = loader(Draws(), num_workers=2, **settings)
    return [[draw for sample, in batches for draw in sample]
            for _ in range(number)]


def test_each_epoch_and_each_worker_draws_anew_under_any_start_method():
    first, second = epochs(2)
    assert len(set(first + second)) == len(first + second)
    assert epochs(2, start_method='spawn') == [first, second]


def test_another_rank_draws_other_numbers(monkeypatch):
    (here, ) = epochs(1)
    monkeypatch.setenv('RANK', '1')
    (there, ) = epochs(1)
    assert not set(here) & set(there)


def test_a_batch_that_cannot_be_handed_on_ends_the_loading(capfd):
    with pytest.raises(RuntimeError, match='exited unexpectedly'):
        list(loader(UnsendableSamples(), num_workers=1))
    printed = capfd.readouterr().err
    assert '</torch_1>' in printed
    assert 'shared memory' in printed and '--shm-size' in printed


def test_the_configs_need_no_other_option_without_workers():
    cfg = Config.fromfile(MOTION)
    for split in ('train', 'val', 'test'):
        settings = dict(cfg[f'{split}_dataloader'], num_workers=0)
        assert settings['worker_init_fn']['type'] == start_worker.__name__
        Runner.build_dataloader(dict(settings, dataset=Draws()))
