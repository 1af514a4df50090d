import sys

import profile_operators
import pytest


@pytest.mark.parametrize('operator, family', [
    ('aten::mkldnn_convolution', 'convolution'),
    ('aten::convolution_backward', 'convolution'),
    ('aten::native_batch_norm_backward', 'norm'),
    ('aten::addcmul_', 'temporal module'),
    ('aten::threshold_backward', 'ReLU and sums of branches'),
    ('aten::avg_pool2d', 'pooling and resizing'),
    ('aten::fill_', 'new memory'),
    ('aten::stack', 'others'),
])
def test_operators_are_told_apart(operator, family):
    assert profile_operators.family(operator) == family


def test_shares_of_both_modes_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, 'argv',
        ['profile_operators.py', '--rounds', '1', '--size', '32', '--frames',
         '4', '--device', 'cpu'])
    profile_operators.main()
    printed = capsys.readouterr().out
    for mode in ('inference', 'training'):
        part = printed.split(f'bLVNet-TAM, {mode}:')[1].split('Convolutions')
        shares = [float(line.split('|')[2].rstrip(' %'))
                  for line in part[0].splitlines() if line.endswith('% |')]
        assert sum(shares) == pytest.approx(100, abs=1)
        assert '| convolution |' in part[0]
        assert 'GFLOP/s' in part[1]
