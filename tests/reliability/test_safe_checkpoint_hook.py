"""How SafeCheckpointHook improves on MMEngine's CheckpointHook."""

import errno
import logging
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import HOOKS
from mmblvnet.checkpoints.atomic_file import atomic_file
from mmblvnet.engine.hooks.safe_checkpoint_hook import BACKEND, CheckpointBackend
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook, checkpoint_hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from small_training import Model, RisingMetric

BACKENDS = CheckpointBackend()


def hook_of(**settings):
    settings = dict(rule='greater', **settings)
    return HOOKS.build(dict(type='SafeCheckpointHook', **settings))


def runner_in(folder, name, **info):
    hub = MessageHub(name)
    for key, value in info.items():
        hub.update_info(key, value)

    def save_checkpoint(out_dir, filename, *args, **kwargs):
        with open(os.path.join(out_dir, filename), 'wb') as file:
            torch.save(dict(state_dict={}), file)

    return SimpleNamespace(
        work_dir=str(folder),
        message_hub=hub,
        logger=logging.getLogger(),
        epoch=3,
        iter=9,
        save_checkpoint=save_checkpoint,
    )


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / 'new' / 'epoch_1.pth'
    BACKENDS.put(b'whole', file)
    BACKENDS.put(b'another', file)

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space.*--resume.*epoch_1.pth') as e:
        BACKENDS.put(b'half', file)
    assert e.value.errno == errno.ENOSPC
    assert file.read_bytes() == b'another'
    assert os.listdir(file.parent) == ['epoch_1.pth']


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    file = tmp_path / 'last_checkpoint'
    with atomic_file(file, 'w') as unfinished:
        unfinished.write('epoch_1.pth')
        assert not file.exists()
    assert file.read_text() == 'epoch_1.pth'
    with pytest.raises(KeyboardInterrupt):
        with atomic_file(file, 'w') as unfinished:
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ['last_checkpoint']
    assert file.read_text() == 'epoch_1.pth'


def test_links_devices_and_modes_stay_what_they_are(tmp_path):
    file, link = tmp_path / ('e' * 251 + '.pth'), tmp_path / 'latest.pth'
    BACKENDS.put(b'new', file)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask
    file.chmod(0o640)
    link.symlink_to(file)
    BACKENDS.put(b'content', link)
    assert link.is_symlink() and file.read_bytes() == b'content'
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    BACKENDS.put(b'content', os.devnull)
    assert not os.path.isfile(os.devnull)


def write_often(file):
    for _ in range(100):
        BACKENDS.put(b'content', file)


def test_two_processes_may_write_one_file(tmp_path):
    (tmp_path / 'epoch_1.pth.tmp').write_text('of the user')
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write_often, [tmp_path / 'epoch_1.pth'] * 2))
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'epoch_1.pth.tmp']


def test_other_writers_and_backends_are_left_alone(tmp_path):
    assert LocalBackend.put.__module__ == LocalBackend.__module__
    assert CheckpointHook.before_train.__module__ == CheckpointHook.__module__
    hook = hook_of()
    hook.before_train(runner_in(tmp_path, 'alone'))
    assert type(hook.file_backend) is CheckpointBackend
    assert type(get_file_backend(str(tmp_path))) is LocalBackend
    assert not hasattr(checkpoint_hook, 'open')
    assert hook.backend_args == dict(backend=BACKEND)
    # A backend that the user chose is kept.
    hook = hook_of(backend_args=dict(backend='http'))
    hook.before_train(runner_in(tmp_path, 'http'))
    assert hook.backend_args == dict(backend='http')


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def test_an_old_checkpoint_is_removed_after_the_new_one_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_hook, 'is_main_process', lambda: True)
    hook = hook_of(save_best=['acc', 'loss'], max_keep_ckpts=1)
    for name in ('epoch_2.pth', 'best_acc_epoch_2.pth', 'mine.pth'):
        (tmp_path / name).write_text('earlier')
    runner = runner_in(tmp_path, 'order', keep_ckpt_ids=[2], best_ckpt_acc=str(tmp_path / 'best_acc_epoch_2.pth'))
    present = []
    save = runner.save_checkpoint
    runner.save_checkpoint = lambda *args, **kwargs: (present.append(files(tmp_path)), save(*args, **kwargs))
    hook.before_train(runner)
    hook._save_checkpoint_with_step(runner, 3, {})
    hook._save_best_checkpoint(runner, dict(acc=1.0, loss=1.0))
    assert 'epoch_2.pth' in present[0]
    assert 'best_acc_epoch_2.pth' in present[1]
    assert files(tmp_path) == [
        'best_acc_epoch_3.pth',
        'best_loss_epoch_3.pth',
        'epoch_3.pth',
        'last_checkpoint',
        'mine.pth',
    ]
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_3.pth')


def test_resumed_training_removes_no_file_that_a_checkpoint_names(tmp_path):
    victim, work_dir = tmp_path / 'best_victim.pth', tmp_path / 'run'
    (work_dir / 'epoch_').mkdir(parents=True)
    for file in (victim, work_dir / 'notes.pth'):
        file.write_text('of the user')
    for number, info in enumerate(
        [
            dict(best_ckpt=str(victim)),
            dict(best_ckpt=str(work_dir / 'notes.pth')),
            dict(best_ckpt=[str(victim)]),
            dict(keep_ckpt_ids=[f'/../../{victim.stem}', 1, 2]),
        ]
    ):
        hook = hook_of(save_best='acc', max_keep_ckpts=1)
        runner = runner_in(work_dir, f'hostile{number}', **info)
        hook.before_train(runner)
        hook._save_best_checkpoint(runner, dict(acc=1.0))
        assert victim.exists() and (work_dir / 'notes.pth').exists()
        (work_dir / 'best_acc_epoch_3.pth').unlink()


def small_runner(work_dir, **options):
    loader = dict(
        batch_size=1, dataset=[dict(inputs=torch.ones(200))], sampler=dict(type='DefaultSampler', shuffle=False)
    )
    return Runner(
        Model(),
        str(work_dir),
        val_dataloader=loader,
        val_evaluator=[RisingMetric(), Loss()],
        val_cfg=dict(),
        default_scope='mmaction',
        experiment_name=work_dir.name,
        **options,
    )


class Loss(RisingMetric):
    def compute_metrics(self, results):
        return dict(loss=-1 + super().compute_metrics(results)['acc'])


def test_validation_alone_saves_nothing(tmp_path):
    hook = dict(type='SafeCheckpointHook', interval=1, save_best='auto')
    runner = small_runner(tmp_path / 'val', default_hooks=dict(checkpoint=hook))
    runner.message_hub.update_info('epoch', 0)
    assert runner.val()['acc'] == 0
    assert [*tmp_path.rglob('*.pth')] == []


def test_training_resumed_in_another_folder_ends_without_a_better_epoch(tmp_path):
    hook = dict(
        type='SafeCheckpointHook',
        interval=1,
        save_best=['acc', 'loss'],
        rule=['less', 'less'],
        published_keys=['state_dict'],
    )

    def train(name, epochs, **options):
        small_runner(
            tmp_path / name,
            train_dataloader=dict(
                batch_size=1, dataset=[dict(inputs=torch.ones(200))], sampler=dict(type='DefaultSampler', shuffle=False)
            ),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            default_hooks=dict(checkpoint=hook),
            **options,
        ).train()

    train('first', 1)
    train('second', 2, resume=True, load_from=str(tmp_path / 'first' / 'epoch_1.pth'))
    assert (tmp_path / 'first' / 'best_acc_epoch_1.pth').exists()
    assert (tmp_path / 'second' / 'epoch_2.pth').exists()
