"""What MMEngine's loaders draw with a seed: the order, and for the samples."""
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner

WORKERS = dict(num_workers=2)
OURS = dict(num_workers=2, worker_init_fn=dict(type='start_worker'))
LOADERS = [dict(num_workers=0), WORKERS, OURS]
IDS = ['alone', 'workers', 'start_worker']


class Draws:
    """Samples that are what an augmentation would draw for them."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        draw = np.random.random(), random.random(), torch.rand(()).item()
        return index, draw


def epochs(loader, numbers):
    """The order, and the draws, of epochs in a training that starts here."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    loader = Runner.build_dataloader(
        dict(
            dataset=Draws(),
            batch_size=1,
            sampler=dict(type=DefaultSampler, shuffle=True),
            collate_fn=dict(type=list),
            **loader),
        seed=0)
    for number in numbers:
        loader.sampler.set_epoch(number)  # as MMEngine's hook does
        order, draws = zip(*[sample for sample, in loader])
        yield order, draws


@pytest.mark.parametrize('loader', LOADERS, ids=IDS)
def test_the_order_is_another_in_each_epoch_and_survives_resuming(loader):
    (first, _), (second, _) = epochs(loader, [0, 1])
    (resumed, _), = epochs(loader, [1])
    assert first != second
    assert resumed == second


def test_the_order_is_the_same_with_and_without_workers():
    alone, workers, ours = (
        [order for order, _ in epochs(loader, [0, 1])] for loader in LOADERS)
    assert alone == workers == ours


@pytest.mark.parametrize(
    'loader', [LOADERS[0], OURS], ids=['alone', 'start_worker'])
def test_resumed_training_draws_what_the_first_epoch_drew(loader):
    (_, first), (_, second) = epochs(loader, [0, 1])
    (_, resumed), = epochs(loader, [1])
    assert resumed == first != second


def test_mmengines_workers_draw_the_same_in_every_epoch():
    (_, first), (_, second) = epochs(WORKERS, [0, 1])
    assert first == second


def test_two_workers_draw_other_numbers_than_none():
    (_, alone), = epochs(LOADERS[0], [0])
    (_, workers), = epochs(WORKERS, [0])
    assert not set(alone) & set(workers)
