"""What the Temporal Aggregation Module has to give, in plain float64."""

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
    'turned',
    'expanded',
)


class Case(NamedTuple):
    """What a module is made for, given, and asked for."""

    form: Form = EACH
    # Frames per clip, even where pairs are asked for, and blended frames.
    num_frames: int = 4
    r: int = 3
    clips: int = 2
    channels: int = 5
    size: Tuple[int, int] = (3, 7)
    # Of the maps; weights are float32 or wider.
    dtype: torch.dtype = torch.float32
    # Of the input and of the gradients that come in.
    layout: str = 'contiguous'
    grad_layout: str = 'contiguous'
    # Which outputs are used: 'all' or 'last'.
    used: str = 'all'


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The maps in another place and order; whatever lies around is NaN."""
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
    if layout == 'turned':
        return values.mT.contiguous().mT
    if layout == 'expanded':
        return values[:, :, :1, :1].expand_as(values)
    return values


def weighted_sums(x: Tensor, weight: Tensor, case: Case) -> Sequence[Tensor]:
    """The outputs of a form before the ReLU."""
    if case.form == PAIRS:
        x = x.repeat_interleave(2, 0)
    before = case.r // 2
    # [N, before + T + after, C, H, W]
    clips = F.pad(x.unflatten(0, (case.clips, case.num_frames)), (0, 0) * 3 + (before, case.r - 1 - before))
    terms = (row[:, None, None] * clips[:, j : j + case.num_frames] for j, row in enumerate(weight))
    y = sum(terms).flatten(0, 1)
    return (y,) if case.form == EACH else (y[0::2], y[1::2])


def random(case: Case, shape, device, layout: str = 'contiguous') -> Tensor:
    # Drawn on the CPU, so that every device sees the same.
    return laid_out(torch.randn(shape).to(device, case.dtype), layout)


def module_of(case: Case, device) -> TemporalAggregation:
    """A module whose weights are numbers of the type of the maps."""
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
    """Compare value by value, each with a bound of its own."""
    assert actual.shape == expected.shape
    error = (actual.double() - expected).abs()
    excess = error - bound
    # Not a number is in no bound.
    wrong = ~(excess <= 0)
    assert not wrong.any(), (
        f'{int(wrong.sum())} of {wrong.numel()} values are off, by up to '
        f'{error.max().item():.3g} where {bound.max().item():.3g} is allowed '
        f'at most; the first at {wrong.nonzero()[0].tolist()}'
    )


def check(case: Case, device) -> None:
    """Compare outputs and gradients with float64.

    A value may be off by the rounding of every product and sum that it is
    made of. Gradients are compared for the signs of the outputs as they are:
    an output next to zero may have either.
    """
    # Which of several it was.
    print(f'Checking {case}')
    module, x = module_of(case, device), input_of(case, device)
    outs = call(module, case, x)
    grads = [random(case, y.shape, device, case.grad_layout) for y in outs]
    before = [value.detach().clone() for value in (x, *outs, *grads)]

    x64 = x.detach().double().requires_grad_()
    weight64 = module.weight.detach().double().requires_grad_()
    sizes = [v.detach().abs().requires_grad_() for v in (x64, weight64)]
    sums, limits = (weighted_sums(*values, case) for values in ((x64, weight64), sizes))
    rounding = torch.finfo(case.dtype).eps
    # Products below the normal numbers lose all their digits.
    least = 4 * case.r * rounding * torch.finfo(case.dtype).smallest_normal
    for y, expected, limit in zip(outs, sums, limits):
        assert y.dtype == case.dtype
        assert_within(y, expected.relu(), (case.r + 2) * rounding * limit + least)

    used = slice(-1, None) if case.used == 'last' else slice(None)
    masked = [g.double() * (y > 0) for g, y in zip(grads, outs)][used]
    expected = torch.autograd.grad(sums[used], (x64, weight64), masked)
    limits = torch.autograd.grad(limits[used], sizes, [value.abs() for value in masked])
    # Gradients may be asked for twice.
    for _ in range(2):
        grad_x, *of_weights = torch.autograd.grad(outs[used], (x, *module.parameters()), grads[used], retain_graph=True)
        assert grad_x.dtype == case.dtype
        assert_within(grad_x, expected[0], (2 * case.r + 4) * rounding * limits[0] + least)
        grad_weight = torch.stack([g.flatten() for g in of_weights])
        assert_within(grad_weight, expected[1], 4 * rounding * limits[1] + least)
    for value, then in zip((x, *outs, *grads), before):
        torch.testing.assert_close(value, then, atol=0, rtol=0, equal_nan=True)
