"""MMEngine's checkpoints by PyTorch's safe loader.

The loader has a list of harmless types for the process. This one is a copy of
it with a list of its own, so that no other load sees what is added here.
"""

import argparse
import inspect
import pickle
import sys
from importlib.util import find_spec, module_from_spec
from pickle import UnpicklingError
from types import FunctionType, ModuleType
from typing import IO, Any, Callable, Dict, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

STATISTICS = ('min', 'max', 'current', 'mean')
# What an empty set takes, the largest object that one byte asks for.
OBJECT = 224
OPCODES = {
    pickle.EMPTY_SET,
    pickle.EMPTY_DICT,
    pickle.EMPTY_LIST,
    pickle.MARK,
    pickle.TUPLE,
    pickle.TUPLE1,
    pickle.TUPLE2,
    pickle.TUPLE3,
}
# What copies its argument.
COPIES = (
    'collections.OrderedDict',
    'collections.Counter',
    'torch.Size',
    'builtins.bytearray',
    'builtins.set',
    '_codecs.encode',
)
# What makes tensors of other values than those in the file.
REBUILDS = (
    'torch._utils._rebuild_device_tensor_from_cpu_tensor',
    'torch._utils._rebuild_device_tensor_from_numpy',
    'torch._utils._rebuild_nested_tensor',
    'torch._utils._rebuild_wrapper_subclass',
)


def load(
    file: IO[bytes],
    map_location: Any = None,
    limit: Optional[int] = None,
    visit: Callable[[Any], None] = lambda item: None,
) -> Any:
    """Load what PyTorch admits, the user has declared or MMEngine writes.

    ``limit`` bounds the bytes that objects other than tensors may take, and
    ``visit`` is called with every object.

    Raises:
        UnpicklingError: If it holds anything else.
        MemoryError: If it takes more than the limit.
    """
    start, known = file.tell(), _types_of_mmengine()
    declared = torch._weights_only_unpickler._get_user_allowed_globals()
    try:
        content = _load(file, map_location, {**declared, **known}, limit)
    except UnpicklingError:
        # Such as arrays of objects, by someone who trusts NumPy's own types.
        if not declared:
            raise
        file.seek(start)
        content = _load(file, map_location, {**known, **declared}, limit)
    return walk(content, visit)


def _load(file: IO[bytes], map_location: Any, types: Dict[str, Any], limit: Optional[int]) -> Any:
    """``torch.load`` with other types than those declared for the process."""
    spec = find_spec('torch._weights_only_unpickler')
    unpickler = module_from_spec(spec)
    spec.loader.exec_module(unpickler)
    unpickler._get_user_allowed_globals = lambda: types
    if limit is not None:
        _bound_memory(unpickler, limit)
    original = inspect.unwrap(torch.serialization.load)
    loader = FunctionType(
        original.__code__,
        {**original.__globals__, '_weights_only_unpickler': unpickler},
        original.__name__,
        original.__defaults__,
        original.__closure__,
    )
    loader.__kwdefaults__ = original.__kwdefaults__
    return loader(file, map_location=map_location, weights_only=True)


def _bound_memory(unpickler: ModuleType, limit: int) -> None:
    """Let a copy of PyTorch's unpickler make no more objects than fit."""
    left = limit

    def spend(num_bytes: int) -> None:
        nonlocal left
        left -= num_bytes
        if left < 0:
            raise MemoryError(
                f'it makes objects that would take more than the {limit} bytes of memory that its size admits'
            )

    def bounded(function: Callable) -> Callable:

        def call(*args) -> Any:
            spend(sum(arg for arg in args if isinstance(arg, int)))
            result = function(*args)
            spend(sys.getsizeof(result))
            return result

        return call

    class Unpickler(unpickler.Unpickler):  # type: ignore[name-defined]
        def __init__(self, file: IO[bytes], **kwargs) -> None:
            super().__init__(file, **kwargs)
            self.read = lambda size: self._count(file.read(size))

        def _count(self, data: bytes) -> bytes:
            spend(OBJECT * (data in OPCODES))
            return data

    allowed = {name: value for name, value in unpickler._get_allowed_globals().items() if name not in REBUILDS}
    # The types themselves are what BUILD compares with.
    for name in COPIES:
        allowed[None, name] = allowed[name]
        allowed[name] = bounded(allowed[name])
    unpickler._get_allowed_globals = lambda: allowed
    unpickler.Unpickler = Unpickler


def _refuse(what: str) -> None:
    raise UnpicklingError(f'the checkpoint {what}, which no checkpoint of MMEngine does; do not load it')


class _Numbers:
    """In place of ``numpy.dtype``, of numbers alone.

    NumPy's own takes the flags and fields of an object type for one of plain
    bytes, which then count as addresses.
    """

    def __init__(self, code: str, *_) -> None:
        self.value = np.dtype(code)
        if self.value.kind not in 'biuf':
            _refuse(f'has an array of the type {code!r}')

    def __setstate__(self, state: tuple) -> None:
        _, byte_order, *rest = state
        if rest[:6] != [None, None, None, -1, -1, 0]:
            _refuse('changes what a type of numbers is')
        self.value = self.value.newbyteorder(byte_order)


class _Array(np.ndarray):
    """In place of ``numpy.ndarray``: gives way to one after the load."""

    def __new__(cls, *_) -> None:
        _refuse('makes an array other than from its values')

    def __setstate__(self, state: tuple) -> None:
        super().__setstate__((*state[:2], _own(state[2]), *state[3:]))


def _own(value: Any) -> Any:
    """NumPy's own object for one that stands in for it."""
    if isinstance(value, _Array):
        return np.array(value)
    return value.value if isinstance(value, _Numbers) else value


# What rebuilds a scalar; NumPy 2 renamed its module.
_scalar = np.float64(0).__reduce__()[0]


def _number(numbers: Any, data: bytes) -> np.generic:
    return _scalar(_own(numbers), data)


class _Statistic:
    """In place of a function that the user registered for all logs."""


class _History(HistoryBuffer):
    """In place of ``HistoryBuffer``.

    MMEngine's own takes from a file which function computes a mean, for all
    the buffers of the process.
    """

    def __init__(self, *_) -> None:
        _refuse('makes a log other than from its values')

    def __setstate__(self, state: dict) -> None:
        state = {name: _own(value) for name, value in state.items()}
        for name, method in state.pop('statistics_methods', {}).items():
            if (
                method != getattr(HistoryBuffer, name)
                if (name in STATISTICS)
                else (name not in HistoryBuffer._statistics_methods)
            ):
                _refuse('changes the statistics of logs')
        logs = state['_log_history'], state['_count_history']
        if (
            len(state) != 3
            or type(state['max_length']) is not int
            or not all(type(log) is np.ndarray and log.shape == logs[0].shape and log.ndim == 1 for log in logs)
        ):
            _refuse('has a log that is none of MMEngine')
        self.__class__ = HistoryBuffer
        self.__dict__.update(state)
        self._set_default_statistics()


def _statistic(owner: Any, name: str) -> Callable:
    """In place of ``getattr``, of the statistics of logs alone."""
    if owner is not _History or name not in STATISTICS:
        _refuse(f'asks for the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)


def _types_of_mmengine() -> Dict[str, Any]:
    """By their names in a file."""
    types = {
        'argparse.Namespace': argparse.Namespace,
        # Those of an empty array.
        'builtins.bytes': lambda: b'',
        'builtins.getattr': _statistic,
        'mmengine.logging.history_buffer.HistoryBuffer': _History,
        'numpy.dtype': _Numbers,
        'numpy.ndarray': _Array,
    }
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        types[f'{module}._reconstruct'] = lambda *_: np.ndarray.__new__(_Array, 0)
        types[f'{module}.scalar'] = _number
    for name, method in HistoryBuffer._statistics_methods.items():
        if name not in STATISTICS:
            types[f'{method.__module__}.{method.__qualname__}'] = _Statistic()
    return types


def walk(item: Any, visit: Callable[[Any], None], done: Optional[Dict[int, tuple]] = None) -> Any:
    """Visit every object in what was loaded, with arrays in their places.

    Returns what is in the place of the object; ``done`` holds, by number,
    those that were visited and what is in their places.
    """
    done = {} if done is None else done
    if id(item) in done:
        return done[id(item)][1]
    value = _own(item)
    # With the item, whose number would be another's if it were gone.
    done[id(item)] = item, value
    visit(value)
    if type(item) is list:
        item[:] = [walk(element, visit, done) for element in item]
    elif isinstance(item, (tuple, set)):
        elements = [walk(element, visit, done) for element in item]
        if any(new is not old for new, old in zip(elements, item)):
            # A named one stays what it is.
            kind: Any = type(item)
            done[id(item)] = item, tuple.__new__(kind, elements)
    elif not isinstance(value, (torch.Tensor, str, type, np.ndarray)):
        if isinstance(item, dict):
            for key, element in list(dict.items(item)):
                walk(key, visit, done)
                dict.__setitem__(item, key, walk(element, visit, done))
        # Those of an object, or what a file gives to an ordered dict.
        attributes = getattr(item, '__dict__', None)
        if attributes:
            walk(attributes, visit, done)
    return done[id(item)][1]
