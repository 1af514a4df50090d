"""Every bad checkpoint by every way that loads one."""
import functools
import io
import os
import re
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from convert_checkpoint import convert, publish
from make_motion_dataset import make_dataset
from mmaction.registry import MODELS
from mmblvnet.apis import load_recognizer
from mmblvnet.conversion.published import to_published
from mmengine.runner import Runner
from paths import MOTION
from test_mim import data_options

MODEL = dict(
    type='Recognizer2D',
    backbone=dict(type='BLVNet', depth=50, num_segments=2),
    cls_head=dict(type='TSNHead', num_classes=3, in_channels=2048))
CONFIG = f"default_scope = 'mmaction'\nmodel = {MODEL!r}\n"


class Call:
    """Asks for a function to be called."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@functools.lru_cache(maxsize=None)
def model():
    return MODELS.build(MODEL)


@functools.lru_cache(maxsize=None)
def content_of(form):
    """What a sound file of a form holds."""
    ours = model().state_dict()
    training = dict(
        state_dict=ours,
        meta=dict(epoch=1, iter=1),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}))
    backbone = {name.removeprefix('backbone.'): value
                for name, value in ours.items()
                if name.startswith('backbone.')}
    return dict(
        training=training,
        backbone=dict(state_dict=backbone),
        published=to_published(ours)[0])[form]


def weights_of(content):
    return content.get('state_dict', content)


def with_weights(content, change):
    """The same with other weights, in a file of the same form."""
    weights = {name: change(name, value)
               for name, value in weights_of(content).items()}
    return dict(content, state_dict=weights) if (
        'state_dict' in content) else weights


# For what is refused before anyone looks at the weights.
SMALL = dict(state_dict=dict(weight=torch.ones(99)))


def first_is(replacement):
    """Write a file whose first convolution is another tensor."""

    def write(file, form, trace):
        torch.save(
            with_weights(
                content_of(form), lambda name, value: replacement(value)
                if name.endswith('conv1.weight') and value.shape[-1] == 7
                else value), file)

    return write


def weight_is(value):
    """Write a file with this weight."""
    return lambda file, form, trace: torch.save(
        dict(state_dict=dict(weight=value)), file)


def runs_code(file, form, trace):
    torch.save(dict(SMALL, extra=Call(os.mkdir, str(trace))), file)


def runs_code_in_the_old_format(file, form, trace):
    torch.save(dict(SMALL, extra=Call(os.mkdir, str(trace))), file,
               _use_new_zipfile_serialization=False)


@functools.lru_cache(maxsize=None)
def compressed_zeros():
    plain, compressed = io.BytesIO(), io.BytesIO()
    torch.save(dict(weight=torch.zeros(80_000_000)), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(
            compressed, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return compressed.getvalue()


def zip_bomb(file, form, trace):
    file.write_bytes(compressed_zeros())


def memory_bomb(file, form, trace):
    torch.save(dict(SMALL, extra=Call(bytearray, 2**36)), file)


def many_views(file, form, trace):
    """Thousands of tensors that share their values."""
    value = torch.zeros(2**20)
    views = [value.view(-1) for _ in range(2000)]
    torch.save(dict(SMALL, optimizer=views), file)


def truncated(file, form, trace):
    torch.save(SMALL, file)
    with open(file, 'r+b') as stream:
        stream.truncate(file.stat().st_size // 2)


def text(file, form, trace):
    file.write_text('Not a checkpoint.\n' * 99)


def empty(file, form, trace):
    file.touch()


def directory(file, form, trace):
    file.mkdir()


def numpy_archive(file, form, trace):
    with file.open('wb') as stream:
        np.savez(stream, weight=np.zeros(3))


def hdf5(file, form, trace):
    file.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(999))


def torchscript(file, form, trace):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))


def another_network(file, form, trace):
    torch.save(torch.nn.Linear(2, 2).state_dict(), file)


UNSAFE = 'no checkpoint that can be loaded safely'
# How each is written, and the reason that every way has to give.
FILES = dict(
    code=(runs_code, UNSAFE),
    code_in_the_old_format=(runs_code_in_the_old_format, UNSAFE),
    memory_bomb=(memory_bomb, f'{UNSAFE}.*Memory'),
    zip_bomb=(zip_bomb, f'{UNSAFE}.*memory'),
    many_views=(many_views, f'{UNSAFE}.*memory'),
    endless_view=(weight_is(torch.zeros(1).expand(2**40)),
                  f'{UNSAFE}.*memory'),
    sparse=(weight_is(torch.ones(2).to_sparse()), f'{UNSAFE}.*values'),
    quantized=(weight_is(torch.quantize_per_tensor(
        torch.ones(2), 1., 0, torch.quint8)), f'{UNSAFE}.*values'),
    no_values=(weight_is(torch.ones(2, device='meta')), f'{UNSAFE}.*values'),
    truncated=(truncated, UNSAFE),
    other_shape=(first_is(lambda v: v[:5]),
                 r'conv1.weight[^\n]*\(5, 3, 7, 7\)|'
                 r'\(5, 3, 7, 7\)[^\n]*conv1.weight'),
    nan=(first_is(lambda v: v * torch.nan), 'finite'),
    infinity=(first_is(lambda v: v / 0), 'finite'),
    text=(text, UNSAFE),
    empty=(empty, UNSAFE),
    directory=(directory, 'no file|do not exist|does not exist'),
    numpy_archive=(numpy_archive, UNSAFE),
    hdf5=(hdf5, UNSAFE),
    torchscript=(torchscript, UNSAFE),
    another_network=(another_network, 'known|missing|not in'),
)


class Dataset(torch.utils.data.Dataset):
    """Never asked for a sample, since the checkpoint is refused before."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise AssertionError('the checkpoint was accepted')


def run(file, task, resume=False):
    """Train or test with a checkpoint, as ``mim`` does."""
    loader = dict(
        batch_size=1,
        dataset=Dataset(),
        sampler=dict(type='DefaultSampler', shuffle=False))
    tasks = dict(
        train=dict(
            train_dataloader=loader,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            train_cfg=dict(by_epoch=True, max_epochs=2)),
        test=dict(
            test_dataloader=loader,
            test_evaluator=dict(type='AccMetric'),
            test_cfg=dict()))
    runner = Runner(
        model(),
        str(file.parent),
        **tasks[task],
        custom_hooks=[dict(type='CheckpointCheckHook')],
        load_from=str(file),
        resume=resume,
        default_scope='mmaction',
        experiment_name=f'hostile{file.parent.name}')
    getattr(runner, task)()


def init_cfg(file):
    MODELS.build(
        dict(MODEL['backbone'],
             init_cfg=dict(type='Pretrained',
                           checkpoint=str(file)))).init_weights()


def recognizer_of(file):
    config = file.parent / 'config.py'
    config.write_text(CONFIG)
    load_recognizer(str(config), str(file), 'cpu')


# The form of the file, and what loads it.
WAYS = dict(
    test=('training', lambda file: run(file, 'test')),
    resume=('training', lambda file: run(file, 'train', resume=True)),
    load_from=('training', lambda file: run(file, 'train')),
    init_cfg=('backbone', init_cfg),
    predict=('training', recognizer_of),
    convert=('published', lambda file: convert(file, file.parent / 'new')),
    to_published=('training',
                  lambda file: publish(file, file.parent / 'new')),
)


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    # They take most of the time.
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)
    monkeypatch.setattr(Runner, '_init_model_weights', lambda *args: None)


def memory():
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('kind', FILES)
def test_it_is_refused_with_its_reason(tmp_path, kind, way):
    write, reason = FILES[kind]
    form, load = WAYS[way]
    file, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    write(file, form, trace)
    before = memory()
    with pytest.raises((ValueError, RuntimeError, OSError)) as error:
        load(file)
    message = str(error.value)
    assert str(file) in message
    assert re.search(reason, message, re.DOTALL), message
    assert len(message) < 9999
    # PyTorch advises to load the file unsafely.
    assert 'trusted source' not in message
    assert not trace.exists() and not (tmp_path / 'new').exists()
    assert memory() < before + 512


@pytest.mark.parametrize('way', WAYS)
def test_the_sound_file_is_accepted(tmp_path, way):
    form, load = WAYS[way]
    file = tmp_path / 'sound.pth'
    torch.save(content_of(form), file)
    try:
        load(file)
    except AssertionError as error:
        # Of the data set, which is asked after the checkpoint is loaded.
        assert 'the checkpoint was accepted' in str(error)


def test_resuming_runs_no_config_of_a_checkpoint(tmp_path):
    file, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    content = content_of('training')
    code = f'import os\nos.mkdir({str(trace)!r})'
    torch.save(dict(content, meta=dict(content['meta'], config=code)), file)
    with pytest.raises(AssertionError, match='was accepted'):
        run(file, 'train', resume=True)
    assert not trace.exists()


def mim(command, file, *options):
    """What a command prints, which has to fail."""
    result = subprocess.run(
        [sys.executable, '-m', 'mim', command, 'mmaction', MOTION,
         '--work-dir', str(file.parent / 'run'), *options],
        env=dict(os.environ, PYTHONWARNINGS='ignore'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    assert result.returncode, result.stdout[-999:]
    return result.stdout


@pytest.fixture
def motion(tmp_path):
    make_dataset(tmp_path, train=8, val=8, seed=0)
    return ['--cfg-options', *data_options(tmp_path)]


@pytest.mark.slow
@pytest.mark.parametrize('command', ['test', 'resume', 'load_from',
                                     'init_cfg'])
@pytest.mark.parametrize('kind', ['code', 'text', 'truncated', 'memory_bomb'])
def test_the_command_ends_with_the_reason(tmp_path, motion, kind, command):
    write, reason = FILES[kind]
    file, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    write(file, 'training', trace)
    options = dict(
        test=['--checkpoint', str(file), *motion],
        resume=['--resume', str(file), *motion],
        load_from=[*motion, f'load_from={file}'],
        # The config says None, which is no dict to add to.
        init_cfg=[*motion, 'model.backbone.init_cfg._delete_=True',
                  'model.backbone.init_cfg.type=Pretrained',
                  f'model.backbone.init_cfg.checkpoint={file}'])[command]
    output = mim('test' if command == 'test' else 'train', file, *options)
    assert str(file) in output
    assert re.search(reason, output, re.DOTALL), output
    assert not trace.exists()
