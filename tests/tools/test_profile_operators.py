import profile_operators
import pytest

FAMILIES = {
    'aten::mkldnn_convolution': 'convolution',
    'aten::convolution_backward': 'convolution',
    'aten::native_batch_norm_backward': 'norm',
    'aten::addcmul_': 'temporal module',
    'aten::threshold_backward': 'ReLU and sums of branches',
    'aten::avg_pool2d': 'pooling and resizing',
    'aten::fill_': 'new memory',
    'aten::stack': 'others',
}


def test_operators_are_told_apart():
    assert FAMILIES == {
        operator: profile_operators.family(operator) for operator in FAMILIES}


def test_shares_of_both_modes_are_printed(capsys):
    profile_operators.main(['--rounds', '1', '--size', '32', '--frames', '4'])
    printed = capsys.readouterr().out
    for mode in ('inference', 'training'):
        table = printed.split(f'bLVNet-TAM, {mode}:')[1].split('bLVNet')[0]
        shares = [float(line.split('|')[2].rstrip(' %'))
                  for line in table.splitlines() if line.endswith('% |')]
        assert sum(shares) == pytest.approx(100, abs=1)
        assert '| convolution |' in table
        assert 'Convolutions reach' in table
