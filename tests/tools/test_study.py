import json
from types import SimpleNamespace

import cv2
import make_motion_dataset as motion
import pytest
import study
import torch
from mmblvnet.models import BLResNet, BLVNet
from torch import nn


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study') / 'motion'
    motion.make_dataset(folder, train=16, val=8, short_side=(36, 40))
    return folder


@pytest.fixture
def options(data, tmp_path):
    return [
        '--data', str(data), '--out', str(tmp_path), '--frames', '4',
        '--epochs', '1', '--images', '64'
    ]


@pytest.fixture
def image_weights(tmp_path):
    """In the place of those that the study would train."""
    weights = BLResNet(50).state_dict()
    torch.save(
        dict(state_dict={f'backbone.{k}': v for k, v in weights.items()}),
        tmp_path / 'image_weights_64_32.pth')


def write_runs(out, seeds, model='tsm', accuracy=50.):
    with open(out / 'runs.jsonl', 'a') as file:
        for seed in seeds:
            line = dict(model=model, frames=4, seed=seed, epochs=1,
                        batch_size=8, size=32, data='motion',
                        accuracy=accuracy + seed)
            file.write(json.dumps(line) + '\n')


def test_a_rerun_trains_what_is_missing_and_nothing_else(
        options, image_weights, tmp_path, monkeypatch, capsys):
    options += ['--models', 'tsm', '--seeds', '0', '1']
    write_runs(tmp_path, [0])
    study.main(options)
    lines = (tmp_path / 'runs.jsonl').read_text().splitlines()
    run, = [json.loads(line) for line in lines[1:]]
    assert (run['seed'], run['model'], run['frames']) == (1, 'tsm', 4)
    assert run['accuracy'] % 12.5 == 0
    assert '| bLVNet-TSM | 4 |' in capsys.readouterr().out
    assert (tmp_path / 'study.png').stat().st_size > 10_000

    monkeypatch.setattr(study, 'train_video_model', None)
    study.main(options)
    assert (tmp_path / 'runs.jsonl').read_text().splitlines() == lines


def test_seeds_that_are_not_whole_are_left_out_and_named(
        options, tmp_path, capsys):
    write_runs(tmp_path, [0, 1])
    options += ['--models', 'tsm', '--report-only', '--seeds']
    study.main(options + ['0', '1', '2'])
    printed = capsys.readouterr().out
    assert 'tsm, 4 frames, seed 2' in printed
    assert '| 50.5 (50.0 to 51.0) |' in printed
    with pytest.raises(SystemExit, match='no seed has all its runs'):
        study.main(options + ['3'])


def test_a_run_of_other_settings_counts_as_missing(options, tmp_path):
    write_runs(tmp_path, [0])
    with pytest.raises(SystemExit, match='no seed has all its runs'):
        study.main(options + ['--models', 'tsm', '--report-only', '--seeds',
                              '0', '--epochs', '3'])


def test_starts_of_the_weights_are_told_apart(options, tmp_path, capsys):
    for key in ('tam_r3', *study.INITIALIZATION):
        write_runs(tmp_path, [0], key)
    study.main(options + ['--models', 'tam_r3', *study.INITIALIZATION,
                          '--report-only', '--seeds', '0'])
    printed = capsys.readouterr().out
    for weights in ('from the image task', 'from scratch'):
        for tams in ('as published', 'as identity'):
            assert f'| {weights} | {tams} | 50.0' in printed


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(SystemExit, match='make_motion_dataset.py'):
        study.main(['--data', str(tmp_path), '--out', str(tmp_path)])


@pytest.mark.parametrize('key', study.ALL)
def test_runs_differ_in_the_model_alone(options, key, monkeypatch):
    monkeypatch.setattr(study, 'image_checkpoint', lambda args: 'FILE')
    args = study.parse_args(options)
    cfg = study.video_config(args, key, 4, seed=3)
    other = study.video_config(args, 'tam_r3', 4, seed=3)
    model, other_model = cfg.pop('model'), other.pop('model')
    assert cfg.pop('experiment_name') == f'{key}_4_3'
    other.pop('experiment_name')
    if study.ALL[key].hook:
        assert cfg.custom_hooks.pop() == dict(type='StartAsIdentity')
    assert cfg.to_dict() == other.to_dict()
    # Each frame or pair of frames that comes out of the backbone.
    assert model.cls_head.pop('num_segments') == (4 if key == 'tsn' else 2)
    other_model.cls_head.pop('num_segments')
    assert model.cls_head == other_model.cls_head


def test_identity_starts_as_the_network_without_tams():
    plain = nn.ModuleDict(dict(backbone=BLVNet(50, temporal_module=None)))
    # The residual branches would add nothing.
    for name, parameter in plain.named_parameters():
        if name.endswith('bn3.weight'):
            nn.init.normal_(parameter)
    network = nn.ModuleDict(dict(backbone=BLVNet(50)))
    network.load_state_dict(plain.state_dict(), strict=False)
    study.StartAsIdentity().before_train(SimpleNamespace(model=network))
    x = torch.randn(16, 3, 32, 32)
    assert torch.equal(network['backbone'](x), plain['backbone'](x))


@pytest.mark.slow
def test_weights_of_the_image_task_start_a_video_model(options, tmp_path):
    args = study.parse_args(options)
    runner = study.make_runner(
        study.video_config(args, 'tam_r3', 4, seed=0))
    file = tmp_path / 'image_weights_64_32.pth'
    image_weights = torch.load(file)['state_dict']
    fresh = study.MODELS.build(runner.cfg.model)
    fresh.init_weights()
    weights = fresh.state_dict()
    backbone = [name for name in image_weights if name.startswith('backbone')]
    assert len(backbone) > 100
    for name in backbone:
        assert torch.equal(weights[name], image_weights[name]), name


@pytest.mark.slow
def test_costs_are_measured_and_reported(options, tmp_path, capsys):
    write_runs(tmp_path, [0])
    options += ['--models', 'tsm', '--seeds', '0']
    study.main(options + ['--measure-cost'])
    cost = json.loads((tmp_path / 'costs_8_32.json').read_text())['tsm_4']
    middle, longest, shortest = cost['seconds']
    assert 0 < shortest <= middle <= longest
    assert cost['memory'] > 1
    study.main(options + ['--report-only'])
    assert 'not measured' not in capsys.readouterr().out


def test_the_images_of_the_image_task_are_listed_with_their_shapes(tmp_path):
    study.make_images(tmp_path, dict(train=3, val=1))
    lines = (tmp_path / 'train.txt').read_text().split('\n')[:-1]
    assert [line.split()[1] for line in lines] == ['0', '1', '2']
    for line in lines:
        assert cv2.imread(str(tmp_path / line.split()[0])).std() > 0
