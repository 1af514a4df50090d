"""The forms of the temporal module besides that of a CPU."""
import importlib
import sys
from types import ModuleType

import pytest
import torch
from mmblvnet.models.common import TemporalAggregation
from mmblvnet.models.common import temporal_aggregation
from mmblvnet.models.common.frame_blending import (EACH, _blend_in_a_graph,
                                                   blend_frames, make_terms)


@pytest.mark.parametrize('form', ['forward', 'forward_split', 'forward_pairs'])
@pytest.mark.parametrize('r', [1, 2, 3, 5, 7])
def test_it_gives_the_same_frames(monkeypatch, form, r):
    module = TemporalAggregation(8, 4, r)
    x = torch.randn(3 * 4, 8, 5, 5)
    expected = getattr(module, form)(x)
    calls = []

    def in_a_graph(*args):
        calls.append(args)
        return _blend_in_a_graph(*args)

    monkeypatch.setattr(temporal_aggregation, 'blend_frames', in_a_graph)
    torch.testing.assert_close(getattr(module, form)(x), expected)
    assert len(calls) == 1


def test_export_takes_it():
    module = TemporalAggregation(8, 4)
    program = torch.export.export(module, (torch.randn(8, 8, 5, 5), ),
                                  strict=False)
    operators = {str(node.target) for node in program.graph.nodes}
    assert 'aten.pad.default' in operators
    assert not any('addcmul' in name for name in operators)


def test_eager_code_does_not(monkeypatch):
    monkeypatch.setattr(
        'mmblvnet.models.common.frame_blending._blend_in_a_graph', None)
    blend_frames(torch.randn(1, 4, 1, 8, 5, 5), torch.randn(1, 8),
                 make_terms([0], EACH))


def test_a_triton_that_is_too_old_is_left_alone(monkeypatch):
    triton = ModuleType('triton')
    triton.__version__, triton.language = '3.3.0', ModuleType('language')
    monkeypatch.setitem(sys.modules, 'triton', triton)
    monkeypatch.setitem(sys.modules, 'triton.language', triton.language)
    name = 'mmblvnet.models.common.frame_blending_triton'
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match='Triton 3.4'):
        importlib.import_module(name)
