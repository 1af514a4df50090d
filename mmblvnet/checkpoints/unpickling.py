"""Pickles of PyTorch, of which nothing is run.

A pickle says which functions to call. It is read into a tree first, in which
each call is only noted; then this module makes the objects that it knows, and
types that the user has declared safe make theirs.
"""

import math
import os
import pickle
import pickletools
import struct
import sys
import tarfile
import zipfile
from _compat_pickle import IMPORT_MAPPING
from argparse import Namespace
from collections import Counter, OrderedDict
from contextlib import suppress
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import IO, Any, Callable, Dict

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import serialization

# What an instruction of one byte asks for at most, a dict with an item.
INSTRUCTION = 256
# The last record of a zip file, and the two of a large one before it: their
# signatures, and where the list of records and the first of them begin.
ENDS = struct.Struct('<4s44xQ4s4xQ4x4s12xL2x')
UNFINISHED = object()
ATOMS = (str, bytes, bool, int, float, type(None))
STATISTICS = ('min', 'max', 'current', 'mean')
HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
STORAGE = 'storage'
SUBCLASS = 'torch._tensor._rebuild_from_type_v2'


def load(file: IO[bytes], map_location: Any = None, limit: float = math.inf) -> Any:
    """Load tensors, plain data, what MMEngine saves and the user has declared.

    ``limit`` bounds the bytes that it may take in memory.

    Raises:
        UnpicklingError: If it holds anything else.
        MemoryError: If it takes more than the limit.
    """
    unpickler = type('Unpickler', (_Unpickler,), dict(limit=limit, keys=set()))
    parts = []

    def load_part(*args, **options) -> Any:
        parts.append(unpickler(*args, **options).load())
        return parts[-1]

    module = SimpleNamespace(Unpickler=unpickler, load=load_part)
    # Not by torch.load, which takes TorchScript's archives for programs.
    if _is_archive(file):
        with serialization._open_zipfile_reader(file) as archive:
            return serialization._load(archive, map_location, module, encoding='utf-8')
    content = serialization._legacy_load(file, map_location, module, encoding='utf-8')
    # The last part lists the storages whose values follow.
    if not unpickler.keys <= {*parts[-1]}:
        _refuse('leaves the values of tensors to what is in memory')
    return content


def _is_archive(file: IO[bytes]) -> bool:
    """Whether it is a zip file; one that is larger in memory is refused."""
    start = file.tell()
    # As PyTorch opens it; compressed ones are not unpacked.
    with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode='r:'):
        raise UnpicklingError('it is a tar file')
    file.seek(start)
    is_archive = serialization._is_zipfile(file)
    if is_archive:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            size = file.seek(-ENDS.size, os.SEEK_END) + ENDS.size
            large, large_begin, locator, large_at, end, begin = ENDS.unpack(file.read())
            if locator == b'PK\6\7':
                begin = large_begin if large == b'PK\6\6' and large_at == size - ENDS.size else None
            # PyTorch could read another list of records than Python then.
            if end != b'PK\5\6' or begin != archive.start_dir or min(r.header_offset for r in records):
                raise UnpicklingError('it does not begin or end with what PyTorch writes')
            if sum(record.file_size for record in records) > size:
                raise MemoryError(f'its records would take more memory than its {size} bytes')
    file.seek(start)
    return is_archive


def _refuse(what: str) -> None:
    raise UnpicklingError(f'it {what}, which no checkpoint of MMEngine does')


class _Call:
    """A call that a file asks for, of the global with the name of its type."""

    def __new__(cls, *arguments) -> '_Call':
        call = super().__new__(cls)
        call.arguments, call.items, call.state, call.initialized = arguments, [], None, False
        return call

    def __init__(self, *_) -> None:
        # Left out where a file asks for ``__new__`` alone.
        self.initialized = True

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads a pickle into a tree of data and calls, and makes the objects."""

    limit: float
    # Of the storages that were asked for.
    keys: set

    def __init__(self, file: IO[bytes], **options) -> None:
        super().__init__(file, **options)
        self.file, self.left = file, self.limit
        declared = [e if isinstance(e, tuple) else (e, _name_of(e)) for e in serialization.get_safe_globals()]
        self.declared = {name: value for value, name in declared}
        self.values = {**self.declared, **_values()}
        self.types: Dict[str, type] = {}
        # What is in the place of what was read, by its number; kept with it,
        # whose number would be another's if it were gone.
        self.made: Dict[int, tuple] = {}
        # What has been made, and each part, would take if nothing were shared.
        self.extent = 0
        self.extents: Dict[int, int] = {}

    def load(self) -> Any:
        self._check_instructions()
        # PyTorch has set what reads storages.
        self._storage_of = getattr(self, 'persistent_load', None)
        self.persistent_load = type(STORAGE, (_Call,), {})
        return self._make(super().load())

    def _check_instructions(self) -> None:
        """Refuse a pickle that takes much more memory than its size."""
        start = self.file.tell()
        for number, (instruction, argument, _) in enumerate(pickletools.genops(self.file)):
            if instruction.proto > 2 or 'EXT' in instruction.name or 'PUT' in instruction.name and argument > number:
                _refuse(f'has the instruction {instruction.name} {argument}')
            # With its places in two lists.
            self._spend(INSTRUCTION if instruction.arg is None else sys.getsizeof(argument) + 16)
        self.file.seek(start)

    def _spend(self, num_bytes: int) -> None:
        self.left -= num_bytes
        if self.left < 0:
            raise MemoryError(f'it would take more than the {self.limit} bytes of memory that its size admits')

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for a global, which notes the calls of it."""
        name = f'{IMPORT_MAPPING.get(module, module)}.{name}'
        if name == 'torch.storage.UntypedStorage':
            return serialization.StorageType('ByteStorage')
        if name not in (SUBCLASS, *MAKERS, *self.values):
            _refuse(f'asks for the global {name}')
        return self.types.setdefault(name, type(name, (_Call,), {}))

    def _make(self, item: Any) -> Any:
        """What a part of the tree stands for."""
        extent = self.extent
        self.extent += sys.getsizeof(item)
        if type(item) in ATOMS:
            return item
        if id(item) not in self.made:
            self._note(item, UNFINISHED)
            self._note(item, self._make_new(item))
            self.extents[id(item)] = self.extent - extent
        else:
            self.extent += self.extents.get(id(item), 0)
        # An error's message could show all of it.
        if self.extent > self.limit:
            raise MemoryError(f'it would take more than {self.limit} bytes of memory if nothing in it were shared')
        made = self.made[id(item)][1]
        if made is UNFINISHED:
            _refuse('has an object in itself')
        return made

    def _note(self, item: Any, made: Any) -> None:
        self.made[id(item)] = item, made

    def _make_new(self, item: Any) -> Any:
        if type(item) is list:
            return [self._make(element) for element in item]
        if type(item) is dict:
            return {self._make(key): self._make(value) for key, value in item.items()}
        if type(item) is tuple:
            return tuple([self._make(element) for element in item])
        if isinstance(item, _Call):
            return self._call(item, type(item).__name__)
        if isinstance(item, type) and item.__name__ in self.values:
            return self.values[item.__name__]
        _refuse(f'holds {item!r:.99}')

    def _storage(self, key: Any) -> Any:
        # In the old format it may name a source file to compare with, too.
        if type(key) is not tuple or key[0] not in (STORAGE, STORAGE.encode()):
            _refuse('asks for more than the values of tensors')
        storage = self._storage_of((*key[:2], *self._make(key[2:])))
        self.keys.add(key[2])
        # Names that differ in case are of one record, each with a copy of it.
        if id(storage) not in self.made:
            self._note(storage, storage)
            self._spend(storage._untyped_storage.nbytes())
        return storage

    def _call(self, call: _Call, name: str) -> Any:
        """What a call gives, by what is known of it or by what is declared."""
        if name == STORAGE:
            return self._storage(*call.arguments)
        if name == SUBCLASS:
            function, kind, arguments, state = call.arguments
            arguments = self._make, self.declared[kind.__name__], (function(*arguments),), self._make(state)
            return torch._tensor._rebuild_from_type_v2(*arguments)
        arguments = self._make(call.arguments)
        try:
            return self._known(call, name, arguments)
        except Exception as error:
            # Such as arrays of objects, by who trusts NumPy's own types.
            if name not in self.declared or isinstance(error, MemoryError):
                raise
        function = self.declared[name]
        made = function(*arguments) if call.initialized else function.__new__(function, *arguments)
        self._note(call, made)
        for key, value in self._make(call.items):
            made[key] = value
        if call.state is not None:
            _set_state(made, self._make(call.state))
        return made

    def _known(self, call: _Call, name: str, arguments: tuple) -> Any:
        if name not in MAKERS:
            _refuse(f'calls {name}')
        options = {key: self._make(value) for key, value in vars(call).items() if value and key in ('items', 'state')}
        made = MAKERS[name](*arguments, **options)
        if isinstance(made, torch.Tensor):
            if made._backward_hooks or made.is_quantized:
                _refuse('gives a tensor hooks or quantizes it')
            self._spend(made.numel() * made.itemsize)
        self._spend(sys.getsizeof(made) + sys.getsizeof(getattr(made, '__dict__', None)))
        return made


def _name_of(value: Any) -> str:
    return f'{value.__module__}.{value.__qualname__}'


def _set_state(made: Any, state: Any) -> None:
    """Give an object of a declared type its state, as pickle does."""
    if hasattr(made, '__setstate__'):
        return made.__setstate__(state)
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        vars(made).update(attributes)
    for key, value in (slots or {}).items():
        setattr(made, key, value)


def _values() -> Dict[str, Any]:
    """The types and functions that a file may hold, by their names."""
    values = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    for name, method in HistoryBuffer._statistics_methods.items():
        if name not in STATISTICS:
            values[_name_of(method)] = method
    return {**values, HISTORY: HistoryBuffer, 'numpy.ndarray': np.ndarray}


def _ordered_dict(pairs: Any = (), items: Any = (), state: Any = None) -> OrderedDict:
    made = OrderedDict(pairs)
    made.update(items)
    if state:
        if [*state] != ['_metadata']:
            _refuse(f'gives an OrderedDict the attributes {[*state]}')
        made._metadata = state['_metadata']
    return made


def _namespace(state: Any = ()) -> Namespace:
    made = Namespace()
    # Not by its own setting of attributes, of which one is its type.
    vars(made).update(state)
    return made


def _dtype(code: str, *_, state: Any = None) -> np.dtype:
    dtype = _of_numbers(np.dtype(code))
    if state:
        _, byte_order, *rest = state
        if rest[:6] != [None, None, None, -1, -1, 0]:
            _refuse('changes what a type of numbers is')
        dtype = dtype.newbyteorder(byte_order)
    return dtype


def _of_numbers(dtype: np.dtype) -> np.dtype:
    # The values of others are addresses.
    if dtype.kind not in 'biuf':
        _refuse(f'has an array of the type {dtype!r}')
    return dtype


def _array(*_, state: tuple) -> np.ndarray:
    _, shape, dtype, is_fortran, data = state
    values = np.frombuffer(data, _of_numbers(dtype))
    return values.reshape(shape, order='F' if is_fortran else 'C').copy('K')


def _history(state: dict) -> HistoryBuffer:
    """A log: MMEngine's own takes from a file how others compute a mean."""
    # A declared type may take it after a refusal.
    state = dict(state)
    length, log, counts = (state.pop(key) for key in ('max_length', '_log_history', '_count_history'))
    methods = state.pop('statistics_methods', {})
    made = HistoryBuffer(max_length=length)
    if state or any(HistoryBuffer._statistics_methods.get(name) != method for name, method in methods.items()):
        _refuse('changes the statistics of logs')
    if (
        type(length) is not int
        or not type(log) is type(counts) is np.ndarray
        or log.shape != counts.shape
        or log.ndim != 1
    ):
        _refuse('has a log that is none of MMEngine')
    made._log_history, made._count_history = log, counts
    return made


def _statistic(owner: Any, name: str) -> Callable:
    if owner is not HistoryBuffer or name not in STATISTICS:
        _refuse(f'asks for the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)


# What makes what a call gives, by the name of what is called.
MAKERS: Dict[str, Callable] = {
    '_codecs.encode': str.encode,
    'argparse.Namespace': _namespace,
    'builtins.bytearray': lambda content=b'': bytearray(memoryview(content)),
    'builtins.bytes': lambda: b'',
    'builtins.complex': complex,
    'builtins.getattr': _statistic,
    'builtins.set': lambda elements=(): set(elements),
    'collections.Counter': lambda counts=(): Counter(counts),
    'collections.OrderedDict': _ordered_dict,
    'numpy.dtype': _dtype,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch._utils._rebuild_parameter': torch._utils._rebuild_parameter,
    'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch._utils._rebuild_tensor_v3': torch._utils._rebuild_tensor_v3,
    HISTORY: _history,
}
# NumPy 2 renamed the module.
for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):
    MAKERS[f'{module}._reconstruct'] = _array
    MAKERS[f'{module}.scalar'] = lambda dtype, data: np.frombuffer(data, _of_numbers(dtype))[0]
