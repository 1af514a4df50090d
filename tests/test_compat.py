import collections
import errno
import functools
import inspect
import logging
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.apis.inferencers import ActionRecogInferencer
from mmaction.evaluation import ConfusionMatrix
from mmaction.models import Recognizer2D
from mmaction.registry import HOOKS, MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import GradCAM
import mmblvnet.compat.mmaction as compat_mmaction
import mmblvnet.compat.mmengine as compat_mmengine
from mmblvnet.utils.safe_loading import load_safely
from mmengine.dist import utils as dist_utils
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, checkpoint_hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader, load_checkpoint
from networks import recognizer
from torch import nn


def test_drn_says_what_is_missing():
    with pytest.raises(ImportError, match='mmaction2/issues/2714'):
        MODELS.build(dict(type='DRN'))


@pytest.mark.parametrize('source, with_multimodal', [
    ('from .pytorch_utils import apply_chunking_to_forward', True),
    ('from .pytorch_utils import Conv1D', False),
])
def test_multimodal_models_need_a_transformers_that_fits(
        source, with_multimodal, tmp_path, monkeypatch):
    package = tmp_path / 'transformers'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'modeling_utils.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compat_mmaction.dependency, 'WITH_MULTIMODAL', True)
    compat_mmaction.leave_out_multimodal_models()
    assert compat_mmaction.dependency.WITH_MULTIMODAL == with_multimodal


def test_a_drn_that_is_there_is_left_alone(tmp_path, monkeypatch):
    package = tmp_path / 'mmaction'
    folder = package / 'models' / 'localizers' / 'drn'
    folder.mkdir(parents=True)
    (folder / 'drn.py').write_text('')
    monkeypatch.setattr(compat_mmaction.mmaction, '__file__',
                        str(package / '__init__.py'))
    name = 'mmaction.models.localizers.drn'
    monkeypatch.delitem(sys.modules, name)
    compat_mmaction.provide_drn()
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


class Call:
    """Asks for a function to be called."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Build(Call):
    """Asks for a function to be called, and for its result to get a state."""

    def __init__(self, state, function, *arguments):
        self.call = function, arguments, state


def attribute(owner, *names):
    for name in names:
        owner = Call(getattr, owner, name)
    return owner


def tensor_with(state):
    """A tensor with attributes, which shadow its methods."""
    return Call(
        torch._tensor._rebuild_from_type_v2, torch._utils._rebuild_tensor,
        torch.Tensor, (torch.zeros(1).storage(), 0, (1, ), (1, )), state)


def log_with(**state):
    """A log that says what its state is."""
    log = HistoryBuffer()
    state = dict(log.__dict__, **state)
    log.__getstate__ = lambda: state
    return log


NUMBERS = (3, '<', None, None, None, -1, -1, 0)
FIELDS = (3, '<', None, ('a', ), {'a': (Call(np.dtype, 'f8'), 0)}, -1, -1, 0)
ARRAY = np.ndarray(0).__reduce__()[0], np.ndarray, (0, ), b'b'
SCALAR = np.float64(0).__reduce__()[0]
HOSTILE = dict(
    shell=Call(os.system, 'echo executed'),
    builtin=Call(eval, '1'),
    init=attribute(HistoryBuffer, '__init__'),
    globals=attribute(HistoryBuffer, 'mean', '__globals__'),
    chain=attribute(HistoryBuffer, '__init__', '__globals__'),
    class_of=attribute(HistoryBuffer, '__class__', '__base__'),
    subclasses=attribute(HistoryBuffer, '__subclasses__'),
    reduce=attribute(HistoryBuffer, '__reduce__'),
    register=attribute(HistoryBuffer, 'register_statistics'),
    instance=attribute(Call(HistoryBuffer), 'mean'),
    of_tensor=attribute(torch.Tensor, 'mean'),
    of_array=attribute(np.ndarray, 'tofile'),
    of_type=attribute(np.dtype, '__reduce__'),
    three_arguments=Call(getattr, HistoryBuffer, 'x', 1),
    objects=Call(np.dtype, 'O'),
    record=Call(np.dtype, 'f8,O'),
    text=Call(np.dtype, 'U3'),
    flags=Build((*NUMBERS[:-1], 63), np.dtype, 'f8', False, True),
    fields=Build(FIELDS, np.dtype, 'f8', False, True),
    metadata=Build((4, *NUMBERS[1:], {}), np.dtype, 'M8'),
    size=Build((3, '<', None, None, None, 9, -1, 0), np.dtype, 'f8'),
    short=Build((3, ), np.dtype, 'f8'),
    array_of_objects=Build(
        (1, (1, ), np.dtype('O'), False, [1]), *ARRAY),
    array_of_the_wrong_length=Build(
        (1, (99, ), np.dtype('f8'), False, b'few'), *ARRAY),
    array_of_another_type=Build((1, (1, ), 'f8', False, b'12345678'), *ARRAY),
    scalar_of_an_object=Call(SCALAR, np.dtype('O'), b'12345678'),
    scalar_that_is_short=Call(SCALAR, np.dtype('f8'), b'few'),
    function=torch._utils._rebuild_tensor,
    type_of_a_tensor=torch.Tensor,
    tensor_that_says_it_is_finite=tensor_with(dict(isfinite=torch.Tensor)),
    tensor_with_hooks=tensor_with(dict(_backward_hooks={0: torch.Tensor})),
    tensor_with_a_gradient=tensor_with(dict(grad=torch.zeros(1))),
    dict_without_items=Build(
        dict(items=collections.OrderedDict), collections.OrderedDict),
    sparse_indices_beyond_the_tensor=Call(
        torch._utils._rebuild_sparse_tensor,
        Call(torch.serialization._get_layout, 'torch.sparse_coo'),
        (torch.tensor([[99]]), torch.ones(1), torch.Size([2]))),
    tensor_beyond_its_storage=Call(
        torch._utils._rebuild_tensor, torch.zeros(1).storage(), 9, (1, ),
        (1, )),
    tensor_before_its_storage=Call(
        torch._utils._rebuild_tensor, torch.zeros(1).storage(), -1, (1, ),
        (1, )),
    quantized=torch.quantize_per_tensor(torch.zeros(2), 1., 0, torch.quint8),
    without_values=torch.zeros(2, device='meta'),
    repeated_without_end=torch.zeros(1).expand(2**40),
    mean_for_all_logs=log_with(
        statistics_methods=dict(mean=HistoryBuffer.max)),
    statistics_of_a_type=log_with(statistics_methods=dict(mean=torch.Tensor)),
    log_with_a_method=log_with(mean=torch.Tensor),
    log_of_text=log_with(_log_history='text'),
    log_without_counts=log_with(_count_history=np.ones(0)),
    log_without_length=log_with(max_length='9'),
    array_on_a_buffer=Call(np.ndarray, (1, ), 'f8', b'12345678'),
)


@pytest.mark.parametrize('content', HOSTILE.values(), ids=HOSTILE)
def test_a_checkpoint_that_does_anything_else_is_refused(
        tmp_path, capfd, content):
    file = str(tmp_path / 'hostile.pth')
    torch.save(dict(state_dict=dict(), content=content), file)
    with pytest.raises(ValueError, match='hostile.pth is no checkpoint that'):
        CheckpointLoader.load_checkpoint(file)
    assert 'executed' not in capfd.readouterr().out


def test_a_checkpoint_changes_no_log_but_its_own(tmp_path):
    before = dict(HistoryBuffer._statistics_methods)
    for content in HOSTILE.values():
        torch.save(dict(content=content), tmp_path / 'hostile.pth')
        with pytest.raises(ValueError):
            load_safely(tmp_path / 'hostile.pth')
    assert HistoryBuffer._statistics_methods == before


def test_what_was_loaded_can_be_saved_and_loaded_again(tmp_path):
    for name in 'abc':
        torch.save(dict(state_dict={}, log=history(), order=np.arange(3)),
                   tmp_path / name)
        content = CheckpointLoader.load_checkpoint(str(tmp_path / name))
        torch.save(content, tmp_path / f'{name}_again')
        again = CheckpointLoader.load_checkpoint(
            str(tmp_path / f'{name}_again'))
        assert again['order'].tolist() == [0, 1, 2]
        assert again['log'].mean() == history().mean()
        assert b'mmblvnet' not in (tmp_path / f'{name}_again').read_bytes()


@pytest.mark.parametrize('byte_order', '<>')
def test_the_byte_order_of_arrays_is_kept(tmp_path, byte_order):
    array = np.arange(5, dtype=f'{byte_order}i4')
    torch.save(dict(array=array), tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert loaded['array'].tolist() == [0, 1, 2, 3, 4]


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
        good = CheckpointLoader.load_checkpoint(f'{address}/good.pth')
        with pytest.raises(ValueError, match='bad.pth .*mkdir'):
            CheckpointLoader.load_checkpoint(f'{address}/bad.pth')
        with pytest.raises(ValueError, match='bomb.pth .*(?i:memory)'):
            CheckpointLoader.load_checkpoint(f'{address}/bomb.pth')
        server.shutdown()
    assert good['weight'].tolist() == [1, 1]
    assert not trace.exists()


def test_a_file_that_is_not_there_is_not_found_as_upstream(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'gone.pth'))


@pytest.mark.parametrize('info', [
    lambda victim: dict(best_ckpt=str(victim)),
    lambda victim: dict(best_ckpt=str(victim.parent / 'run' / 'notes.pth')),
    lambda victim: dict(keep_ckpt_ids=[f'/../../{victim.stem}', 1, 2]),
], ids=['elsewhere', 'another file', 'a way out'])
def test_resumed_training_removes_no_file_that_a_checkpoint_names(
        tmp_path, info):
    victim, work_dir = tmp_path / 'victim.pth', tmp_path / 'run'
    (work_dir / 'epoch_').mkdir(parents=True)
    victim.write_text('of the user')
    (work_dir / 'notes.pth').write_text('of the user')
    hub = MessageHub('hostile')
    for name, value in info(victim).items():
        hub.update_info(name, value)
    hook = CheckpointHook(save_best='acc', rule='greater', max_keep_ckpts=1)
    runner = SimpleNamespace(
        work_dir=str(work_dir), message_hub=hub, logger=logging.getLogger())
    hook.before_train(runner)
    assert hook.best_ckpt_path is None
    assert victim.exists()


def test_resumed_training_still_removes_its_own_best(tmp_path):
    hub = MessageHub('sound')
    best = str(tmp_path / 'best_acc_epoch_1.pth')
    hub.update_info('best_ckpt', best)
    hub.update_info('keep_ckpt_ids', [1, 2])
    (tmp_path / 'epoch_1.pth').write_text('outdated')
    hook = CheckpointHook(save_best='acc', rule='greater', max_keep_ckpts=1)
    hook.before_train(SimpleNamespace(
        work_dir=str(tmp_path), message_hub=hub, logger=logging.getLogger()))
    assert hook.best_ckpt_path == best
    assert list(hook.keep_ckpt_ids) == [2]
    assert not (tmp_path / 'epoch_1.pth').exists()


def test_an_inferencer_does_not_run_the_config_in_weights(tmp_path):
    trace = tmp_path / 'executed'
    code = f'import os\nos.mkdir({str(trace)!r})'
    torch.save(dict(state_dict={}, meta=dict(cfg=code)), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a.pth.* Give the config'):
        ActionRecogInferencer(None, str(tmp_path / 'a.pth'), device='cpu')
    assert not trace.exists()


def test_a_runner_that_runs_no_config_is_left_alone(monkeypatch):

    def resume(self):
        """A sound one."""

    monkeypatch.setattr(compat_mmengine.Runner, 'resume', resume)
    compat_mmengine.resume_without_running_code()
    assert compat_mmengine.Runner.resume is resume


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

    compat_mmengine._removing_last(save)(SimpleNamespace(file_backend=backend))
    assert events == ['+new', '-old']


def test_a_sound_writer_is_left_alone(monkeypatch):

    def put(self, obj, filepath):
        os.replace(obj, filepath)

    monkeypatch.setattr(LocalBackend, 'put', put)
    compat_mmengine.write_files_whole()
    assert LocalBackend.put is put
    monkeypatch.delattr(checkpoint_hook, 'open')
    monkeypatch.setattr(compat_mmengine.inspect, 'getsource', lambda _: 'mended')
    compat_mmengine.write_last_checkpoint_whole()
    assert not hasattr(checkpoint_hook, 'open')


def test_nccl_without_cuda_is_explained(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RuntimeError, match='env_cfg.dist_cfg.backend=gloo'):
        dist_utils._init_dist_pytorch('nccl')


def test_with_cuda_the_device_is_set_as_upstream_does(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    init = compat_mmengine._without_cuda_device(lambda *args: calls.append(args))
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
    monkeypatch.setattr(compat_mmaction.inspect, 'getsource', lambda _: 'mended')
    compat_mmaction.bound_testing_views()
    compat_mmaction.give_necks_a_tuple()
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


def gradcam_of_pairs(test_cfg=None):
    # The same network and frames each time.
    torch.manual_seed(0)
    model = recognizer(
        dict(type='BLVNet', depth=50, num_segments=4, frame_output='pair'),
        dict(type='TSMHead', in_channels=2048, num_segments=2),
        test_cfg=test_cfg).eval()
    gradcam = GradCAM(model, 'backbone/layer4')
    frames = torch.randint(256, (8, 3, 32, 32))
    maps, _ = gradcam._calculate_localization_map(
        dict(inputs=[frames], data_samples=[ActionDataSample()]), False)
    assert model.test_cfg == test_cfg
    return maps[0]


def test_gradcam_shows_a_map_on_all_its_frames():
    # [pairs, 2, H, W]
    pairs = gradcam_of_pairs().unflatten(0, (-1, 2))
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert not torch.allclose(pairs[0], pairs[1], atol=1e-3)


def test_gradcam_takes_the_maps_of_all_views():
    torch.testing.assert_close(
        gradcam_of_pairs(dict(max_testing_views=4)), gradcam_of_pairs())


def test_a_sound_gradcam_is_left_alone(monkeypatch):

    def sound(self, data, use_labels, delta=1e-20):
        return data, use_labels

    monkeypatch.setattr(GradCAM, '_calculate_localization_map', sound)
    compat_mmaction.show_each_map_on_its_frames()
    assert GradCAM._calculate_localization_map is sound


def test_tpn_is_tested_with_the_classifier_of_now():
    head = MODELS.build(
        dict(type='TPNHead', num_classes=5, in_channels=8)).eval()
    names = set(head.state_dict())
    clips = torch.randn(2, 8, 1, 3, 3)
    for _ in range(2):
        nn.init.normal_(head.fc_cls.weight)
        with torch.no_grad():
            scores = head(clips, fcn_test=True)
            expected = head.fc_cls(clips.mean((2, 3, 4)))
        torch.testing.assert_close(scores, expected)
    assert set(head.state_dict()) == names


def test_a_config_that_stops_early_builds_no_training_in_a_test():
    hook = HOOKS.build(dict(type='EarlyStoppingHook', monitor='acc/top1'))
    hook.before_run(SimpleNamespace(_train_loop=dict(by_epoch=True)))
