import io
import os
import pickle
import resource
import zipfile

import pytest
import torch
from mmblvnet.utils.safe_loading import load_safely, memory_limit


def peak_memory():
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize('new_format', [True, False])
def test_a_checkpoint_is_loaded(tmp_path, new_format):
    content = dict(
        state_dict=dict(weight=torch.randn(3, 4)),
        best_top1=torch.tensor(59.1).double().numpy()[()],
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2))}))
    file = tmp_path / 'published.pth.tar'
    torch.save(content, file, _use_new_zipfile_serialization=new_format)
    loaded = load_safely(file)
    assert torch.equal(loaded['state_dict']['weight'],
                       content['state_dict']['weight'])
    assert loaded['best_top1'] == content['best_top1']


def refuse(file, message):
    before = peak_memory()
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ValueError, match=message) as error:
        load_safely(file)
    assert str(file) in str(error.value)
    assert len(str(error.value)) < 2000
    assert peak_memory() < before + 512
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits


@pytest.mark.parametrize('content', [
    b'', b'not a checkpoint', b'PK\x03\x04', os.urandom(99),
    pickle.dumps(dict(a=1))[:9]
], ids=['empty', 'text', 'zip', 'noise', 'pickle'])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    file = tmp_path / 'notes.txt'
    file.write_bytes(content)
    refuse(file, 'no checkpoint that can be loaded safely')


@pytest.mark.parametrize('new_format', [True, False])
def test_a_truncated_file_is_refused(tmp_path, new_format):
    file = tmp_path / 'published.pth.tar'
    torch.save(dict(weight=torch.ones(999)), file,
               _use_new_zipfile_serialization=new_format)
    file.write_bytes(file.read_bytes()[:-300])
    refuse(file, 'no checkpoint that can be loaded safely')


def test_what_is_no_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    refuse(tmp_path / 'list.pth', 'holds a list')


class Call:

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('new_format', [True, False])
def test_a_file_that_runs_code_is_refused(tmp_path, new_format):
    trace = tmp_path / 'executed'
    torch.save(dict(state_dict=Call(os.mkdir, str(trace))),
               tmp_path / 'hostile.pth',
               _use_new_zipfile_serialization=new_format)
    refuse(tmp_path / 'hostile.pth', 'mkdir')
    assert not trace.exists()


@pytest.mark.parametrize('function', [bytearray, torch.Tensor])
def test_a_few_bytes_cannot_ask_for_much_memory(tmp_path, function):
    torch.save(dict(weight=Call(function, 2**34)), tmp_path / 'bomb.pth')
    refuse(tmp_path / 'bomb.pth', '(?i)memory')


def test_a_zip_bomb_is_refused(tmp_path):
    plain, bomb = io.BytesIO(), tmp_path / 'bomb.pth'
    torch.save(dict(weight=torch.zeros(2**27)), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(
            bomb, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    del plain, source
    assert bomb.stat().st_size < 2**23
    refuse(bomb, '(?i)memory')


def test_a_limit_of_the_users_stays():
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2**40, hard))
    try:
        with memory_limit(2**50):
            assert resource.getrlimit(resource.RLIMIT_DATA) == (2**40, hard)
        assert resource.getrlimit(resource.RLIMIT_DATA) == (2**40, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
