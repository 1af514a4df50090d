"""The pooling shortcut of Big-Little blocks."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from mmblvnet.models.common.big_little_stage import ShortcutPool
from torch import nn


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_explicit_padding_gives_the_same_pool(height, width, last):
    pool, plain = ShortcutPool(), nn.AvgPool2d(3, 2, 1)
    x = torch.randn(2, 3, height, width)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    results = []
    for run in (pool.pad_and_pool, plain):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        (gradient,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
        results.append((y, gradient))
    for bordered, expected in zip(*results):
        torch.testing.assert_close(bordered, expected, atol=0, rtol=0)
