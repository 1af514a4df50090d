import json

import benchmark
import pytest
import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from mmaction.registry import MODELS


def test_every_row_is_measured(tmp_path, capsys):
    benchmark.main([
        '--frames', '4', '--size', '32', '--rounds', '1', '--warm-up', '0',
        '--device', 'cpu', '--rows', 'literal', 'tsm_8',
        '--out', str(tmp_path)
    ])
    results = json.loads((tmp_path / 'benchmark.json').read_text())
    assert list(results) == ['literal', 'tsm_8']
    for result in results.values():
        for mode in ('inference', 'training'):
            middle, lowest, highest = result[mode]
            assert 0 < lowest <= middle <= highest
            assert result['memory'][mode] >= 0
    printed = capsys.readouterr().out
    assert '| bLVNet-TAM, literal |' in printed
    assert (tmp_path / 'benchmark.md').read_text() in printed
    assert (tmp_path / 'benchmark.png').stat().st_size > 10_000


@pytest.mark.slow
def test_exported_rows_are_measured_in_inference_alone(tmp_path, capsys):
    benchmark.main([
        '--frames', '4', '--size', '64', '--rounds', '1', '--warm-up', '0',
        '--device', 'cpu', '--rows', 'blvnet_tam', 'blvnet_tam_onnx',
        'blvnet_tam_int8', '--out', str(tmp_path)
    ])
    results = json.loads((tmp_path / 'benchmark.json').read_text())
    for key in ('blvnet_tam_onnx', 'blvnet_tam_int8'):
        assert results[key]['inference'][0] > 0
        assert 'training' not in results[key]
        assert results[key]['macs'] == results['blvnet_tam']['macs']


def test_exported_rows_are_refused_on_a_gpu(capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(
            ['--rows', 'blvnet_tam_onnx', '--device', 'cuda'])
    assert 'blvnet_tam_onnx: only with --device cpu' in capsys.readouterr().err


def test_the_tsm_of_the_benchmark_shifts_once_per_block():
    network = benchmark.ROWS['tsm'].make(8)
    shifts = [m for m in network.modules() if isinstance(m, TemporalShift)]
    assert len(shifts) == 3 + 4 + 6 + 3


def test_the_literal_and_the_fast_network_have_the_same_size():
    args = benchmark.parse_args(['--frames', '4', '--size', '64'])
    literal = benchmark.measure_size('literal', args)
    assert benchmark.measure_size('blvnet_tam', args) == literal


@pytest.mark.parametrize('depth, parameters, gmacs', [(50, 25.02, 23.85),
                                                      (101, 40.18, 32.15)])
def test_parameters_and_macs_are_those_of_the_paper(depth, parameters, gmacs):
    backbone = MODELS.build(
        dict(type='BLVNet', depth=depth, frame_output='pair'))
    # The classifier of the 174 classes, on each of 8 pairs.
    classifier = 174 * 2048
    total = benchmark.count_parameters(backbone) + classifier + 174
    assert round(total / 1e6, 2) == parameters
    clip = torch.randn(16, 3, 224, 224)
    macs = benchmark.count_macs(backbone, clip) + 8 * classifier
    assert round(macs / 1e9, 2) == gmacs
