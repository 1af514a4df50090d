"""Which pickles the safe loader accepts: those of MMEngine, and no hostile ones."""

import argparse
import collections
import os
import threading

import numpy as np
import pytest
import torch
from hostile import COUNTED, Call, opcodes
from mmblvnet.checkpoints import unpickling
from mmblvnet.checkpoints.safe_loading import load_checkpoint
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader


def history():
    buffer = HistoryBuffer()
    buffer.update(0.5, 2)
    buffer.update(3)
    return buffer


def saved(file, **content):
    torch.save(dict(state_dict={}, **content), file)
    return str(file)


WAYS = [load_checkpoint, CheckpointLoader.load_checkpoint]


@pytest.fixture(params=WAYS, ids=['ours', 'of the host'])
def load(request):
    return request.param


def test_checkpoints_of_mmengine_are_loaded_unchanged(tmp_path, load):
    array, shared = np.arange(3), np.array([True])
    content = dict(
        message_hub=dict(log_scalars=dict(loss=history())),
        best=np.float64(0.5),
        nested=(1, [array, (shared,)], shared),
        big_endian=np.arange(5, dtype='>i4'),
        empty=np.zeros((0, 3)),
        args=argparse.Namespace(lr=0.1, array=array),
    )
    loaded = load(saved(tmp_path / 'a.pth', **content))
    log = loaded['message_hub']['log_scalars']['loss']
    assert type(log) is HistoryBuffer
    assert type(log.data[0]) is type(log.data[0] * 2) is np.ndarray
    log.update(0.25)
    assert log.statistics('max') == 3 and log.statistics('current') == 0.25
    assert type(loaded['best']) is np.float64 and loaded['best'] == 0.5
    number, (first, (second,)), third = loaded['nested']
    assert type(first) is np.ndarray and first.tolist() == [0, 1, 2]
    assert second is third and second.flags.owndata and second[0]
    assert loaded['big_endian'].tolist() == [0, 1, 2, 3, 4]
    assert loaded['empty'].shape == (0, 3)
    assert vars(loaded['args'])['array'] is first
    # Saved again, the file does not depend on this package.
    torch.save(loaded, tmp_path / 'b.pth')
    assert b'mmblvnet' not in (tmp_path / 'b.pth').read_bytes()
    assert load(str(tmp_path / 'b.pth'))['best'] == 0.5


def test_plain_data_of_every_type_is_loaded(tmp_path, load):
    layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    values = torch.arange(12.0).reshape(3, 4)
    content = dict(
        weights=layers.state_dict(),
        optimizer=torch.optim.SGD(layers.parameters()).state_dict(),
        parameter=torch.nn.Parameter(torch.ones(2), requires_grad=False),
        whole=values,
        part=values[:, 1:3],
        of_bytes=torch.ones(2).to(torch.float8_e4m3fn),
        conjugate=torch.randn(2, dtype=torch.cfloat).conj(),
        types=[torch.float16, torch.Size([1, 2]), torch.device('cuda:0'), 1 + 2j, None],
        counts=collections.Counter('aab'),
        # One element, since sets have no order and repr is compared.
        names={'a'},
        content=[bytearray(b'\xff'), bytearray(), b'\xff', b''],
    )
    for new_format in (True, False):
        if not new_format:
            # PyTorch's own loader cannot read float8 in the old format.
            content.pop('of_bytes')
        torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=new_format)
        loaded = load(str(tmp_path / 'a.pth'))
        assert repr(loaded) == repr(content)
        assert loaded['weights']._metadata == content['weights']._metadata
        loaded['whole'][0, 1] = 77
        assert loaded['part'][0, 0] == 77


def test_loading_leaves_the_global_allow_list_unchanged(tmp_path):
    before = torch.serialization.get_safe_globals()
    file = saved(tmp_path / 'a.pth', log=history(), order=np.arange(3))
    for load in WAYS:
        load(file)
        assert torch.serialization.get_safe_globals() == before
    with pytest.raises(Exception, match='HistoryBuffer'):
        torch.load(file)


NUMPYS_OWN = [
    np.ndarray,
    np.dtype,
    type(np.dtype('f8')),
    type(np.dtype('i8')),
    type(np.dtype('O')),
    np.ndarray(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
]


def test_types_already_on_the_allow_list_change_nothing(tmp_path, load):
    file = saved(tmp_path / 'a.pth', log=history(), order=np.arange(3.0))
    for declared in (NUMPYS_OWN, NUMPYS_OWN[1:3], NUMPYS_OWN[:1], [HistoryBuffer, getattr]):
        with torch.serialization.safe_globals(declared):
            content = load(file)
        assert content['log'].mean() == history().mean()
        assert type(content['order']) is np.ndarray


class Custom:
    """A user-defined type that refers to itself."""

    def __init__(self):
        self.values = np.arange(3)
        self.parent = [self]


Named = collections.namedtuple('Named', 'values')


class Doubling:
    """A user-defined type whose __setstate__ computes with the array in its state."""

    def __getstate__(self):
        return dict(values=np.arange(3))

    def __setstate__(self, state):
        self.values = 2 * state['values']


class Subclass(torch.Tensor):
    """A user-defined tensor subclass that carries attributes."""


def test_types_that_the_user_put_on_the_allow_list_are_loaded(tmp_path, load):
    subclass = torch.ones(2).as_subclass(Subclass)
    subclass.values = np.arange(3)
    file = saved(
        tmp_path / 'a.pth',
        custom=Custom(),
        named=Named(np.arange(3)),
        doubling=Doubling(),
        subclass=subclass,
        log=history(),
        names=np.array(['a', None], dtype=object),
    )
    with pytest.raises(Exception, match='Custom|test_unpickling'):
        load(file)
    own = [Custom, Named, Doubling, Subclass]
    with torch.serialization.safe_globals([*own, *NUMPYS_OWN]):
        content = load(file)
    assert content['custom'].parent == [content['custom']]
    assert type(content['subclass']) is Subclass and content['subclass'].tolist() == [1, 1]
    for key in ('custom', 'named', 'doubling', 'subclass'):
        assert type(content[key].values) is np.ndarray
    assert content['doubling'].values.tolist() == [0, 2, 4]
    assert content['names'].tolist() == ['a', None]


def test_pytorchs_force_variables_are_respected(tmp_path, load, monkeypatch):
    file = saved(tmp_path / 'a.pth', custom=Custom())
    with monkeypatch.context() as environment:
        environment.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
        assert type(load(file)['custom']) is Custom
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    assert load(saved(tmp_path / 'b.pth', log=history()))['log'].max() == 3


def median(log):
    return np.median(log.data[0])


def test_logs_with_a_user_defined_statistic_are_loaded(tmp_path, load, monkeypatch):
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', dict(HistoryBuffer._statistics_methods))
    HistoryBuffer.register_statistics(median)
    file = saved(tmp_path / 'a.pth', log=history())
    assert load(file)['log'].statistics('median') == 1.75
    # A file may refer to the function, but not call it.
    with pytest.raises(ValueError, match='calls test_unpickling.median'):
        load_checkpoint(saved(tmp_path / 'b.pth', log=Call(median, 1)))


def test_threads_load_at_once(tmp_path):
    file, results = saved(tmp_path / 'a.pth', log=history()), []
    threads = [threading.Thread(target=lambda: results.append(load_checkpoint(file)['log'].max())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3] * 8


def attribute(owner, *names):
    for name in names:
        owner = Call(getattr, owner, name)
    return owner


def tensor_with(state):
    """Return a pickled tensor whose attributes in `state` shadow its methods."""
    return Call(
        torch._tensor._rebuild_from_type_v2,
        torch._utils._rebuild_tensor,
        torch.Tensor,
        (torch.zeros(1).storage(), 0, (1,), (1,)),
        state,
    )


def log_with(**state):
    """Return a HistoryBuffer that pickles with a forged state."""
    log = HistoryBuffer()
    state = dict(log.__dict__, **state)
    log.__getstate__ = lambda: state
    return log


NUMBERS = (3, '<', None, None, None, -1, -1, 0)
FIELDS = (3, '<', None, ('a',), {'a': (Call(np.dtype, 'f8'), 0)}, -1, -1, 0)
ARRAY = np.ndarray(0).__reduce__()[0], np.ndarray, (0,), b'b'
SCALAR = np.float64(0).__reduce__()[0]
STORAGE = torch.zeros(1).storage()


def array_of(numbers):
    return Call(*ARRAY, state=(1, (1,), numbers, False, b'12345678'))


HOSTILE = dict(
    calls=dict(shell=Call(os.system, 'echo executed'), builtin=Call(eval, '1')),
    attributes=dict(
        globals=attribute(HistoryBuffer, 'mean', '__globals__'),
        class_of=attribute(HistoryBuffer, '__class__', '__base__'),
        register=attribute(HistoryBuffer, 'register_statistics'),
        instance=attribute(Call(HistoryBuffer), 'mean'),
        of_tensor=attribute(torch.Tensor, 'mean'),
        of_array=attribute(np.ndarray, 'tofile'),
        three_arguments=Call(getattr, HistoryBuffer, 'x', 1),
    ),
    types=dict(
        objects=Call(np.dtype, 'O'),
        record=Call(np.dtype, 'f8,O'),
        metadata=Call(np.dtype, 'M8', state=(4, *NUMBERS[1:], {})),
        size=Call(np.dtype, 'f8', state=(3, '<', None, None, None, 9, -1, 0)),
        function=torch._utils._rebuild_tensor,
        type_of_a_tensor=torch.Tensor,
    ),
    arrays=dict(
        of_objects=Call(*ARRAY, state=(1, (1,), np.dtype('O'), False, [1])),
        of_the_wrong_length=Call(*ARRAY, state=(1, (99,), np.dtype('f8'), False, b'few')),
        of_another_type=Call(*ARRAY, state=(1, (1,), 'f8', False, b'12345678')),
        of_numbers_with_flags=array_of(Call(np.dtype, 'f8', False, True, state=(*NUMBERS[:-1], 63))),
        of_numbers_with_fields=array_of(Call(np.dtype, 'f8', False, True, state=FIELDS)),
        on_a_buffer=Call(np.ndarray, (1,), 'f8', b'12345678'),
        scalar_of_an_object=Call(SCALAR, np.dtype('O'), b'12345678'),
        scalar_that_is_short=Call(SCALAR, np.dtype('f8'), b'few'),
    ),
    tensors=dict(
        that_says_it_is_finite=tensor_with(dict(isfinite=torch.Tensor)),
        with_hooks=tensor_with(dict(_backward_hooks={0: torch.Tensor})),
        with_hooks_of_its_own=Call(
            torch._utils._rebuild_tensor_v2, STORAGE, 0, (1,), (1,), False, collections.OrderedDict({0: 'hook'})
        ),
        with_a_gradient=tensor_with(dict(grad=torch.zeros(1))),
        dict_without_items=Call(collections.OrderedDict, state=dict(_metadata={}, items=collections.OrderedDict)),
        indices_beyond_the_tensor=Call(
            torch._utils._rebuild_sparse_tensor,
            Call(torch.serialization._get_layout, 'torch.sparse_coo'),
            (torch.tensor([[99]]), torch.ones(1), torch.Size([2])),
        ),
        quantized_without_a_scale=Call(
            torch._utils._rebuild_tensor_v3, STORAGE, 0, (1,), (1,), False, collections.OrderedDict(), torch.qint8
        ),
        beyond_its_storage=Call(torch._utils._rebuild_tensor, STORAGE, 9, (1,), (1,)),
        before_its_storage=Call(torch._utils._rebuild_tensor, STORAGE, -1, (1,), (1,)),
    ),
    logs=dict(
        mean_for_all=log_with(statistics_methods=dict(mean=HistoryBuffer.max)),
        statistics_of_a_type=log_with(statistics_methods=dict(mean=torch.Tensor)),
        with_a_method=log_with(mean=1),
        of_text=log_with(_log_history='text'),
        without_counts=log_with(_count_history=np.ones(9)),
        without_length=log_with(max_length='9'),
    ),
)


def test_a_stored_class_attribute_does_not_change_the_type(tmp_path):
    args = argparse.Namespace()
    vars(args).update(__class__=HistoryBuffer)
    assert type(load_checkpoint(saved(tmp_path / 'a.pth', args=args))['args']) is argparse.Namespace


def test_short_strings_and_integers_count_toward_the_memory_limit(tmp_path):
    for content in (b'U\2ab', b'M\xff\xff'):
        opcodes(content * 2**16)(tmp_path / 'a.pth', None)
        with (tmp_path / 'a.pth').open('rb') as file, pytest.raises(MemoryError):
            unpickling.load(file, limit=2**21)


def test_tensors_without_values_in_the_file_do_not_expose_memory(tmp_path):
    torch.save(dict(weight=torch.ones(999)), tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    with (tmp_path / 'a.pth').open('r+b') as file:
        # The last pickle lists the storage keys; the raw values follow it.
        file.seek(-(8 + 4 * 999), os.SEEK_END)
        end = file.tell()
        file.seek(0)
        pickles = file.read(end)
        start = pickles.rindex(b'\x80\x02]')
        file.seek(start)
        file.truncate()
        file.write(b'\x80\x02].')
    with pytest.raises(ValueError, match='values that the file does not contain'):
        load_checkpoint(str(tmp_path / 'a.pth'))


def test_an_allowed_type_is_not_exempt_from_the_memory_limit(tmp_path):
    file = saved(tmp_path / 'a.pth', extra=[Call(collections.Counter, COUNTED) for _ in range(2000)])
    with torch.serialization.safe_globals([collections.Counter]):
        with pytest.raises(ValueError, match='memory'):
            load_checkpoint(file)


@pytest.mark.parametrize('group', HOSTILE)
def test_malicious_checkpoints_are_refused_and_run_no_code(tmp_path, capfd, group):
    before = dict(HistoryBuffer._statistics_methods)
    for name, content in HOSTILE[group].items():
        file = saved(tmp_path / f'{name}.pth', content=content)
        with pytest.raises(ValueError, match=f'{name}.pth cannot be loaded safely'):
            load_checkpoint(file)
        assert HistoryBuffer._statistics_methods == before
    assert 'executed' not in capfd.readouterr().out


def test_mmengines_loader_runs_no_code_either(tmp_path, capfd):
    for content in [*HOSTILE['calls'].values(), *HOSTILE['attributes'].values()]:
        file = saved(tmp_path / 'a.pth', content=content)
        with pytest.raises(Exception, match='(?i)global|attr|log|arg'):
            CheckpointLoader.load_checkpoint(file)
    assert 'executed' not in capfd.readouterr().out
