import json

import make_motion_dataset as motion
import pytest
import study
from mmengine.registry import init_default_scope


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study') / 'motion'
    motion.make_dataset(folder, train=16, val=8, short_side=(36, 40))
    return folder


@pytest.fixture
def options(data, tmp_path):
    return ['--data', str(data), '--out', str(tmp_path), '--frames', '4', '--epochs', '1', '--size', '32']


def write_runs(out, model, accuracies, frames=4, lr=0.02):
    with open(out / 'runs.jsonl', 'a') as file:
        for seed, accuracy in enumerate(accuracies):
            settings = dict(epochs=1, batch_size=16, size=32, data='motion')
            line = dict(model=model, frames=frames, seed=seed, lr=lr, accuracy=accuracy, **settings)
            file.write(json.dumps(line) + '\n')


def test_a_rerun_trains_what_is_missing_and_nothing_else(options, tmp_path, monkeypatch, capsys):
    options += ['--models', 'tsm', '--seeds', '0', '1']
    write_runs(tmp_path, 'tsm', [50])
    study.main(options)
    lines = (tmp_path / 'runs.jsonl').read_text().splitlines()
    (run,) = [json.loads(line) for line in lines[1:]]
    assert (run['seed'], run['model'], run['frames'], run['lr']) == (1, 'tsm', 4, 0.02)
    assert run['accuracy'] % 12.5 == 0
    assert run['curve'] == [run['accuracy']]
    assert '| bLVNet-TSM | 4 | 0.02 |' in capsys.readouterr().out

    monkeypatch.setattr(study, 'train', lambda args, run: pytest.fail('trains again'))
    study.main(options)
    assert (tmp_path / 'runs.jsonl').read_text().splitlines() == lines


def test_means_and_differences_are_reported_with_their_intervals(options, tmp_path, capsys):
    write_runs(tmp_path, 'tsm', [50, 52, 54])
    write_runs(tmp_path, 'tam_r3', [60, 61, 62])
    write_runs(tmp_path, 'tam_r3', [70], frames=8)
    study.main(options + ['--frames', '4', '8', '--report-only'])
    printed = capsys.readouterr().out
    # Student's t at 2 degrees of freedom is 4.303 standard errors.
    assert '| bLVNet-TSM | 4 | 0.02 | 52.0 ± 5.0 | 3 |' in printed
    assert '| bLVNet-TAM, r = 3 | 8 | 0.02 | 70.0 | 1 |' in printed
    assert (
        '| RQ4: TAM against TSM | bLVNet-TAM, r = 3 at 4 against bLVNet-TSM at 4 | +9.0 | +4.8 to +13.2 |'
    ) in printed
    assert ('| RQ3: more frames | bLVNet-TAM, r = 3 at 8 against bLVNet-TAM, r = 3 at 4 | +9.0 | - |') in printed


def test_each_model_is_reported_at_its_best_learning_rate(options, tmp_path, capsys):
    write_runs(tmp_path, 'tsm', [50, 52, 54], lr=0.02)
    write_runs(tmp_path, 'tsm', [55, 60, 20], lr=0.005)
    write_runs(tmp_path, 'tam_r3', [60, 61], lr=0.02)
    write_runs(tmp_path, 'tam_r3', [62, 63], lr=0.005)
    study.main(options + ['--report-only', '--lr', '0.1', '0.005', '0.02'])
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith('| bLVNet')]
    assert [row.split(' | ')[:5] for row in rows] == [
        ['| bLVNet-TSM', '4', '0.02', '52.0 ± 5.0', '3'],
        ['| bLVNet-TAM, r = 3', '4', '0.005', '62.5 ± 6.4', '2'],
    ]
    assert 'r = 3 at 4 against bLVNet-TSM at 4 | +10.5 |' in printed


def test_all_learning_rates_are_trained(options, tmp_path, monkeypatch):
    monkeypatch.setattr(study, 'train', lambda args, run: dict(accuracy=10 + run['lr']))
    write_runs(tmp_path, 'tsm', [50])
    study.main(options + ['--models', 'tsm', '--seeds', '0', '1', '--lr', '0.02', '0.005'])
    lines = map(json.loads, (tmp_path / 'runs.jsonl').read_text().splitlines())
    assert [(line['seed'], line['lr']) for line in lines] == [(0, 0.02), (0, 0.005), (1, 0.02), (1, 0.005)]


@pytest.mark.parametrize('other', [['--epochs', '3'], ['--lr', '0.01']])
def test_a_run_of_other_settings_counts_as_missing(options, tmp_path, other):
    write_runs(tmp_path, 'tsm', [50])
    with pytest.raises(SystemExit, match='no run is done'):
        study.main(options + ['--report-only', *other])


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(SystemExit, match='make_motion_dataset.py'):
        study.main(['--data', str(tmp_path), '--out', str(tmp_path)])


def test_runs_differ_in_the_model_alone(options):
    args = study.parse_args(options)
    init_default_scope('mmaction')
    for key in study.CLIPS:
        run = dict(frames=4, seed=3, lr=0.1)
        cfg, other = (study.make_config(args, dict(run, model=model)) for model in (key, 'tam_r3'))
        model, other_model = cfg.pop('model'), other.pop('model')
        assert cfg.pop('experiment_name') == f'{key}_4_0.1_3'
        other.pop('experiment_name')
        assert cfg.to_dict() == other.to_dict()
        assert cfg.optim_wrapper.optimizer.lr == 0.1 and cfg.randomness.seed == 3
        backbone = model.pop('backbone')
        assert 'init_cfg' not in backbone
        # One segment per frame or pair that the backbone returns.
        assert model.cls_head.pop('num_segments') == (2 if backbone.type == 'BLVNet' else 4)
        other_model.pop('backbone')
        other_model.cls_head.pop('num_segments')
        assert model == other_model


@pytest.mark.slow
def test_costs_are_measured_reported_and_drawn(options, tmp_path, capsys):
    write_runs(tmp_path, 'tsm', [50])
    options += ['--models', 'tsm']
    study.main(options + ['--measure-cost'])
    cost = json.loads((tmp_path / 'costs_16_32.json').read_text())['tsm_4']
    assert cost['seconds'] > 0 and cost['memory'] > 1
    study.main(options + ['--report-only'])
    assert 'not measured' not in capsys.readouterr().out
    assert (tmp_path / 'motion.png').stat().st_size > 10_000
