import functools
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from hostile import FILES, Call, check_refusal
from mmblvnet.checkpoints.safe_loading import load_checkpoint, load_safely


@pytest.mark.parametrize('new_format', [True, False])
def test_a_checkpoint_is_loaded(tmp_path, new_format):
    content = dict(
        state_dict=dict(weight=torch.randn(3, 4)),
        best_top1=torch.tensor(59.1).double().numpy()[()],
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2))}),
    )
    file = tmp_path / 'published.pth.tar'
    torch.save(content, file, _use_new_zipfile_serialization=new_format)
    loaded = load_safely(file)
    assert torch.equal(loaded['state_dict']['weight'], content['state_dict']['weight'])
    assert loaded['best_top1'] == content['best_top1']


@pytest.mark.parametrize('kind', FILES)
def test_any_other_file_is_refused_with_its_reason(tmp_path, kind):
    write, reason = FILES[kind]
    file, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    write(file, trace)
    check_refusal(load_safely, file, trace, reason)


def test_a_downloaded_checkpoint_is_loaded_safely(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    served = tmp_path / 'served'
    served.mkdir()
    torch.save(dict(weight=torch.ones(2)), served / 'good.pth')
    trace = tmp_path / 'executed'
    torch.save(dict(weight=Call(os.mkdir, str(trace))), served / 'bad.pth')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=served)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_address[1]}'
        good = load_checkpoint(f'{address}/good.pth')
        with pytest.raises(ValueError, match='bad.pth .*mkdir'):
            load_checkpoint(f'{address}/bad.pth')
        server.shutdown()
    assert good['weight'].tolist() == [1, 1]
    assert not trace.exists()
