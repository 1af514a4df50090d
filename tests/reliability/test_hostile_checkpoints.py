"""Invalid checkpoints through every entry point that loads one."""

import functools
import os
import re
import subprocess
import sys

import pytest
import torch
from convert_checkpoint import convert, publish
from hostile import FILES, check_refusal
from make_motion_dataset import make_dataset
from mim_commands import data_options
from mmaction.registry import MODELS
from mmblvnet.apis import load_recognizer
from mmblvnet.conversion.published import to_published
from mmengine.runner import Runner
from paths import MOTION

MODEL = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNetTAM', depth=18, num_segments=2),
    cls_head=dict(type='TSNHead', num_classes=3, in_channels=512),
)
CONFIG = f"default_scope = 'mmaction'\nmodel = {MODEL!r}\n"


@functools.lru_cache(maxsize=None)
def model():
    return MODELS.build(MODEL)


def content_of(form):
    """Return the content of a valid checkpoint in a form: training, backbone or published."""
    ours = model().state_dict()
    if form == 'published':
        return to_published(ours)[0]
    if form == 'backbone':
        return model().backbone.state_dict()
    return dict(
        state_dict=ours, meta=dict(epoch=1, iter=1), message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={})
    )


def first_is(replacement):
    """Return a writer of a checkpoint whose first convolution is replaced."""

    def write(file, form):
        content = content_of(form)
        weights = dict(content.get('state_dict', content))
        name = next(name for name in weights if 'conv1.' in name)
        weights[name] = replacement(weights[name])
        torch.save(dict(content, state_dict=weights) if 'state_dict' in content else weights, file)

    return write


def another_network(file, form):
    torch.save(torch.nn.Linear(2, 2).state_dict(), file)


def of_the_wrong_kind(kind):
    return lambda file, form: FILES[kind][0](file, file.parent / 'executed')


# A sample of the hostile files, and valid pickles with wrong weights.
WRONG = dict(
    code=(of_the_wrong_kind('code'), FILES['code'][1]),
    memory_bomb=(of_the_wrong_kind('memory_bomb'), FILES['memory_bomb'][1]),
    endless_view=(of_the_wrong_kind('endless_view'), 'memory'),
    truncated=(of_the_wrong_kind('truncated'), FILES['truncated'][1]),
    directory=(of_the_wrong_kind('directory'), 'not a file|do not exist|does not exist'),
    other_shape=(first_is(lambda v: v[:5]), r'conv1.* has shape \(5, 3, 7, 7\)'),
    nan=(first_is(lambda v: v * torch.nan), 'finite'),
    another_network=(another_network, 'known|missing'),
)


class Dataset(torch.utils.data.Dataset):
    """A data set that raises an error when a sample is read, which means a checkpoint was accepted."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise AssertionError('the checkpoint was accepted')


def run(file, task, resume=False):
    """Train or test with a checkpoint, as ``mim`` does, up to the first sample."""
    loader = dict(batch_size=1, dataset=Dataset(), sampler=dict(type='DefaultSampler', shuffle=False))
    tasks = dict(
        train=dict(
            train_dataloader=loader,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            train_cfg=dict(by_epoch=True, max_epochs=2),
        ),
        test=dict(test_dataloader=loader, test_evaluator=dict(type='AccMetric'), test_cfg=dict()),
    )
    runner = Runner(
        model(),
        str(file.parent),
        **tasks[task],
        custom_hooks=[dict(type='CheckpointCheckHook')],
        load_from=str(file),
        resume=resume,
        default_scope='mmaction',
        experiment_name=f'hostile{file.parent.name}',
    )
    getattr(runner, task)()


def init_cfg(file):
    MODELS.build(dict(MODEL['backbone'], init_cfg=dict(type='Pretrained', checkpoint=str(file)))).init_weights()


def recognizer_of(file):
    config = file.parent / 'config.py'
    config.write_text(CONFIG)
    load_recognizer(str(config), str(file), 'cpu')


# The form of the checkpoint, and the function that loads it.
WAYS = dict(
    test=('training', lambda file: run(file, 'test')),
    resume=('training', lambda file: run(file, 'train', resume=True)),
    load_from=('training', lambda file: run(file, 'train')),
    init_cfg=('backbone', init_cfg),
    predict=('training', recognizer_of),
    convert=('published', lambda file: convert(file, file.parent / 'new')),
    to_published=('training', lambda file: publish(file, file.parent / 'new')),
)


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    # They take most of the time of a run.
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)
    monkeypatch.setattr(Runner, '_init_model_weights', lambda *args: None)


@pytest.mark.parametrize('way', WAYS)
def test_only_the_valid_file_is_accepted(tmp_path, way):
    form, load = WAYS[way]
    for kind, (write, reason) in WRONG.items():
        folder = tmp_path / kind
        folder.mkdir()
        write(folder / 'hostile.pth', form)
        check_refusal(load, folder / 'hostile.pth', folder / 'executed', reason)
        assert not (folder / 'new').exists()
    torch.save(content_of(form), tmp_path / 'sound.pth')
    try:
        load(tmp_path / 'sound.pth')
    except AssertionError as error:
        # Raised by Dataset, which is read after the checkpoint.
        assert 'the checkpoint was accepted' in str(error)


def test_resuming_runs_no_config_of_a_checkpoint(tmp_path):
    file, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    content = content_of('training')
    code = f'import os\nos.mkdir({str(trace)!r})'
    torch.save(dict(content, meta=dict(content['meta'], config=code)), file)
    with pytest.raises(AssertionError, match='was accepted'):
        run(file, 'train', resume=True)
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.parametrize('command', ['test', 'resume', 'load_from', 'init_cfg'])
def test_the_command_ends_with_the_reason(tmp_path, command):
    make_dataset(tmp_path, train=8, val=8, seed=0)
    file, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    data = ['--cfg-options', *data_options(tmp_path)]
    options = dict(
        test=['--checkpoint', file, *data],
        resume=['--resume', file, *data],
        load_from=[*data, f'load_from={file}'],
        # The config has None there, which options cannot extend.
        init_cfg=[
            *data,
            'model.backbone.init_cfg._delete_=True',
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={file}',
        ],
    )[command]
    for kind in ('code', 'text'):
        FILES[kind][0](file, trace)
        done = subprocess.run(
            [
                sys.executable,
                '-m',
                'mim',
                'test' if command == 'test' else 'train',
                'mmaction',
                MOTION,
                '--work-dir',
                str(tmp_path / 'run'),
                *map(str, options),
            ],
            env=dict(os.environ, PYTHONWARNINGS='ignore'),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode
        assert str(file) in done.stdout
        assert re.search(FILES[kind][1], done.stdout, re.DOTALL), done.stdout
        assert not trace.exists()
