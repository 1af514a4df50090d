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


def write_runs(out, model, accuracies, frames=4):
    with open(out / 'runs.jsonl', 'a') as file:
        for seed, accuracy in enumerate(accuracies):
            line = dict(
                model=model,
                frames=frames,
                seed=seed,
                epochs=1,
                batch_size=16,
                size=32,
                data='motion',
                accuracy=accuracy,
            )
            file.write(json.dumps(line) + '\n')


def test_a_rerun_trains_what_is_missing_and_nothing_else(options, tmp_path, monkeypatch, capsys):
    options += ['--models', 'tsm', '--seeds', '0', '1']
    write_runs(tmp_path, 'tsm', [50])
    study.main(options)
    lines = (tmp_path / 'runs.jsonl').read_text().splitlines()
    (run,) = [json.loads(line) for line in lines[1:]]
    assert (run['seed'], run['model'], run['frames']) == (1, 'tsm', 4)
    assert run['accuracy'] % 12.5 == 0
    assert run['curve'] == [run['accuracy']]
    assert '| bLVNet-TSM | 4 |' in capsys.readouterr().out

    monkeypatch.setattr(study, 'train', None)
    study.main(options)
    assert (tmp_path / 'runs.jsonl').read_text().splitlines() == lines


def test_means_and_differences_are_reported_with_their_intervals(options, tmp_path, capsys):
    write_runs(tmp_path, 'tsm', [50, 52, 54])
    write_runs(tmp_path, 'tam_r3', [60, 61, 62])
    write_runs(tmp_path, 'tam_r3', [70], frames=8)
    study.main(options + ['--frames', '4', '8', '--report-only'])
    printed = capsys.readouterr().out
    # Student's t with 2 degrees of freedom: 4.303 standard errors.
    assert '| bLVNet-TSM | 4 | 52.0 ± 5.0 | 3 |' in printed
    assert '| bLVNet-TAM, r = 3 | 8 | 70.0 | 1 |' in printed
    assert (
        '| RQ4: TAM against TSM | bLVNet-TAM, r = 3 at 4 against bLVNet-TSM at 4 | +9.0 | +4.8 to +13.2 |'
    ) in printed
    assert ('| RQ3: more frames | bLVNet-TAM, r = 3 at 8 against bLVNet-TAM, r = 3 at 4 | +9.0 | - |') in printed


def test_a_run_of_other_settings_counts_as_missing(options, tmp_path):
    write_runs(tmp_path, 'tsm', [50])
    with pytest.raises(SystemExit, match='no run is done'):
        study.main(options + ['--report-only', '--epochs', '3'])


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(SystemExit, match='make_motion_dataset.py'):
        study.main(['--data', str(tmp_path), '--out', str(tmp_path)])


def test_runs_differ_in_the_model_alone(options):
    args = study.parse_args(options)
    init_default_scope('mmaction')
    for key in study.CLIPS:
        cfg, other = (study.make_config(args, dict(model=model, frames=4, seed=3)) for model in (key, 'tam_r3'))
        model, other_model = cfg.pop('model'), other.pop('model')
        assert cfg.pop('experiment_name') == f'{key}_4_3'
        other.pop('experiment_name')
        assert cfg.to_dict() == other.to_dict()
        backbone = model.pop('backbone')
        assert 'init_cfg' not in backbone
        # Each frame or pair of frames that comes out of the backbone.
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
