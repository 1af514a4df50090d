"""Random numbers of seeded data loaders: the order of samples and what workers draw."""

import gc
import random

import av
import numpy as np
import pytest
import torch
from mmblvnet.datasets import start_worker
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from paths import MOTION
from tiny_videos import write_video

ALONE = dict(num_workers=0)
# MMAction2's configs set fork; Python 3.14 has another default.
MMENGINES = dict(num_workers=2, multiprocessing_context='fork')
OURS = dict(MMENGINES, worker_init_fn=dict(type='start_worker'))


class Draws:
    """A data set whose samples are the random numbers an augmentation would draw."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        draw = np.random.random(), random.random(), torch.rand(()).item()
        return index, draw


class Unsendable:
    """A sample that fails to pickle, with the error of a full shared memory."""

    def __reduce__(self):
        raise RuntimeError('unable to write to file </torch_1>: No space left on device (28)')


class UnsendableSamples(Draws):
    def __getitem__(self, index):
        return Unsendable()


class Collections(Draws):
    """Samples that collect the garbage of the main process, unless it is frozen."""

    def __getitem__(self, index):
        return gc.collect()


def build(dataset, **settings):
    return Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=1,
            sampler=dict(type=DefaultSampler, shuffle=True),
            collate_fn=dict(type=list),
            **settings,
        ),
        seed=0,
    )


def epochs(settings, numbers):
    """Yield the order and the draws of each epoch of a training that starts with these epochs."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    loader = build(Draws(), **settings)
    for number in numbers:
        loader.sampler.set_epoch(number)  # as MMEngine's hook does
        order, draws = zip(*[sample for (sample,) in loader])
        yield order, draws


def test_the_order_depends_on_the_epoch_alone():
    expected = None
    for settings in (ALONE, MMENGINES, OURS):
        (first, _), (second, _) = epochs(settings, [0, 1])
        ((resumed, _),) = epochs(settings, [1])
        assert first != second == resumed
        assert expected in (None, (first, second))
        expected = first, second


def test_each_epoch_and_each_worker_draws_other_random_numbers():
    (_, first), (_, second) = epochs(OURS, [0, 1])
    draws = sum(first + second, ())
    assert len(set(draws)) == len(draws)
    # Not those without workers; MMEngine's own worker_init_fn repeats them.
    ((_, alone),) = epochs(ALONE, [0])
    assert not set(alone) & set(first)
    (_, first), (_, second) = epochs(MMENGINES, [0, 1])
    assert first == second


@pytest.mark.parametrize('settings', [ALONE, OURS], ids=['alone', 'workers'])
def test_resumed_training_draws_what_the_first_epoch_drew(settings):
    (_, first), (_, second) = epochs(settings, [0, 1])
    ((_, resumed),) = epochs(settings, [1])
    assert resumed == first != second


def test_each_rank_draws_other_random_numbers(monkeypatch):
    ((_, here),) = epochs(OURS, [0])
    monkeypatch.setenv('RANK', '1')
    ((_, there),) = epochs(OURS, [0])
    assert not set(here) & set(there)


def test_a_batch_that_a_worker_cannot_send_ends_the_loading(capfd):
    with pytest.raises(RuntimeError, match='exited unexpectedly'):
        list(build(UnsendableSamples(), **OURS))
    printed = capfd.readouterr().err
    assert '</torch_1>' in printed
    assert 'shared memory' in printed and '--shm-size' in printed


def test_num_workers_can_be_0_without_another_change():
    cfg = Config.fromfile(MOTION)
    for split in ('train', 'val', 'test'):
        settings = dict(cfg[f'{split}_dataloader'], num_workers=0)
        assert settings['worker_init_fn']['type'] == start_worker.__name__
        Runner.build_dataloader(dict(settings, dataset=Draws()))


def test_a_worker_frees_no_decoder_of_the_main_process(tmp_path):
    gc.collect()
    gc.disable()
    try:
        # The decoder has threads, and remains in a reference cycle of PyAV.
        container = av.open(write_video(tmp_path / 'a.webm'))
        next(container.decode(video=0))
        del container
        assert len(list(build(Collections(), timeout=30, **OURS))) == 6
    finally:
        gc.enable()
