"""Files that are no checkpoints, or more than that."""

import collections
import functools
import io
import os
import re
import resource
import tarfile
import zipfile

import pytest
import torch


class Call:
    """Asks for a function to be called, and for its result to get a state."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


SMALL = dict(state_dict=dict(weight=torch.ones(99)))


def saved(**content):
    """Writes a checkpoint with this content as well."""
    return lambda file, trace: torch.save(dict(SMALL, **content), file)


def weight_is(value):
    """Writes a checkpoint with this weight."""
    return saved(state_dict=dict(weight=value))


def written(content):
    """Writes these bytes."""
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


def instructions(written):
    """Writes a checkpoint with a list of what these instructions make."""

    def write(file, trace):
        with zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('archive/data.pkl', b'\x80\x02}(X\x01\0\0\0a](' + written + b'eu.')
            archive.writestr('archive/version', '3')

    return write


def two_lists_of_records(file, trace):
    torch.save(SMALL, file)
    file.write_bytes(2 * file.read_bytes())


def tar(file, trace):
    with tarfile.open(file, 'w') as archive:
        archive.add(__file__, 'pickle')


def torchscript(file, trace):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))


def copies(function, argument):
    """Writes a checkpoint that asks for thousands of copies of its content."""
    return saved(extra=[Call(function, argument) for _ in range(9999)])


OLD_FORMAT = dict(_use_new_zipfile_serialization=False)
COUNTED = {i: i for i in range(9999)}
SHARED = torch.zeros(2**20)
UNSAFE = 'no checkpoint that can be loaded safely'
# How each is written, and the reason that has to be given.
FILES = dict(
    code=(runs_code, f'{UNSAFE}.*mkdir'),
    code_in_the_old_format=(functools.partial(runs_code, **OLD_FORMAT), f'{UNSAFE}.*mkdir'),
    memory_bomb=(saved(extra=Call(bytearray, 2**36)), f'{UNSAFE}.*int'),
    tensor_bomb=(saved(extra=Call(torch.Tensor, 2**34)), f'{UNSAFE}.*global torch.Tensor'),
    copied_dicts=(copies(collections.OrderedDict, COUNTED), f'{UNSAFE}.*memory'),
    copied_counters=(copies(collections.Counter, COUNTED), f'{UNSAFE}.*memory'),
    copied_sets=(copies(set, [*COUNTED]), f'{UNSAFE}.*memory'),
    copied_bytes=(copies(bytearray, bytes(99999)), f'{UNSAFE}.*memory'),
    empty_dicts=(instructions(b'}' * 2**22), f'{UNSAFE}.*memory'),
    empty_sets=(instructions(b'\x8f' * 2**22), f'{UNSAFE}.*EMPTY_SET'),
    gap_in_the_memo=(instructions(b'}r\xff\xff\xff\xff'), f'{UNSAFE}.*LONG_BINPUT'),
    dict_in_itself=(instructions(b'ccollections\nOrderedDict\n)Rq\0X\1\0\0\0kh\0s'), f'{UNSAFE}.*in itself'),
    state_for_a_type=(instructions(b'ccollections\nOrderedDict\n}b'), UNSAFE),
    zip_bomb=(zip_bomb, f'{UNSAFE}.*memory'),
    many_views=(saved(extra=[SHARED.view(-1) for _ in range(2000)]), f'{UNSAFE}.*memory'),
    endless_view=(weight_is(torch.zeros(1).expand(2**40)), f'{UNSAFE}.*memory'),
    sparse=(weight_is(torch.ones(2).to_sparse()), f'{UNSAFE}.*sparse'),
    quantized=(weight_is(torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8)), f'{UNSAFE}.*_qtensor'),
    no_values=(weight_is(torch.ones(2, device='meta')), f'{UNSAFE}.*_meta'),
    truncated=(truncated, UNSAFE),
    truncated_in_the_old_format=(functools.partial(truncated, **OLD_FORMAT), UNSAFE),
    two_lists_of_records=(two_lists_of_records, 'begin or end'),
    tar=(tar, 'tar file'),
    list=(lambda file, trace: torch.save([1, 2], file), 'holds a list'),
    empty=(written(b''), UNSAFE),
    text=(written(b'Not a checkpoint.\n' * 99), UNSAFE),
    directory=(lambda file, trace: file.mkdir(), 'is no file'),
    absent=(lambda file, trace: None, 'can not be found'),
    torchscript=(torchscript, UNSAFE),
)


def peak_memory():
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check_refusal(load, file, trace, reason):
    """Check that a file is refused with its reason, and nothing else."""
    before = peak_memory()
    with pytest.raises((ValueError, RuntimeError, OSError)) as error:
        load(file)
    message = str(error.value)
    assert str(file) in message
    assert re.search(reason, message, re.DOTALL), message
    assert len(message) < 9999
    # PyTorch advises to load the file unsafely.
    assert 'trusted source' not in message and 'add_safe' not in message
    assert not trace.exists()
    assert peak_memory() < before + 512
