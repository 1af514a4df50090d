"""Frame blending on a GPU: one kernel forward and one backward.

Each program loops over the frames of a clip for one tile of pixels and channels:
a map that several frames need is read from memory once, then from the cache.
"""

import functools
from typing import List, Sequence, Tuple

import torch
import triton
import triton.language as tl
from packaging.version import Version
from torch import Tensor
from triton.language import constexpr

# The Triton of PyTorch 2.7 cannot compile the tuples in the kernels.
if Version(triton.__version__) < Version('3.4'):
    raise ImportError('Triton 3.4 or newer is needed')

# Elements of a tile, and warps per program.
TILE = 1024
FORWARD_WARPS = 8
BACKWARD_WARPS = 4


@triton.jit
def _tile(num_pixels, num_channels, stride_pixel, stride_channel, PIXELS: constexpr, CHANNELS: constexpr):
    """Return the channels of a program's tile, its elements' offsets in a map, and their mask."""
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    offset = pixel[:, None].to(tl.int64) * stride_pixel + channel[None, :] * stride_channel
    mask = (pixel < num_pixels)[:, None] & (channel < num_channels)[None, :]
    return channel, offset, mask


@triton.jit
def _factors(weight, channel, num_channels, ROWS: constexpr, SUM: constexpr):
    """Load the rows of the weights as a tuple of ``(1, CHANNELS)``."""
    factors = ()
    for row in tl.static_range(ROWS):
        factor = tl.load(weight + row * num_channels + channel, mask=channel < num_channels, other=0)
        factors = factors + (factor[None, :].to(SUM),)
    return factors


@triton.jit
def _forward(
    x,
    weight,
    y0,
    y1,
    map_size,
    num_pixels,
    num_channels,
    stride_pixel,
    stride_channel,
    K: constexpr,
    P: constexpr,
    ROWS: constexpr,
    TERMS: constexpr,
    OUTPUTS: constexpr,
    PIXELS: constexpr,
    CHANNELS: constexpr,
    SUM: constexpr,
):
    channel, offset, mask = _tile(num_pixels, num_channels, stride_pixel, stride_channel, PIXELS, CHANNELS)
    factors = _factors(weight, channel, num_channels, ROWS, SUM)
    # 64 bits: a batch may have more than 2**31 elements.
    first = tl.program_id(0).to(tl.int64) * K
    for k in range(K):
        for output in tl.static_range(OUTPUTS):
            total = tl.zeros((PIXELS, CHANNELS), SUM)
            # A term is (output, phase, shift, row).
            for i in tl.static_range(len(TERMS) // 4):
                if TERMS[4 * i] == output:
                    group = k + TERMS[4 * i + 2]
                    source = (first + group) * P + TERMS[4 * i + 1]
                    value = tl.load(x + source * map_size + offset, mask=mask & (group >= 0) & (group < K), other=0)
                    total += factors[TERMS[4 * i + 3]] * value.to(SUM)
            y = y0 if output == 0 else y1
            # Unlike maximum(total, 0), this keeps NaN.
            activated = tl.where(total <= 0, 0, total)
            tl.store(y + (first + k) * map_size + offset, activated, mask=mask)


@triton.jit
def _grads(
    y0, y1, grad0, grad1, group, first, map_size, offset, mask, K: constexpr, OUTPUTS: constexpr, SUM: constexpr
):
    """Load the gradients of a group's outputs, zero where their ReLU was not active."""
    inside = mask & (group >= 0) & (group < K)
    at = (first + group) * map_size + offset
    grads = ()
    for output in tl.static_range(OUTPUTS):
        y = y0 if output == 0 else y1
        grad = grad0 if output == 0 else grad1
        inactive = tl.load(y + at, mask=inside, other=0) <= 0
        grads = grads + (tl.where(inactive, 0, tl.load(grad + at, mask=inside, other=0)).to(SUM),)
    return grads


@triton.jit
def _add_to(sums, ROW: constexpr, value):
    """Return a tuple of sums with ``value`` added to item ``ROW``."""
    return sums[:ROW] + (sums[ROW] + value,) + sums[ROW + 1 :]


@triton.jit
def _backward(
    x,
    weight,
    y0,
    y1,
    grad0,
    grad1,
    grad_x,
    grad_weight,
    map_size,
    num_pixels,
    num_channels,
    stride_pixel,
    stride_channel,
    K: constexpr,
    P: constexpr,
    ROWS: constexpr,
    TERMS: constexpr,
    OUTPUTS: constexpr,
    PIXELS: constexpr,
    CHANNELS: constexpr,
    SUM: constexpr,
    FIRST: constexpr,
    LAST: constexpr,
):
    channel, offset, mask = _tile(num_pixels, num_channels, stride_pixel, stride_channel, PIXELS, CHANNELS)
    factors = _factors(weight, channel, num_channels, ROWS, SUM)
    first = tl.program_id(0).to(tl.int64) * K
    sums = ()
    for row in tl.static_range(ROWS):
        sums = sums + (tl.zeros((PIXELS, CHANNELS), SUM),)
    # Sliding window of the gradients of all outputs to which group k
    # contributes, so that each is loaded once.
    window = ()
    for i in tl.static_range(LAST - FIRST + 1):
        window = window + _grads(y0, y1, grad0, grad1, i - LAST - 1, first, map_size, offset, mask, K, OUTPUTS, SUM)
    for k in range(K):
        newest = _grads(y0, y1, grad0, grad1, k - FIRST, first, map_size, offset, mask, K, OUTPUTS, SUM)
        window = window[OUTPUTS:] + newest
        for phase in tl.static_range(P):
            source = ((first + k) * P + phase) * map_size + offset
            value = tl.load(x + source, mask=mask, other=0).to(SUM)
            total = tl.zeros((PIXELS, CHANNELS), SUM)
            for i in tl.static_range(len(TERMS) // 4):
                if TERMS[4 * i + 1] == phase:
                    grad = window[(LAST - TERMS[4 * i + 2]) * OUTPUTS + TERMS[4 * i]]
                    total += factors[TERMS[4 * i + 3]] * grad
                    sums = _add_to(sums, TERMS[4 * i + 3], grad * value)
            tl.store(grad_x + source, total, mask=mask)
    part = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    grad_weight += part.to(tl.int64) * ROWS * num_channels
    for row in tl.static_range(ROWS):
        tl.store(grad_weight + row * num_channels + channel, tl.sum(sums[row], 0), mask=channel < num_channels)


@functools.lru_cache(maxsize=None)
def _plan(
    shape: torch.Size, layout: torch.memory_format, dtype: torch.dtype, num_rows: int, terms: Tuple, step: int
) -> Tuple[Tuple[int, int, int], Tuple[int, ...], dict]:
    """Return the grid of a kernel, its size and stride arguments, and its compile-time constants."""
    num_clips, num_maps, channels, height, width = shape
    pixels = height * width
    if layout == torch.channels_last:
        strides = (channels, 1)
        tile_channels = min(128, triton.next_power_of_2(channels))
        tile = dict(PIXELS=TILE // tile_channels, CHANNELS=tile_channels)
    else:
        strides = (1, pixels)
        tile_pixels = min(256, triton.next_power_of_2(pixels))
        tile = dict(PIXELS=tile_pixels, CHANNELS=TILE // tile_pixels)
    grid = (num_clips, triton.cdiv(pixels, tile['PIXELS']), triton.cdiv(channels, tile['CHANNELS']))
    flat_terms = []
    for term in terms:
        shift, phase = divmod(term.map_index, step)
        for row in term.rows:
            flat_terms += [term.output, phase, shift, row]
    constants = dict(
        tile,
        K=num_maps // step,
        P=step,
        ROWS=num_rows,
        OUTPUTS=1 + max(term.output for term in terms),
        TERMS=tuple(flat_terms),
        SUM=tl.float64 if dtype == torch.float64 else tl.float32,
    )
    return grid, (channels * pixels, pixels, channels, *strides), constants


def _lay_out(maps: Tensor, layout: torch.memory_format) -> Tensor:
    """Return maps ``(N, M, C, H, W)`` as ``(N * M, C, H, W)`` in a memory format."""
    return maps.flatten(0, 1).contiguous(memory_format=layout)


def _prepare(x: Tensor, weight: Tensor, terms: Tuple, step: int) -> tuple:
    """Return the memory format, the maps in it, and the launch parameters of :func:`_plan`."""
    maps = x.flatten(0, 1)
    is_channels_last = maps.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    return layout, _lay_out(x, layout), *_plan(x.shape, layout, x.dtype, len(weight), terms, step)


def blend(x: Tensor, weight: Tensor, terms: Tuple, step: int) -> List[Tensor]:
    """Compute the outputs of :class:`.frame_blending.BlendFrames`."""
    layout, maps, grid, sizes, constants = _prepare(x, weight, terms, step)
    outputs = [torch.empty_like(maps[::step], memory_format=layout) for _ in range(constants['OUTPUTS'])]
    if x.numel():
        with torch.cuda.device_of(x):
            _forward[grid](
                maps, weight.contiguous(), outputs[0], outputs[-1], *sizes, num_warps=FORWARD_WARPS, **constants
            )
    return [y.unflatten(0, (len(x), x.size(1) // step)) for y in outputs]


def blend_backward(
    x: Tensor, weight: Tensor, terms: Tuple, step: int, outputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> Tuple[Tensor, Tensor]:
    """Return the gradients of ``x`` and of ``weight``, given those of the outputs of :func:`blend`."""
    layout, maps, grid, sizes, constants = _prepare(x, weight, terms, step)
    grad_x = torch.empty_like(maps, memory_format=layout)
    # One partial sum per program instead of atomics: the result is deterministic.
    sums = torch.zeros((grid[0] * grid[1], *weight.shape), dtype=weight.dtype, device=x.device)
    if x.numel():
        ys = [_lay_out(y, layout) for y in outputs]
        grads = [_lay_out(grad, layout) for grad in grads]
        shifts = constants['TERMS'][2::4]
        with torch.cuda.device_of(x):
            _backward[grid](
                maps,
                weight.contiguous(),
                *(ys[0], ys[-1], grads[0], grads[-1]),
                *(grad_x, sums),
                *sizes,
                FIRST=min(shifts),
                LAST=max(shifts),
                num_warps=BACKWARD_WARPS,
                **constants,
            )
    return grad_x.view_as(x), sums.sum(0)
