from unittest.mock import patch

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


@given(
    pairs=st.integers(1, 6),
    r=st.integers(1, 9),
    clips=st.integers(1, 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@settings(deadline=None, max_examples=60)
def test_pairs_blend_like_their_copies(pairs, r, clips, size):
    module = make(2 * pairs, r)
    x = torch.randn(clips * pairs, 3, *size, dtype=torch.double)
    frames = module(x.repeat_interleave(2, 0))
    even, odd = module.forward_pairs(x)
    torch.testing.assert_close(even, frames[0::2])
    torch.testing.assert_close(odd, frames[1::2])


@given(pairs=st.integers(1, 6), r=st.integers(1, 9), clips=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_splitting_gives_the_even_and_the_odd_frames(pairs, r, clips):
    module = make(2 * pairs, r)
    x = torch.randn(clips * 2 * pairs, 3, 4, 2, dtype=torch.double)
    frames = module(x)
    even, odd = module.forward_split(x)
    torch.testing.assert_close(even, frames[0::2])
    torch.testing.assert_close(odd, frames[1::2])


@given(
    pairs=st.integers(1, 4),
    r=st.integers(1, 6),
    clips=st.integers(1, 2),
    form=st.sampled_from(['forward', 'forward_split', 'forward_pairs']))
@settings(deadline=None, max_examples=40)
def test_the_memory_layout_changes_nothing(pairs, r, clips, form):
    module = make(2 * pairs, r)
    plain = torch.randn(clips * 2 * pairs, 3, 4, 5, dtype=torch.double)
    results = []
    for x in (plain, plain.to(memory_format=torch.channels_last)):
        x = x.clone().requires_grad_()
        module.zero_grad()
        outs = getattr(module, form)(x)
        outs = (outs, ) if isinstance(outs, torch.Tensor) else outs
        sum((out**2).sum() for out in outs).backward()
        results.append((*outs, x.grad, *(p.grad
                                         for p in module.parameters())))
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected)


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


@given(num_frames=st.integers(1, 8), r=st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_clips_do_not_see_each_other(num_frames, r):
    module = make(num_frames, r)
    clips = torch.randn(3, num_frames, 3, 2, 2, dtype=torch.double)
    together = module(clips.flatten(0, 1)).unflatten(0, (3, -1))
    alone = torch.stack([module(clip) for clip in clips])
    torch.testing.assert_close(together, alone)


@given(num_frames=st.integers(4, 10), r=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_moving_the_clip_in_time_moves_the_output(num_frames, r):
    module = make(num_frames, r)
    x = torch.randn(num_frames + 1, 3, 2, 2, dtype=torch.double)
    early, late = module(x[:-1]), module(x[1:])
    # Away from the ends, where zeros come in.
    torch.testing.assert_close(early[2:-1], late[1:-2])


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
