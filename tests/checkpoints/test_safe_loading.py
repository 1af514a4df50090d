import collections
import functools
import io
import os
import pickle
import resource
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmblvnet.checkpoints.safe_loading import load_checkpoint, load_safely


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
    with pytest.raises(ValueError, match=message) as error:
        load_safely(file)
    assert str(file) in str(error.value)
    assert len(str(error.value)) < 2000
    assert peak_memory() < before + 512


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


def test_what_is_downloaded_is_loaded_safely(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    served = tmp_path / 'served'
    served.mkdir()
    torch.save(dict(weight=torch.ones(2)), served / 'good.pth')
    trace = tmp_path / 'executed'
    torch.save(dict(weight=Call(os.mkdir, str(trace))), served / 'bad.pth')
    torch.save(dict(weight=Call(bytearray, 2**34)), served / 'bomb.pth')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=served)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_address[1]}'
        good = load_checkpoint(f'{address}/good.pth')
        with pytest.raises(ValueError, match='bad.pth .*mkdir'):
            load_checkpoint(f'{address}/bad.pth')
        with pytest.raises(ValueError, match='bomb.pth .*(?i:memory)'):
            load_checkpoint(f'{address}/bomb.pth')
        server.shutdown()
    assert good['weight'].tolist() == [1, 1]
    assert not trace.exists()


def test_a_file_that_is_not_there_is_not_found_as_upstream(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        load_checkpoint(str(tmp_path / 'gone.pth'))


@pytest.mark.parametrize('function, argument', [
    (collections.OrderedDict, {i: i for i in range(9999)}),
    (collections.Counter, {i: i for i in range(9999)}),
    (set, [*range(9999)]),
    (bytearray, b'x' * 99999),
])
def test_a_file_cannot_have_its_content_copied_without_end(
        tmp_path, function, argument):
    copies = [Call(function, argument) for _ in range(9999)]
    torch.save(dict(copies=copies), tmp_path / 'copies.pth')
    refuse(tmp_path / 'copies.pth', '(?i)memory')


def test_a_file_of_nothing_but_empty_objects_is_refused(tmp_path):
    pickled = b'\x80\x02}(X\x01\0\0\0a](' + b'\x8f' * 2**22 + b'eu.'
    with zipfile.ZipFile(tmp_path / 'sets.pth', 'w') as archive:
        archive.writestr('sets/data.pkl', pickled)
        archive.writestr('sets/version', '3')
    refuse(tmp_path / 'sets.pth', '(?i)memory')


def test_a_file_with_two_lists_of_records_is_refused(tmp_path):
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'a.pth')
    content = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'b.pth').write_bytes(content + content)
    refuse(tmp_path / 'b.pth', 'begin or end')


def test_a_tar_file_is_refused(tmp_path):
    with tarfile.open(tmp_path / 'old.pth', 'w') as archive:
        archive.add(__file__, 'pickle')
    refuse(tmp_path / 'old.pth', 'tar file')
