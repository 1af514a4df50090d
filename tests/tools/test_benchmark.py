import json

import benchmark
import pytest
import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from mmaction.registry import MODELS


def test_every_row_is_measured(tmp_path, capsys):
    benchmark.main([
        '--frames', '4', '--size', '32', '--rounds', '1', '--warm-up', '0',
        '--rows', 'literal', 'tsm_8',
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


@pytest.mark.parametrize('rows', [
    ['blvnet_tam_bf16'],
    pytest.param(
        ['blvnet_tam_onnx', 'blvnet_tam_int8', 'blvnet_tam_openvino',
         'blvnet_tam_openvino_bf16', 'blvnet_tam_openvino_int8'],
        marks=pytest.mark.slow),
    pytest.param(['blvnet_tam_compile_bf16'], marks=pytest.mark.slow),
])
def test_other_precisions_and_runtimes_are_measured_in_inference_alone(
        rows, tmp_path):
    benchmark.main([
        '--frames', '4', '--size', '64', '--rounds', '1', '--warm-up', '0',
        '--rows', 'blvnet_tam', *rows,
        '--out', str(tmp_path)
    ])
    results = json.loads((tmp_path / 'benchmark.json').read_text())
    for key in rows:
        assert results[key]['inference'][0] > 0
        assert 'training' not in results[key]
        assert results[key]['macs'] == results['blvnet_tam']['macs']


@pytest.mark.parametrize('row, bound', [
    ('blvnet_tam_bf16', 0.1),
    pytest.param('blvnet_tam_compile', 1e-4, marks=pytest.mark.slow),
    pytest.param('blvnet_tam_openvino', 1e-4, marks=pytest.mark.slow),
    pytest.param('blvnet_tam_openvino_int8', 0.5, marks=pytest.mark.slow),
])
def test_each_row_runs_the_same_network(row, bound):
    args = benchmark.parse_args(
        ['--frames', '4', '--size', '64'])
    plain, other = (
        benchmark.Network(key, args, 2)
        for key in ('blvnet_tam', row))
    with torch.no_grad():
        expected, maps = (n.tested(plain.clips) for n in (plain, other))
    assert (maps - expected).std() < bound * expected.std()
    assert not torch.equal(maps, expected)


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
