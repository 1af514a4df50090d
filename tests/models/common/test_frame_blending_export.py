"""The Temporal Aggregation Module in exported graphs, and the check of its Triton version."""

import importlib
import sys
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from blending import FORMS
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.models.common import TemporalAggregation, frame_blending


@given(r=st.integers(1, 7), pairs=st.integers(1, 3), form=st.sampled_from(FORMS), causal=st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_compiled_path_gives_the_same_frames(r, pairs, form, causal):
    module = TemporalAggregation(8, 2 * pairs, r, causal)
    x = torch.randn(3 * 2 * pairs, 8, 5, 5)
    expected = module(x, form)
    with patch.multiple(frame_blending, is_compiling=lambda: True, BlendFrames=None):
        torch.testing.assert_close(module(x, form), expected)


def test_torch_export_accepts_the_module():
    module = TemporalAggregation(8, 4)
    program = torch.export.export(module, (torch.randn(8, 8, 5, 5),), strict=False)
    operators = {str(node.target) for node in program.graph.nodes}
    assert 'aten.pad.default' in operators
    assert not any('addcmul' in name for name in operators)


def test_a_triton_that_is_too_old_is_not_used(monkeypatch):
    triton = ModuleType('triton')
    triton.__version__, triton.language = '3.3.0', ModuleType('language')
    triton.language.constexpr = None
    monkeypatch.setitem(sys.modules, 'triton', triton)
    monkeypatch.setitem(sys.modules, 'triton.language', triton.language)
    name = 'mmblvnet.models.common.frame_blending_triton'
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match='Triton 3.4'):
        importlib.import_module(name)
