import golden
import pytest
import torch
from mmblvnet.models import BLResNet
from networks import ThinBLResNet

CASE, = golden.cases('blresnet')


def test_scores_are_the_published_ones():
    with torch.no_grad():
        scores = golden.Network(CASE).eval()(golden.inputs(CASE))
    torch.testing.assert_close(
        scores, torch.tensor(CASE['logits']), atol=1e-4, rtol=0)


def test_several_stages_come_as_a_tuple():
    backbone = ThinBLResNet(50, out_indices=(0, 1, 2, 3)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 64))
    assert isinstance(maps, tuple)
    assert [tuple(m.shape) for m in maps] == [(1, 32, 8, 8), (1, 64, 4, 4),
                                              (1, 128, 4, 4), (1, 256, 2, 2)]


def test_an_argument_out_of_range_is_named():
    for argument, value in (('depth', 34), ('alpha', 3), ('beta', 0),
                            ('in_channels', 0), ('out_indices', (4, )),
                            ('frozen_stages', 5)):
        with pytest.raises(ValueError) as error:
            BLResNet(**{'depth': 50, argument: value})
        assert f'{argument} = {value}' in str(error.value)
