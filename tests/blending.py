"""Checks of the Temporal Aggregation Module against plain float64."""

from typing import NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmblvnet.models.common import TemporalAggregation
from mmblvnet.models.common.temporal_module import EACH, PAIRS, SPLIT, Form
from torch import Tensor

FORMS = (EACH, SPLIT, PAIRS)
LAYOUTS = (
    'contiguous',
    'channels_last',
    'channels',
    'channels_of_last',
    'frames',
    'window',
    'odd_address',
    'transposed',
    'expanded',
)


class Case(NamedTuple):
    """One configuration of a module with its input's shape, dtype and layout and the outputs in use."""

    form: Form = EACH
    # Frames per clip (not pairs, even with PAIRS), and blended frames.
    num_frames: int = 4
    r: int = 3
    clips: int = 2
    channels: int = 5
    size: Tuple[int, int] = (3, 7)
    # Of the feature maps; weights are float32 or float64.
    dtype: torch.dtype = torch.float32
    # Memory layouts of the input and of the incoming gradients.
    layout: str = 'contiguous'
    grad_layout: str = 'contiguous'
    # Outputs from which gradients flow back: 'all' or 'last'.
    used: str = 'all'


def with_layout(values: Tensor, layout: str) -> Tensor:
    """Return maps with these values in a memory layout; all memory around them is NaN."""
    n, c, h, w = values.shape

    def within(shape, *part, memory_format=torch.contiguous_format):
        around = values.new_full(shape, float('nan')).to(memory_format=memory_format)
        around[part] = values
        return around[part]

    last = torch.channels_last
    some = slice(2, 2 + c)
    if layout == 'channels_last':
        return values.contiguous(memory_format=last)
    if layout == 'channels':
        return within((n, c + 3, h, w), slice(None), some)
    if layout == 'channels_of_last':
        return within((n, c + 3, h, w), slice(None), some, memory_format=last)
    if layout == 'frames':
        return within((2 * n, c, h, w), slice(None, None, 2))
    if layout == 'window':
        return within((n, c, h + 2, w + 3), ..., slice(1, 1 + h), slice(2, 2 + w))
    if layout == 'odd_address':
        flat = values.new_empty(values.numel() + 1)[1:]
        return flat.view_as(values).copy_(values)
    if layout == 'transposed':
        return values.mT.contiguous().mT
    if layout == 'expanded':
        return values[:, :, :1, :1].expand_as(values)
    return values


def reference_outputs(x: Tensor, weight: Tensor, case: Case) -> Sequence[Tensor]:
    """Return the outputs of the case before the ReLU, as a reference implementation."""
    if case.form == PAIRS:
        x = x.repeat_interleave(2, 0)
    before = case.r // 2
    # [N, before + T + after, C, H, W]
    clips = F.pad(x.unflatten(0, (case.clips, case.num_frames)), (0, 0) * 3 + (before, case.r - 1 - before))
    terms = (row[:, None, None] * clips[:, j : j + case.num_frames] for j, row in enumerate(weight))
    y = sum(terms).flatten(0, 1)
    return (y,) if case.form == EACH else (y[0::2], y[1::2])


def random(case: Case, shape, device, layout: str = 'contiguous') -> Tensor:
    # Drawn on the CPU, so that every device gets the same values.
    return with_layout(torch.randn(shape).to(device, case.dtype), layout)


def module_of(case: Case, device) -> TemporalAggregation:
    """Return a module whose random weights are representable in the maps' dtype."""
    module = TemporalAggregation(case.channels, case.num_frames, case.r)
    for p in module.parameters():
        p.data = torch.randn(p.shape).to(case.dtype).float()
    return module.to(device, torch.double if case.dtype == torch.double else torch.float32)


def input_of(case: Case, device) -> Tensor:
    num_maps = case.clips * case.num_frames
    if case.form == PAIRS:
        num_maps //= 2
    return random(case, (num_maps, case.channels, *case.size), device, case.layout).requires_grad_()


def call(module: TemporalAggregation, case: Case, x: Tensor) -> Tuple[Tensor, ...]:
    outs = module(x, case.form)
    return (outs,) if isinstance(outs, Tensor) else outs


def assert_within(actual: Tensor, expected: Tensor, bound: Tensor) -> None:
    """Assert that each value differs from the expected one by at most its own bound."""
    assert actual.shape == expected.shape
    error = (actual.double() - expected).abs()
    excess = error - bound
    # Written so that a NaN counts as wrong.
    wrong = ~(excess <= 0)
    assert not wrong.any(), (
        f'{int(wrong.sum())} of {wrong.numel()} values are off, by up to '
        f'{error.max().item():.3g} where {bound.max().item():.3g} is allowed '
        f'at most; the first at {wrong.nonzero()[0].tolist()}'
    )


def check(case: Case, device) -> None:
    """Compare outputs and gradients with float64.

    Each value may be off by the rounding errors of its own products and sums.
    Expected gradients are masked by the ReLU of the actual outputs, since an
    output close to zero may round to either side.
    """
    # Shows which of several cases failed.
    print(f'Checking {case}')
    module, x = module_of(case, device), input_of(case, device)
    outs = call(module, case, x)
    grads = [random(case, y.shape, device, case.grad_layout) for y in outs]
    before = [value.detach().clone() for value in (x, *outs, *grads)]

    x64 = x.detach().double().requires_grad_()
    weight64 = module.weight.detach().double().requires_grad_()
    sizes = [v.detach().abs().requires_grad_() for v in (x64, weight64)]
    sums, limits = (reference_outputs(*values, case) for values in ((x64, weight64), sizes))
    rounding = torch.finfo(case.dtype).eps
    # Subnormal products lose all their precision.
    least = 4 * case.r * rounding * torch.finfo(case.dtype).smallest_normal
    for y, expected, limit in zip(outs, sums, limits):
        assert y.dtype == case.dtype
        assert_within(y, expected.relu(), (case.r + 2) * rounding * limit + least)

    used = slice(-1, None) if case.used == 'last' else slice(None)
    masked = [g.double() * (y > 0) for g, y in zip(grads, outs)][used]
    expected = torch.autograd.grad(sums[used], (x64, weight64), masked)
    limits = torch.autograd.grad(limits[used], sizes, [value.abs() for value in masked])
    # A second backward pass must give the same gradients.
    for _ in range(2):
        grad_x, *of_weights = torch.autograd.grad(outs[used], (x, *module.parameters()), grads[used], retain_graph=True)
        assert grad_x.dtype == case.dtype
        assert_within(grad_x, expected[0], (2 * case.r + 4) * rounding * limits[0] + least)
        grad_weight = torch.stack([g.flatten() for g in of_weights])
        assert_within(grad_weight, expected[1], 4 * rounding * limits[1] + least)
    for value, then in zip((x, *outs, *grads), before):
        torch.testing.assert_close(value, then, atol=0, rtol=0, equal_nan=True)
