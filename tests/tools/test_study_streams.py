import json
from itertools import product

import numpy as np
import pytest
import study
import study_streams
import torch
from make_motion_dataset import make_dataset
from study_streams import judge


def test_predictions_are_judged_live_in_hindsight_and_by_their_delay():
    labels = np.repeat([5, 1, 2], [4, 8, 4])
    # (frame when known, middle frame, class), 3 frames late; 2 never comes.
    predictions = [(3, 0, 5), (7, 4, 1), (12, 9, 1)]
    result = judge(labels, predictions)
    assert result['live'] == pytest.approx(5 / 12)
    assert result['hindsight'] == pytest.approx(8 / 12)
    assert result['delay'] == pytest.approx((3 + 4) / 2 / 6)


def test_windows_start_at_every_pair_or_at_a_stride(monkeypatch):
    # The predicted class is the number of the first frame.
    monkeypatch.setattr(study_streams, 'reference_scores', lambda _, clips: torch.eye(12)[clips[:, 0].long().flatten()])
    frames = torch.arange(12.0).reshape(12, 1, 1, 1)
    assert list(study_streams.windows(None, frames)) == [(7, 3.5, 0), (9, 5.5, 2), (11, 7.5, 4)]

    monkeypatch.setattr(study_streams, 'draw_video', lambda *_: (frames, None))
    monkeypatch.setattr(study_streams, 'stream', lambda *_: [])
    monkeypatch.setattr(study_streams, 'judge', lambda _, shown: dict(live=sum(label for *_, label in shown)))
    judged = study_streams.evaluate(study_streams.WINDOW_MODEL, None, 1, 32)['cuts']
    assert {way: measures['live'] for way, measures in judged.items()} == dict(
        stream=0, windows_1=0 + 2 + 4, windows_2=0 + 4, windows_4=0
    )


@pytest.mark.parametrize('cuts', [False, True])
def test_a_long_video_shows_each_action_after_another(cuts):
    frames, labels = study_streams.draw_video(0, cuts, 32)
    assert frames.shape == (len(labels), 3, 32, 32)
    new_action = torch.from_numpy(np.diff(labels) != 0)
    assert new_action.sum() == study_streams.ACTIONS - 1
    # With cuts, the scene changes with the action.
    changes = frames.float().diff(dim=0).abs().mean((1, 2, 3))
    ratio = changes[new_action].mean() / changes.median()
    assert (ratio > 3) == cuts


def write_runs(out):
    ways = ['stream', 'windows_1', 'windows_2', 'windows_4']
    with open(out / 'runs.jsonl', 'w') as file:
        for seed, live in ((0, 0.25), (1, 0.75)):
            settings = dict(lr=0.02, epochs=12, batch_size=16, size=48, data='motion')
            line = dict(model='tam', frames=8, seed=seed, accuracy=90.0, **settings)
            for kind, way in product(('continuous', 'cuts'), ways):
                line.setdefault(kind, {})[way] = dict(live=live, hindsight=0.5, delay=1.5)
            file.write(json.dumps(line) + '\n')


def test_runs_of_streams_are_reported_with_windows_beside_them(tmp_path, capsys):
    write_runs(tmp_path)
    study.main(
        ['--streams', '--report-only', '--epochs', '12', '--size', '48', '--data', 'motion', '--out', str(tmp_path)]
    )
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / 'streaming.md').read_text().strip()
    _, _, *lines = printed.strip().splitlines()
    assert [line.split(' | ')[0] for line in lines] == [
        '| windows, stride of 1 pair',
        '| windows, stride of 2 pairs',
        '| windows, stride of 4 pairs',
        '| stream: TAM, lookahead',
    ]
    # A stream computes each pair once, like windows without overlap.
    assert [line.split(' | ')[1] for line in lines] == ['2.07', '1.03', '0.52', '0.52']
    for line in lines:
        assert '| 50.0 (25.0 to 75.0) |' in line
        assert line.endswith('| 1.5 (1.5 to 1.5) | 1.5 (1.5 to 1.5) |')
    assert (tmp_path / 'streaming.png').stat().st_size > 10_000


def test_models_of_the_other_study_are_refused(capsys):
    with pytest.raises(SystemExit):
        study.parse_args(['--streams', '--models', 'tam_r3'])
    assert "--models: invalid choice: 'tam_r3' (choose from" in capsys.readouterr().err


def test_stream_models_have_the_settings_of_their_names(tmp_path):
    args = study.parse_args(['--streams', '--out', str(tmp_path)])
    for key in study_streams.MODELS:
        cfg = study.make_config(args, dict(model=key, frames=8, seed=0, lr=0.02))
        assert cfg.model.backbone.get('causal', False) == ('tam' not in key)
        hooks = [hook['type'] for hook in cfg.custom_hooks]
        assert ('StreamTrainingHook' in hooks) == key.endswith('_stream')


@pytest.mark.slow
def test_a_model_is_trained_and_tried_on_streams(tmp_path):
    make_dataset(tmp_path / 'motion', train=16, val=8, short_side=(36, 40))
    options = '--streams --models tam --seeds 0 --epochs 1 --size 32 --videos 1'.split()
    study.main([*options, '--data', str(tmp_path / 'motion'), '--out', str(tmp_path)])
    line = json.loads((tmp_path / 'runs.jsonl').read_text())
    for kind in ('continuous', 'cuts'):
        assert len(line[kind]) == 4
        for of_way in line[kind].values():
            assert 0 <= of_way['live'] <= 1 and of_way['delay'] > 0
