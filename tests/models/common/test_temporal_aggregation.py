from unittest.mock import patch

import blending
import golden
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.models.common import TemporalAggregation, frame_blending

CASES = golden.cases('tam')


def make(num_frames, r, channels=3):
    module = TemporalAggregation(channels, num_frames, r).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize('case', CASES, ids=lambda case: case['name'])
def test_output_and_gradients_are_the_published_ones(case):
    y, grad_x, gradients = golden.tam_results(case)
    torch.testing.assert_close(
        y.flatten(), torch.tensor(case['output']), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        grad_x.flatten(), torch.tensor(case['input_grad']), atol=1e-5, rtol=0)
    assert gradients.keys() == case['weight_grads'].keys()
    for name, expected in case['weight_grads'].items():
        torch.testing.assert_close(
            gradients[name].flatten(), torch.tensor(expected).flatten(),
            atol=1e-4, rtol=0)


CASES_OF_FLOAT64 = st.builds(
    blending.Case,
    form=st.sampled_from(blending.FORMS),
    num_frames=st.integers(1, 6).map(lambda pairs: 2 * pairs),
    r=st.integers(1, 9),
    clips=st.integers(1, 3),
    channels=st.integers(1, 5),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    dtype=st.sampled_from(
        [torch.double, torch.float32, torch.bfloat16, torch.float16]),
    layout=st.sampled_from(blending.LAYOUTS),
    grad_layout=st.sampled_from(blending.LAYOUTS),
    used=st.sampled_from(['all', 'last']),
    learns=st.sampled_from(['both', 'input', 'weight']))


@given(case=CASES_OF_FLOAT64)
@settings(deadline=None, max_examples=150)
def test_outputs_and_gradients_are_those_of_float64(case):
    blending.check(case, 'cpu')


@given(num_frames=st.integers(1, 7), r=st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_an_odd_number_of_frames_is_right(num_frames, r):
    blending.check(blending.Case('forward', num_frames, r), 'cpu')


@given(
    pairs=st.integers(1, 4),
    r=st.integers(1, 6),
    groups=st.integers(1, 3),
    form=st.sampled_from(['forward', 'forward_split', 'forward_pairs']))
@settings(deadline=None, max_examples=40)
def test_gradients_computed_part_by_part_are_the_same(pairs, r, groups, form):
    module = make(2 * pairs, r)
    x = torch.randn(2 * 2 * pairs, 3, 4, 5, dtype=torch.double)
    frame_bytes = 3 * 4 * 5 * 8
    results = []
    for cache_bytes in (groups * frame_bytes, 2**20):
        with patch.object(frame_blending, 'CACHE_BYTES', cache_bytes):
            leaf = x.clone().requires_grad_()
            module.zero_grad()
            outs = getattr(module, form)(leaf)
            outs = (outs, ) if isinstance(outs, torch.Tensor) else outs
            sum((out**2).sum() for out in outs).backward()
            results.append((leaf.grad, *(p.grad for p in module.parameters())))
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('r', [1, 2, 3, 5])
def test_gradients_are_those_of_finite_differences(r):
    module = make(4, r, channels=2)
    x = torch.randn(4, 2, 2, 1, dtype=torch.double, requires_grad=True)
    for form in (module, module.forward_split, module.forward_pairs):
        assert torch.autograd.gradcheck(form, x)


@pytest.mark.parametrize('r', [1, 2, 3])
def test_second_derivatives_are_those_of_finite_differences(r):
    module = make(2, r, channels=2)
    x = torch.randn(2, 2, 1, 2, dtype=torch.double, requires_grad=True)
    for form in (module, module.forward_split, module.forward_pairs):
        assert torch.autograd.gradgradcheck(form, x)


def test_half_precision_sums_the_weight_gradient_in_full():
    module = TemporalAggregation(2, 4)
    torch.nn.init.constant_(module.curr.weight, 1)
    x = torch.ones(4, 2, 100, 100, dtype=torch.bfloat16)
    module(x.requires_grad_()).sum().backward()
    assert module.curr.weight.grad.flatten().tolist() == [40000, 40000]


def test_it_starts_like_every_convolution_of_the_paper():
    module = TemporalAggregation(4096, 4)
    module.init_weights()
    assert module.weight.std().item() == pytest.approx((2 / 4096)**.5, rel=.05)


def test_no_frame_to_blend_is_refused():
    with pytest.raises(ValueError, match='blend_frames = 0'):
        TemporalAggregation(4, 4, blend_frames=0)
