"""A checkpoint that cannot be written leaves the earlier ones intact."""

import ctypes
import errno
import os
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from small_training import EPOCHS, exit_status, in_a_process, last_checkpoint, train

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
LIBC = ctypes.CDLL(None, use_errno=True)


class BeforeLastCheckpoint(Hook):
    """A hook that calls `act` right before the checkpoint of the last epoch is written."""

    def __init__(self, act):
        self.act = act

    def before_save_checkpoint(self, runner, checkpoint):
        if checkpoint['meta']['epoch'] == EPOCHS:
            self.act()


def enter_own_mount_namespace():
    """Enter new user and mount namespaces, in which a process may mount without root."""
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), 'no user namespaces')
    Path('/proc/self/setgroups').write_text('deny')
    Path('/proc/self/uid_map').write_text(f'0 {user} 1')
    Path('/proc/self/gid_map').write_text(f'0 {group} 1')


def mount(source, target, kind, flags, data):
    arguments = [a and str(a).encode() for a in (source, target, kind)]
    result = LIBC.mount(*arguments, flags, data)
    assert result == 0, os.strerror(ctypes.get_errno())


def train_on_a_disk_that_fills(folder):
    """Train on a tmpfs that is full at the last checkpoint, then resume; run it in a process of its own."""
    work_dir = folder / 'work_dir'
    work_dir.mkdir()
    enter_own_mount_namespace()
    mount('none', work_dir, 'tmpfs', 0, b'size=2m')
    filler = work_dir / 'filler'

    def fill():
        with pytest.raises(OSError), open(filler, 'wb', 0) as file:
            while True:
                file.write(bytes(4096))

    check_failure(folder, fill, errno.ENOSPC)
    filler.unlink()
    train(folder, resume=True)
    assert last_checkpoint(folder)['meta']['epoch'] == EPOCHS


def train_in_a_folder_that_turns_read_only(folder):
    work_dir = folder / 'work_dir'
    work_dir.mkdir()
    enter_own_mount_namespace()

    def turn_read_only():
        mount(work_dir, work_dir, None, MS_BIND, None)
        mount(None, work_dir, None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)

    check_failure(folder, turn_read_only, errno.EROFS)


def check_failure(folder, act, number):
    with pytest.raises(OSError, match='--work-dir.*--resume') as error:
        train(folder, hooks=[BeforeLastCheckpoint(act)])
    assert error.value.errno == number
    assert error.value.filename.endswith(f'epoch_{EPOCHS}.pth')
    files = {file.name for file in (folder / 'work_dir').iterdir()}
    assert {name for name in files if '.pth' in name} == {f'epoch_{EPOCHS - 1}.pth', f'best_acc_epoch_{EPOCHS - 1}.pth'}
    assert not [name for name in files if name.endswith('.tmp')]
    assert last_checkpoint(folder)['meta']['epoch'] == EPOCHS - 1


@pytest.fixture
def own_disks(tmp_path):
    """Skip the test where the system allows no user namespaces."""
    if exit_status(in_a_process(tmp_path, enter_own_mount_namespace)):
        pytest.skip('no user namespaces here')


@pytest.mark.parametrize('fault', [train_on_a_disk_that_fills, train_in_a_folder_that_turns_read_only])
def test_earlier_checkpoints_stay_whole(own_disks, tmp_path, fault):
    status = exit_status(in_a_process(tmp_path, fault, tmp_path))
    assert status == 0, (tmp_path / 'output.txt').read_text()
