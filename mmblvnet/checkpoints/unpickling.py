"""Unpickling of PyTorch checkpoints without running code that they name.

A pickle says which functions to call. It is read into a tree first, which only
records these calls. Then this module builds the objects of the types that it
knows; otherwise it calls only what is on the user's allow-list of safe globals.
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

# Most bytes of memory that an opcode without argument takes: a dict with an item.
OPCODE_BYTES = 256
# End of a zip file: the zip64 end of central directory, its locator, and the
# end of central directory, each as its signature and the offset it points to.
ZIP_END = struct.Struct('<4s44xQ4s4xQ4x4s12xL2x')
UNFINISHED = object()
ATOMS = (str, bytes, bool, int, float, type(None))
STATISTICS = ('min', 'max', 'current', 'mean')
HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
STORAGE = 'storage'
SUBCLASS = 'torch._tensor._rebuild_from_type_v2'


def load(file: IO[bytes], map_location: Any = None, limit: float = math.inf) -> Any:
    """Load a checkpoint of tensors, plain data, MMEngine's logs and types on the allow-list.

    ``limit`` bounds the memory that loading may take, in bytes.

    Raises:
        UnpicklingError: If the file holds anything else.
        MemoryError: If loading would take more memory than the limit.
    """
    unpickler = type('Unpickler', (_Unpickler,), dict(limit=limit, keys=set()))
    pickles = []

    def load_pickle(*args, **options) -> Any:
        pickles.append(unpickler(*args, **options).load())
        return pickles[-1]

    module = SimpleNamespace(Unpickler=unpickler, load=load_pickle)
    # Not torch.load, which loads a TorchScript archive as a program.
    if _is_archive(file):
        with serialization._open_zipfile_reader(file) as archive:
            return serialization._load(archive, map_location, module, encoding='utf-8')
    content = serialization._legacy_load(file, map_location, module, encoding='utf-8')
    # The last pickle lists the storages in the file: others stay uninitialized.
    if not unpickler.keys <= {*pickles[-1]}:
        _refuse('refers to tensor values that the file does not contain')
    return content


def _is_archive(file: IO[bytes]) -> bool:
    """Return whether the file is a zip archive; refuse tar files and malformed or compressed archives."""
    start = file.tell()
    # Opened as PyTorch does, which would load it; 'r:' does not decompress.
    with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode='r:'):
        raise UnpicklingError('it is a tar file')
    file.seek(start)
    is_archive = serialization._is_zipfile(file)
    if is_archive:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            size = file.seek(-ZIP_END.size, os.SEEK_END) + ZIP_END.size
            large, large_begin, locator, large_at, end, begin = ZIP_END.unpack(file.read())
            if locator == b'PK\6\7':
                begin = large_begin if large == b'PK\6\6' and large_at == size - ZIP_END.size else None
            # PyTorch could find another central directory than zipfile does.
            if end != b'PK\5\6' or begin != archive.start_dir or min(r.header_offset for r in records):
                raise UnpicklingError('it is not a zip archive as PyTorch writes it')
            if sum(record.file_size for record in records) > size:
                raise MemoryError(f'its records would take more memory than the {size} bytes of the file')
    file.seek(start)
    return is_archive


def _refuse(what: str) -> None:
    raise UnpicklingError(f'it {what}, unlike any checkpoint that MMEngine saves')


class _Call:
    """A call recorded from a pickle; the name of its subclass says what to call."""

    def __new__(cls, *arguments) -> '_Call':
        call = super().__new__(cls)
        call.arguments, call.items, call.state, call.initialized = arguments, [], None, False
        return call

    def __init__(self, *_) -> None:
        # Not run where a pickle calls only ``__new__`` (opcode NEWOBJ).
        self.initialized = True

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """An unpickler that reads data and calls into a tree and then builds the objects."""

    limit: float
    # Keys of the storages that the pickles refer to.
    keys: set

    def __init__(self, file: IO[bytes], **options) -> None:
        super().__init__(file, **options)
        self.file, self.bytes_left = file, self.limit
        allowed = [e if isinstance(e, tuple) else (e, _name_of(e)) for e in serialization.get_safe_globals()]
        self.allowed = {name: value for value, name in allowed}
        self.values = {**self.allowed, **_values()}
        self.types: Dict[str, type] = {}
        # Each built object by the id() of its node in the tree. The node is
        # kept too, since Python reuses the id of a freed object.
        self.built: Dict[int, tuple] = {}
        # Bytes of the tree so far, and of each node, if nothing were shared.
        self.expanded_size = 0
        self.expanded_sizes: Dict[int, int] = {}

    def load(self) -> Any:
        self._check_opcodes()
        # Set by PyTorch to read storages; here they are only recorded first.
        self._storage_of = getattr(self, 'persistent_load', None)
        self.persistent_load = type(STORAGE, (_Call,), {})
        return self._build(super().load())

    def _check_opcodes(self) -> None:
        """Refuse opcodes that PyTorch does not write, and those that exceed the memory limit."""
        start = self.file.tell()
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.file)):
            if opcode.proto > 2 or 'EXT' in opcode.name or 'PUT' in opcode.name and argument > number:
                _refuse(f'has the pickle opcode {opcode.name} {argument}')
            # 16 bytes for the pointers to it in the tree and in the result.
            self._spend(OPCODE_BYTES if opcode.arg is None else sys.getsizeof(argument) + 16)
        self.file.seek(start)

    def _spend(self, num_bytes: int) -> None:
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise MemoryError(f'it would take more memory than the {self.limit} bytes allowed for a file of its size')

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for an allowed global, which records calls."""
        name = f'{IMPORT_MAPPING.get(module, module)}.{name}'
        if name == 'torch.storage.UntypedStorage':
            return serialization.StorageType('ByteStorage')
        if name not in (SUBCLASS, *BUILDERS, *self.values):
            _refuse(f'refers to the global {name}')
        return self.types.setdefault(name, type(name, (_Call,), {}))

    def _build(self, item: Any) -> Any:
        """Return the object that a node of the tree stands for, built once."""
        expanded_size = self.expanded_size
        self.expanded_size += sys.getsizeof(item)
        if type(item) in ATOMS:
            return item
        if id(item) not in self.built:
            self._note(item, UNFINISHED)
            self._note(item, self._build_new(item))
            self.expanded_sizes[id(item)] = self.expanded_size - expanded_size
        else:
            self.expanded_size += self.expanded_sizes.get(id(item), 0)
        # An error message could print a shared object once per reference.
        if self.expanded_size > self.limit:
            raise MemoryError(f'it would take more than {self.limit} bytes of memory if shared objects were copied')
        built = self.built[id(item)][1]
        if built is UNFINISHED:
            _refuse('has an object that contains itself')
        return built

    def _note(self, item: Any, built: Any) -> None:
        self.built[id(item)] = item, built

    def _build_new(self, item: Any) -> Any:
        if type(item) is list:
            return [self._build(element) for element in item]
        if type(item) is dict:
            return {self._build(key): self._build(value) for key, value in item.items()}
        if type(item) is tuple:
            return tuple([self._build(element) for element in item])
        if isinstance(item, _Call):
            return self._call(item, type(item).__name__)
        if isinstance(item, type) and item.__name__ in self.values:
            return self.values[item.__name__]
        _refuse(f'holds {item!r:.99}')

    def _storage(self, key: Any) -> Any:
        # A key of the old format may also name a source file to compare with.
        if type(key) is not tuple or key[0] not in (STORAGE, STORAGE.encode()):
            _refuse('has a persistent id that is not a tensor storage')
        storage = self._storage_of((*key[:2], *self._build(key[2:])))
        self.keys.add(key[2])
        # Keys that differ in case alone share a zip record; each gets a copy.
        if id(storage) not in self.built:
            self._note(storage, storage)
            self._spend(storage._untyped_storage.nbytes())
        return storage

    def _call(self, call: _Call, name: str) -> Any:
        """Return the result of a recorded call, by our own function or by one on the allow-list."""
        if name == STORAGE:
            return self._storage(*call.arguments)
        if name == SUBCLASS:
            function, kind, arguments, state = call.arguments
            arguments = self._build, self.allowed[kind.__name__], (function(*arguments),), self._build(state)
            return torch._tensor._rebuild_from_type_v2(*arguments)
        arguments = self._build(call.arguments)
        try:
            return self._known(call, name, arguments)
        except Exception as error:
            # Such as arrays of objects, if the user has allowed NumPy's types.
            if name not in self.allowed or isinstance(error, MemoryError):
                raise
        function = self.allowed[name]
        built = function(*arguments) if call.initialized else function.__new__(function, *arguments)
        self._note(call, built)
        for key, value in self._build(call.items):
            built[key] = value
        if call.state is not None:
            _set_state(built, self._build(call.state))
        return built

    def _known(self, call: _Call, name: str, arguments: tuple) -> Any:
        if name not in BUILDERS:
            _refuse(f'calls {name}')
        options = {key: self._build(value) for key, value in vars(call).items() if value and key in ('items', 'state')}
        built = BUILDERS[name](*arguments, **options)
        if isinstance(built, torch.Tensor):
            if built._backward_hooks or built.is_quantized:
                _refuse('has a quantized tensor, or one with hooks')
            self._spend(built.numel() * built.itemsize)
        self._spend(sys.getsizeof(built) + sys.getsizeof(getattr(built, '__dict__', None)))
        return built


def _name_of(value: Any) -> str:
    return f'{value.__module__}.{value.__qualname__}'


def _set_state(built: Any, state: Any) -> None:
    """Set the state of an object whose type is on the allow-list, as pickle does."""
    if hasattr(built, '__setstate__'):
        return built.__setstate__(state)
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        vars(built).update(attributes)
    for key, value in (slots or {}).items():
        setattr(built, key, value)


def _values() -> Dict[str, Any]:
    """Return the types and functions that a pickle may hold as values, by name."""
    values = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    for name, method in HistoryBuffer._statistics_methods.items():
        if name not in STATISTICS:
            values[_name_of(method)] = method
    return {**values, HISTORY: HistoryBuffer, 'numpy.ndarray': np.ndarray}


def _ordered_dict(pairs: Any = (), items: Any = (), state: Any = None) -> OrderedDict:
    built = OrderedDict(pairs)
    built.update(items)
    if state:
        if [*state] != ['_metadata']:
            _refuse(f'gives an OrderedDict the attributes {[*state]}')
        built._metadata = state['_metadata']
    return built


def _namespace(state: Any = ()) -> Namespace:
    built = Namespace()
    # Not by setattr, which would let '__class__' change the type.
    vars(built).update(state)
    return built


def _dtype(code: str, *_, state: Any = None) -> np.dtype:
    dtype = _numeric(np.dtype(code))
    if state:
        _, byte_order, *rest = state
        if rest[:6] != [None, None, None, -1, -1, 0]:
            _refuse('changes the definition of a dtype')
        dtype = dtype.newbyteorder(byte_order)
    return dtype


def _numeric(dtype: np.dtype) -> np.dtype:
    # The bytes of an array of objects would be used as memory addresses.
    if dtype.kind not in 'biuf':
        _refuse(f'has values of {dtype!r}')
    return dtype


def _array(*_, state: tuple) -> np.ndarray:
    _, shape, dtype, is_fortran, data = state
    values = np.frombuffer(data, _numeric(dtype))
    return values.reshape(shape, order='F' if is_fortran else 'C').copy('K')


def _history(state: dict) -> HistoryBuffer:
    """Build a log; with MMEngine's own code a file could change the statistics of all logs."""
    # Copied, since an allowed type may get the state after a refusal here.
    state = dict(state)
    length, log, counts = (state.pop(key) for key in ('max_length', '_log_history', '_count_history'))
    methods = state.pop('statistics_methods', {})
    built = HistoryBuffer(max_length=length)
    if state or any(HistoryBuffer._statistics_methods.get(name) != method for name, method in methods.items()):
        _refuse('changes the statistics of HistoryBuffer')
    if (
        type(length) is not int
        or not type(log) is type(counts) is np.ndarray
        or log.shape != counts.shape
        or log.ndim != 1
    ):
        _refuse('has a malformed HistoryBuffer')
    built._log_history, built._count_history = log, counts
    return built


def _statistic(owner: Any, name: str) -> Callable:
    if owner is not HistoryBuffer or name not in STATISTICS:
        _refuse(f'refers to the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)


# Our functions in place of those that a pickle calls, by the latter's names.
BUILDERS: Dict[str, Callable] = {
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
    BUILDERS[f'{module}._reconstruct'] = _array
    BUILDERS[f'{module}.scalar'] = lambda dtype, data: np.frombuffer(data, _numeric(dtype))[0]
