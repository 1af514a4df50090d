import json
from functools import partial

import benchmark
import pytest
import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from mmaction.registry import MODELS
from paths import MOTION

SMALL = ['--rounds', '1', '--warm-up', '0']
RUNTIMES = [
    'blvnet_tam_onnx',
    'blvnet_tam_int8',
    'blvnet_tam_openvino',
    'blvnet_tam_openvino_bf16',
    'blvnet_tam_openvino_int8',
]


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Return a function that runs the tool and returns its JSON results."""
    # New processes take long to start and are not under test.
    monkeypatch.setattr(benchmark, 'in_fresh_process', lambda function, *args: function(*args))

    def run(*options):
        benchmark.main([*SMALL, '--out', str(tmp_path), *options])
        return json.loads((tmp_path / 'benchmark.json').read_text())

    return run


def test_rows_and_configs_are_measured_side_by_side(measured, tmp_path, capsys):
    results = measured(
        *('--rows', 'reference', 'blvnet_tam_bf16', '--configs', str(MOTION)),
        *('--frames', '4', '--size', '32', '--rounds', '2'),
    )
    names = ['bLVNet-TAM, reference', 'bLVNet-TAM, bf16', 'blvnet_tam_r50_4x2_motion']
    assert list(results) == names
    for name, result in results.items():
        modes = benchmark.MODES[: 1 if name == names[1] else 2]
        assert tuple(result['memory']) == modes
        for mode in modes:
            middle, lowest, highest = result[mode]
            assert 0 < lowest <= middle <= highest
    # The reference counts the same operations as the network.
    macs = [results[name]['macs'] for name in names]
    # The config has 8 frames, the others 4, all of the same size.
    assert macs == [macs[0], macs[0], 2 * macs[0]]
    printed = capsys.readouterr().out
    for name in names:
        assert f'| {name} |' in printed
    assert (tmp_path / 'benchmark.md').read_text() in printed


def test_several_frames_and_sizes_make_a_row_each():
    rows = benchmark.rows_of(['blvnet_tam', 'tsm_8'], [], [2, 4], [32, 64])
    assert {name: row[2:4] for name, row in rows.items()} == {
        'bLVNet-TAM, 2 frames, 32 pixels': (2, 32),
        'bLVNet-TAM, 2 frames, 64 pixels': (2, 64),
        'bLVNet-TAM, 4 frames, 32 pixels': (4, 32),
        'bLVNet-TAM, 4 frames, 64 pixels': (4, 64),
        'TSM-R50, 8 frames, 32 pixels': (8, 32),
        'TSM-R50, 8 frames, 64 pixels': (8, 64),
    }


@pytest.mark.slow
@pytest.mark.parametrize('rows', [RUNTIMES, ['blvnet_tam_compile_bf16']])
def test_other_runtimes_are_measured_in_inference_only(rows, measured):
    results = measured('--size', '64', '--frames', '4', '--rows', *rows)
    assert len(results) == len(rows)
    for result in results.values():
        assert result['inference'][0] > 0
        assert 'training' not in result


@pytest.mark.parametrize(
    'key, bound',
    [
        ('blvnet_tam_bf16', 0.1),
        pytest.param('blvnet_tam_compile', 1e-4, marks=pytest.mark.slow),
        pytest.param('blvnet_tam_openvino', 1e-4, marks=pytest.mark.slow),
        pytest.param('blvnet_tam_openvino_int8', 0.5, marks=pytest.mark.slow),
    ],
)
def test_each_row_runs_the_same_network(key, bound):
    rows = [benchmark.ROWS[key]._replace(frames=4, size=64) for key in ('blvnet_tam', key)]
    (plain, clips), (other, _) = [benchmark.prepare(row, 'inference', 2) for row in rows]
    expected, maps = plain(clips), other(clips)
    assert (maps - expected).std() < bound * expected.std()
    assert not torch.equal(maps, expected)


def test_only_clip_networks_get_num_segments():
    for kind, told in dict(ResNet=None, BLResNet=None, ResNetTSM=8).items():
        assert getattr(benchmark.build(8, type=kind), 'num_segments', None) == told


def test_the_tsm_of_the_benchmark_shifts_once_per_block():
    network = benchmark.ROWS['tsm'].make(8)
    shifts = [m for m in network.modules() if isinstance(m, TemporalShift)]
    assert len(shifts) == 3 + 4 + 6 + 3


def test_parameters_and_macs_are_those_of_the_paper():
    backbone = MODELS.build(dict(type='BLVNet', depth=101, frame_output='pair'))
    # The classifier of 174 classes runs on each of 8 pairs.
    classifier = 174 * 2048
    parameters = sum(p.numel() for p in backbone.parameters())
    assert round((parameters + classifier + 174) / 1e6, 2) == 40.18
    clip = torch.empty(16, 3, 224, 224, device='meta')
    macs = benchmark.count(backbone.to('meta'), clip)['macs'] + 8 * classifier
    assert round(macs / 1e9, 2) == 32.15


def test_rounds_are_interleaved_and_those_of_warm_up_do_not_count():
    ran = []
    runs = {key: partial(ran.append, key) for key in 'ab'}
    times = benchmark.interleave(runs, warm_up=1, rounds=2)
    assert ''.join(ran) == 'ababab'
    assert {key: len(taken) for key, taken in times.items()} == dict(a=2, b=2)
