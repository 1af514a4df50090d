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
         '4'])
    profile_operators.main()
    printed = capsys.readouterr().out
    tables, *peaks = printed.split('Convolutions reach')
    for mode, peak in zip(('inference', 'training'), peaks):
        table = tables.split(f'bLVNet-TAM, {mode}:')[1].split('bLVNet')[0]
        shares = [float(line.split('|')[2].rstrip(' %'))
                  for line in table.splitlines() if line.endswith('% |')]
        assert sum(shares) == pytest.approx(100, abs=1)
        assert '| convolution |' in table
        assert f'GFLOP/s in {mode}' in peak
