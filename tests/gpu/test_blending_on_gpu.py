"""The Temporal Aggregation Module on the device against float64."""

from itertools import cycle

import pytest
import torch
from blending import EACH, FORMS, LAYOUTS, PAIRS, SPLIT, Case, call, check, input_of, module_of
from mmblvnet.models.common import TemporalAggregation

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
forms = pytest.mark.parametrize('form', FORMS)


@forms
def test_clips_of_any_length_are_right(form, device):
    dtypes = cycle((*DTYPES, torch.double))
    for num_frames in (2, 8):
        for r in (1, 2, 3, 4, 5, 7):
            check(Case(form, num_frames + (form == EACH), r, dtype=next(dtypes)), device)


@forms
def test_maps_of_any_size_are_right(form, device):
    dtypes = cycle(DTYPES)
    for clips, channels, size in (
        (1, 1, (1, 1)),
        (3, 64, (28, 28)),
        (2, 33, (13, 9)),
        (1, 2048, (7, 7)),
        (5, 3, (1, 129)),
        (0, 16, (4, 4)),
    ):
        check(Case(form, 8, clips=clips, channels=channels, size=size, dtype=next(dtypes)), device)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_maps_and_gradients_of_any_layout_are_right(layout, device):
    for form, dtype in zip(FORMS, DTYPES):
        case = Case(form, 4, 3, 2, 24, (6, 5), dtype, layout)
        check(case, device)
        check(case._replace(layout='contiguous', grad_layout=layout), device)
        check(case._replace(layout='channels_last', grad_layout=layout), device)


def test_gradients_of_one_output_alone_are_right(device):
    for form, dtype in zip(FORMS, DTYPES):
        check(Case(form, 6, 5, dtype=dtype, layout='channels_last', used='last'), device)


@pytest.mark.parametrize('form, dtype', zip(FORMS, DTYPES), ids=str)
def test_maps_of_the_stem_are_right(form, dtype, device):
    # The size in the flagship: kernels split it into many blocks.
    check(Case(form, 16, 3, 2, 64, (56, 56), dtype, 'channels_last', 'channels_last'), device)


@forms
def test_maps_and_gradients_stay_channels_last(form, device):
    case = Case(form, 8, channels=16, layout='channels_last')
    x = input_of(case, device)
    outs = call(module_of(case, device), case, x)
    torch.autograd.backward(outs, [torch.ones_like(y) for y in outs])
    for maps in (*outs, x.grad):
        assert maps.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_nan_and_inf_propagate_within_their_channel(bad, device):
    case = Case(SPLIT, 8, 1, clips=1)
    module, x = module_of(case, device), input_of(case, device).detach()
    for p in module.parameters():
        torch.nn.init.ones_(p)
    x[1, 2, 0, 3] = bad
    y = torch.cat(call(module, case, x))
    assert (~y.isfinite()).any()
    others = [channel for channel in range(case.channels) if channel != 2]
    assert y[:, others].isfinite().all()


@forms
def test_second_derivatives_are_those_of_finite_differences(form, device):
    case = Case(form, 2, 3, 1, 2, (1, 2), torch.double)
    module, x = module_of(case, device), input_of(case, device)
    assert torch.autograd.gradgradcheck(lambda x: call(module, case, x), x)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_autocast_keeps_the_dtype_of_the_maps(dtype, device):
    case = Case(PAIRS, dtype=dtype)
    module, x = module_of(case, device), input_of(case, device)
    with torch.autocast(device.type, torch.bfloat16):
        outs = call(module, case, x)
    expected = call(module, case, x)
    for y, plain in zip(outs, expected):
        torch.testing.assert_close(y, plain, atol=0, rtol=0)


def test_half_precision_sums_the_weight_gradient_in_full(device):
    module = TemporalAggregation(2, 4).to(device)
    for p in module.parameters():
        torch.nn.init.ones_(p)
    case = Case(SPLIT, 4, 3, 1, 2)
    x = torch.ones(4, 2, 100, 100, dtype=torch.bfloat16, device=device)
    torch.cat(call(module, case, x)).sum().backward()
    for layer, number in ((module.prev, 3), (module.curr, 4), (module.next, 3)):
        assert layer.weight.grad.flatten().tolist() == [number * 10000] * 2


def test_more_elements_than_an_int32_counts_are_right(cuda):
    # 30 views of 6 videos in the stem of the flagship.
    case = Case(SPLIT, 16, 3, 171, 64, (112, 112))
    module = module_of(case, cuda)
    x = torch.empty(171 * 16, 64, 112, 112, dtype=torch.bfloat16, device=cuda).to(memory_format=torch.channels_last)
    x.normal_().requires_grad_()
    assert x.numel() > 2**31
    outs = call(module, case, x)
    (grad_x,) = torch.autograd.grad(outs, x, outs)
    alone = x[-16:].detach().requires_grad_()
    last = call(module, case, alone)
    (grad_last,) = torch.autograd.grad(last, alone, last)
    for y, expected in zip((*outs, grad_x), (*last, grad_last)):
        torch.testing.assert_close(y[-len(expected) :], expected)
