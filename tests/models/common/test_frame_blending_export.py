"""The forms of the temporal module besides that of a CPU."""
import importlib
import sys
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from blending import FORMS
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.models.common import TemporalAggregation
from mmblvnet.models.common import temporal_aggregation
from mmblvnet.models.common.frame_blending import (EACH, _blend_in_a_graph,
                                                   blend_frames, make_terms)


@given(r=st.integers(1, 7), pairs=st.integers(1, 3),
       form=st.sampled_from(FORMS))
@settings(deadline=None, max_examples=30)
def test_it_gives_the_same_frames(r, pairs, form):
    module = TemporalAggregation(8, 2 * pairs, r)
    x = torch.randn(3 * 2 * pairs, 8, 5, 5)
    expected = getattr(module, form)(x)
    with patch.object(temporal_aggregation, 'blend_frames',
                      side_effect=_blend_in_a_graph) as in_a_graph:
        torch.testing.assert_close(getattr(module, form)(x), expected)
    in_a_graph.assert_called_once()


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
