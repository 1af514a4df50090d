import errno
import inspect
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.evaluation import ConfusionMatrix
from mmaction.models import Recognizer2D
from mmaction.registry import MODELS
from mmblvnet import compat
from mmengine.dist import utils as dist_utils
from mmengine.fileio import LocalBackend
from mmengine.hooks import checkpoint_hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from networks import recognizer
from torch import nn


def test_drn_says_what_is_missing():
    with pytest.raises(ImportError, match='mmaction2/issues/2714'):
        MODELS.build(dict(type='DRN'))


def test_a_drn_that_is_there_is_left_alone(tmp_path, monkeypatch):
    package = tmp_path / 'mmaction'
    folder = package / 'models' / 'localizers' / 'drn'
    folder.mkdir(parents=True)
    (folder / 'drn.py').write_text('')
    monkeypatch.setattr(compat.mmaction, '__file__',
                        str(package / '__init__.py'))
    name = 'mmaction.models.localizers.drn'
    monkeypatch.delitem(sys.modules, name)
    compat.provide_drn()
    assert name not in sys.modules


def history():
    buffer = HistoryBuffer()
    buffer.update(0.5, 2)
    buffer.update(3)
    return buffer


def test_mmengine_checkpoints_load_with_their_logs(tmp_path):
    file = str(tmp_path / 'epoch_1.pth')
    content = dict(
        state_dict=dict(weight=torch.ones(2, 2), bias=torch.zeros(2)),
        message_hub=dict(log_scalars=dict(loss=history())),
        best=np.float64(0.5),
        order=np.arange(3),
        flags=np.array([True]))
    torch.save(content, file)
    loaded = CheckpointLoader.load_checkpoint(file)
    buffer = loaded['message_hub']['log_scalars']['loss']
    assert buffer.mean() == history().mean()
    assert buffer.statistics('max') == 3
    assert loaded['best'] == 0.5
    assert loaded['order'].tolist() == [0, 1, 2]
    load_checkpoint(nn.Linear(2, 2), file, strict=True)


class Shell:

    def __reduce__(self):
        return os.system, ('echo executed', )


class Attribute:
    """Asks for any attribute that a checkpoint should not get at."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize('content', [
    Shell(),
    Attribute(HistoryBuffer, '__init__'),
    Attribute(HistoryBuffer, 'register_statistics'),
    Attribute(torch.Tensor, 'mean'),
    Attribute(HistoryBuffer, '__reduce__'),
], ids=lambda c: getattr(c, 'arguments', ('shell', 'shell'))[1])
def test_a_checkpoint_that_does_anything_else_is_refused(tmp_path, content):
    file = str(tmp_path / 'hostile.pth')
    torch.save(dict(state_dict=dict(), content=content), file)
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(file)


def test_the_allow_list_stays_short_where_mmengine_decides(monkeypatch):
    added = []
    monkeypatch.setattr(torch.serialization, 'add_safe_globals', added.extend)
    monkeypatch.setattr(
        compat.inspect, 'getsource',
        lambda _: 'torch.load(filename, weights_only=False)')
    compat.allow_mmengine_checkpoints()
    assert added == []


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    backend = LocalBackend()
    file = tmp_path / 'new' / 'epoch_1.pth'
    backend.put(b'whole', file)
    backend.put(b'another', file)

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space.*--resume.*epoch_1.pth') as e:
        backend.put(b'half', file)
    assert e.value.errno == errno.ENOSPC
    assert file.read_bytes() == b'another'
    assert os.listdir(file.parent) == ['epoch_1.pth']


def test_a_file_is_not_there_before_it_is_whole(tmp_path):
    file = tmp_path / 'last_checkpoint'
    with checkpoint_hook.open(file, 'w') as unfinished:
        unfinished.write('epoch_1.pth')
        assert not file.exists()
    assert file.read_text() == 'epoch_1.pth'
    with pytest.raises(KeyboardInterrupt):
        with checkpoint_hook.open(file, 'w') as unfinished:
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ['last_checkpoint']
    assert file.read_text() == 'epoch_1.pth'


def test_links_and_devices_stay_what_they_are(tmp_path):
    file, link = tmp_path / 'epoch_1.pth', tmp_path / 'latest.pth'
    link.symlink_to(file)
    LocalBackend().put(b'content', link)
    assert link.is_symlink() and file.read_bytes() == b'content'
    LocalBackend().put(b'content', os.devnull)
    assert not os.path.isfile(os.devnull)


def test_the_old_checkpoint_goes_when_the_new_one_is_there():
    events = []
    backend = SimpleNamespace(remove=lambda path: events.append(f'-{path}'))

    def save(self):
        self.file_backend.remove('old')
        events.append('+new')

    compat._removing_last(save)(SimpleNamespace(file_backend=backend))
    assert events == ['+new', '-old']


def test_a_sound_writer_is_left_alone(monkeypatch):

    def put(self, obj, filepath):
        os.replace(obj, filepath)

    monkeypatch.setattr(LocalBackend, 'put', put)
    compat.write_files_whole()
    assert LocalBackend.put is put
    monkeypatch.delattr(checkpoint_hook, 'open')
    monkeypatch.setattr(compat.inspect, 'getsource', lambda _: 'mended')
    compat.write_last_checkpoint_whole()
    assert not hasattr(checkpoint_hook, 'open')


def test_nccl_without_cuda_is_explained(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RuntimeError, match='env_cfg.dist_cfg.backend=gloo'):
        dist_utils._init_dist_pytorch('nccl')


def test_with_cuda_the_device_is_set_as_upstream_does(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    init = compat._without_cuda_device(lambda *args: calls.append(args))
    init('nccl')
    assert calls == [('nccl', )]


def test_testing_views_that_cut_a_clip_are_refused():
    model = recognizer(
        dict(type='BLVNet', depth=50, num_segments=4),
        dict(type='TSNHead', in_channels=2048),
        test_cfg=dict(max_testing_views=6))
    with pytest.raises(ValueError, match='max_testing_views = 6.*= 4'):
        model.extract_feat(torch.randn(1, 8, 3, 32, 32), test_mode=True)


def test_a_sound_recognizer_is_left_alone(monkeypatch):
    before = Recognizer2D.extract_feat
    monkeypatch.setattr(compat.inspect, 'getsource', lambda _: 'mended')
    compat.bound_testing_views()
    compat.give_necks_a_tuple()
    assert Recognizer2D.extract_feat is before


def test_fully_convolutional_testing_still_works():
    model = recognizer(
        dict(type='BLVNet', depth=50, num_segments=4),
        dict(type='TSNHead', in_channels=2048),
        test_cfg=dict(fcn_test=True, max_testing_views=4)).eval()
    with torch.no_grad():
        feats, kwargs = model.extract_feat(
            torch.randn(2, 8, 3, 32, 32), test_mode=True)
    assert feats.shape == (4, 2048, 4, 1, 1)
    assert kwargs['fcn_test']


def test_the_patched_signature_is_upstreams():
    patched = inspect.signature(
        Recognizer2D.extract_feat, follow_wrapped=False)
    upstream = inspect.signature(inspect.unwrap(Recognizer2D.extract_feat))
    assert list(patched.parameters) == list(upstream.parameters)


def test_mmaction_models_import_first_or_last():
    code = ('import mmaction.registry, mmblvnet, mmaction.models\n'
            'assert "BLVNet" in mmaction.registry.MODELS.module_dict\n'
            'assert "DRN" in mmaction.registry.MODELS.module_dict')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_a_confusion_matrix_leaves_unlabelled_samples_out():
    metric = ConfusionMatrix(num_classes=2)
    metric.process(None, [
        dict(
            gt_label=torch.tensor([label]),
            pred_label=torch.tensor([predicted]),
            num_classes=2) for label, predicted in [(0, 0), (1, 0), (-1, 1)]
    ])
    result = metric.compute_metrics(metric.results)
    matrix = result['result']
    assert matrix.tolist() == [[1, 0], [1, 0]]
