"""Invalid and malicious files that stand in for checkpoints."""

import collections
import functools
import gzip
import io
import itertools
import os
import re
import resource
import struct
import tarfile
import zipfile

import pytest
import torch


class Call:
    """An object that unpickles by calling a function and, optionally, setting the state of the result."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


SMALL = dict(state_dict=dict(weight=torch.ones(99)))


def saved(**content):
    """Return a writer of a checkpoint with additional content."""
    return lambda file, trace: torch.save(dict(SMALL, **content), file)


def weight_is(value):
    """Return a writer of a checkpoint with this weight."""
    return saved(state_dict=dict(weight=value))


def bytes_are(content):
    """Return a writer of these bytes."""
    return lambda file, trace: file.write_bytes(content)


def runs_code(file, trace, **options):
    torch.save(dict(SMALL, extra=Call(os.mkdir, str(trace))), file, **options)


def truncated(file, trace, **options):
    torch.save(SMALL, file, **options)
    with open(file, 'r+b') as stream:
        stream.truncate(file.stat().st_size // 2)


def zip_bomb(file, trace):
    plain = io.BytesIO()
    torch.save(dict(weight=torch.zeros(80_000_000)), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))


def opcodes(content):
    """Return a writer of a checkpoint with a list of what these pickle opcodes build."""

    def write(file, trace):
        with zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('archive/data.pkl', b'\x80\x02}(X\x01\0\0\0a](' + content + b'eu.')
            archive.writestr('archive/version', '3')

    return write


def names_differing_in_case(file, trace):
    """Write a checkpoint that refers to one record by names that differ in case alone."""
    parts = b''
    for letters in itertools.islice(itertools.product('aA', repeat=10), 400):
        key = b'X\x0a\0\0\0' + ''.join(letters).encode()
        parts += b'(X\x07\0\0\0storagectorch\nFloatStorage\n' + key + b'X\x03\0\0\0cpuJ\0\0\4\0tQ'
    opcodes(parts)(file, trace)
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr('archive/data/' + 10 * 'a', bytes(2**20))


def hidden_central_directory(file, trace):
    """Write a zip bomb with a second central directory, which shows Python's zipfile only one record."""
    zip_bomb(file, trace)
    content = file.read_bytes()
    number, size, start = struct.unpack('<HLL', content[-12:-2])
    content = content[:-22]

    def large_end(*fields):
        return struct.pack('<4sQ2H2L4Q', b'PK\6\6', 44, 45, 45, 0, 0, *fields)

    hidden = len(content)
    content += large_end(number, number, size, start)
    (name,) = struct.unpack('<H', content[start + 28 : start + 30])
    shown = len(content)
    content += content[start : start + 46 + name]
    content += large_end(1, 1, 46 + name, shown)
    content += struct.pack('<4sLQL', b'PK\6\7', 0, hidden, 1)
    file.write_bytes(content + struct.pack('<4s4H2LH', b'PK\5\6', 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0))


def two_central_directories(file, trace):
    torch.save(SMALL, file)
    file.write_bytes(2 * file.read_bytes())


def tar(file, trace):
    with tarfile.open(file, 'w') as archive:
        archive.add(__file__, 'pickle')


def compressed_tar(file, trace):
    name = tarfile.TarInfo()
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with gzip.open(file, 'wb', compresslevel=1) as stream:
        stream.write(name.tobuf())
        for _ in range(2**6):
            stream.write(bytes(2**24))


def torchscript(file, trace):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))


def copies(function, argument):
    """Return a writer of a checkpoint that builds thousands of copies of one object."""
    return saved(extra=[Call(function, argument) for _ in range(9999)])


def doubled():
    """Return a list that prints as a billion elements, nested 30 times with two references each."""
    elements = ['a']
    for _ in range(30):
        elements = [elements, elements]
    return elements


OLD_FORMAT = dict(_use_new_zipfile_serialization=False)
COUNTED = {i: i for i in range(9999)}
SHARED = torch.zeros(2**20)
UNSAFE = 'cannot be loaded safely as a checkpoint'
# The writer of each file, and a pattern of the required message.
FILES = dict(
    code=(runs_code, f'{UNSAFE}.*mkdir'),
    code_in_the_old_format=(functools.partial(runs_code, **OLD_FORMAT), f'{UNSAFE}.*mkdir'),
    memory_bomb=(saved(extra=Call(bytearray, 2**36)), f'{UNSAFE}.*int'),
    tensor_bomb=(saved(extra=Call(torch.Tensor, 2**34)), f'{UNSAFE}.*global torch.Tensor'),
    copied_dicts=(copies(collections.OrderedDict, COUNTED), f'{UNSAFE}.*memory'),
    copied_counters=(copies(collections.Counter, COUNTED), f'{UNSAFE}.*memory'),
    copied_sets=(copies(set, [*COUNTED]), f'{UNSAFE}.*memory'),
    copied_bytes=(copies(bytearray, bytes(99999)), f'{UNSAFE}.*memory'),
    empty_dicts=(opcodes(b'}' * 2**22), f'{UNSAFE}.*memory'),
    empty_sets=(opcodes(b'\x8f' * 2**22), f'{UNSAFE}.*EMPTY_SET'),
    doubled_list=(saved(extra=Call(getattr, doubled(), 'mean')), f'{UNSAFE}.*memory'),
    gap_in_the_memo=(opcodes(b'}r\xff\xff\xff\xff'), f'{UNSAFE}.*LONG_BINPUT'),
    dict_in_itself=(opcodes(b'ccollections\nOrderedDict\n)Rq\0X\1\0\0\0kh\0s'), f'{UNSAFE}.*contains itself'),
    state_for_a_type=(opcodes(b'ccollections\nOrderedDict\n}b'), UNSAFE),
    zip_bomb=(zip_bomb, f'{UNSAFE}.*memory'),
    names_differing_in_case=(names_differing_in_case, f'{UNSAFE}.*memory'),
    many_views=(saved(extra=[SHARED.view(-1) for _ in range(2000)]), f'{UNSAFE}.*memory'),
    endless_view=(weight_is(torch.zeros(1).expand(2**40)), f'{UNSAFE}.*memory'),
    sparse=(weight_is(torch.ones(2).to_sparse()), f'{UNSAFE}.*sparse'),
    quantized=(weight_is(torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8)), f'{UNSAFE}.*_qtensor'),
    no_values=(weight_is(torch.ones(2, device='meta')), f'{UNSAFE}.*_meta'),
    truncated=(truncated, UNSAFE),
    truncated_in_the_old_format=(functools.partial(truncated, **OLD_FORMAT), UNSAFE),
    # Python 3.14 and patched older versions raise BadZipFile for these.
    two_central_directories=(two_central_directories, 'as PyTorch writes it|BadZipFile'),
    hidden_central_directory=(hidden_central_directory, 'as PyTorch writes it|BadZipFile'),
    tar=(tar, 'tar file'),
    compressed_tar=(compressed_tar, UNSAFE),
    list=(lambda file, trace: torch.save([1, 2], file), 'holds a list'),
    empty=(bytes_are(b''), UNSAFE),
    text=(bytes_are(b'Not a checkpoint.\n' * 99), UNSAFE),
    directory=(lambda file, trace: file.mkdir(), 'not a file'),
    absent=(lambda file, trace: None, 'can not be found'),
    torchscript=(torchscript, UNSAFE),
)


def peak_memory():
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check_refusal(load, file, trace, reason):
    """Check that a file is refused for a reason, runs no code and takes little memory."""
    before = peak_memory()
    with pytest.raises((ValueError, RuntimeError, OSError)) as error:
        load(file)
    message = str(error.value)
    assert str(file) in message
    assert re.search(reason, message, re.DOTALL), message
    assert len(message) < 9999
    # PyTorch's own message suggests loading the file unsafely.
    assert 'trusted source' not in message and 'add_safe' not in message
    assert not trace.exists()
    assert peak_memory() < before + 512
