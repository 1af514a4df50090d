from unittest.mock import patch

import blending
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.models.common import TemporalAggregation, frame_blending


@given(
    case=st.builds(
        blending.Case,
        form=st.sampled_from(blending.FORMS),
        num_frames=st.integers(1, 12),
        r=st.integers(1, 9),
        clips=st.integers(1, 3),
        channels=st.integers(1, 5),
        size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
        dtype=st.sampled_from([torch.double, torch.float32, torch.bfloat16, torch.float16]),
        layout=st.sampled_from(blending.LAYOUTS),
        grad_layout=st.sampled_from(blending.LAYOUTS),
        used=st.sampled_from(['all', 'last']),
    ),
    # Maps per chunk of the backward pass on a CPU.
    parts=st.sampled_from([1, 2, 10**6]),
)
@settings(deadline=None, max_examples=100)
def test_outputs_and_gradients_are_those_of_float64(case, parts):
    if case.form != blending.EACH:
        case = case._replace(num_frames=case.num_frames + case.num_frames % 2)
    map_bytes = case.channels * case.size[0] * case.size[1] * 8
    with patch.object(frame_blending, 'CACHE_BYTES', parts * map_bytes):
        blending.check(case, 'cpu')


def test_second_derivatives_are_those_of_finite_differences():
    for r in (1, 2, 3):
        module = TemporalAggregation(2, 2, r).double()
        x = torch.randn(2, 2, 1, 2, dtype=torch.double, requires_grad=True)
        for form in blending.FORMS:
            assert torch.autograd.gradgradcheck(lambda x: module(x, form), x)


def test_half_precision_sums_the_weight_gradient_in_full():
    module = TemporalAggregation(2, 4)
    torch.nn.init.constant_(module.curr.weight, 1)
    x = torch.ones(4, 2, 100, 100, dtype=torch.bfloat16)
    module(x.requires_grad_()).sum().backward()
    assert module.curr.weight.grad.flatten().tolist() == [40000, 40000]


def test_the_tam_is_initialized_like_the_convolutions_of_the_paper():
    module = TemporalAggregation(4096, 4)
    module.init_weights()
    assert module.weight.std().item() == pytest.approx((2 / 4096) ** 0.5, rel=0.05)
