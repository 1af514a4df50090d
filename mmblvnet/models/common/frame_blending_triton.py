"""Frame blending on a GPU: one kernel forward and one backward.

Each program walks along the frames of a clip at some pixels and channels: what
neighbouring frames share is read from memory once, and then from the cache.
"""

import functools
from typing import List, Sequence, Tuple

import torch
import triton
import triton.language as tl
from packaging.version import Version
from torch import Tensor
from triton.language import constexpr

# That of PyTorch 2.7 cannot compile the tuples in the kernels.
if Version(triton.__version__) < Version('3.4'):
    raise ImportError('Triton 3.4 or newer is needed')

# Elements that a program works on at a time, and its warps.
TILE = 1024
FORWARD_WARPS = 8
BACKWARD_WARPS = 4


@triton.jit
def _tile(num_pixels, num_channels, stride_pixel, stride_channel, PIXELS: constexpr, CHANNELS: constexpr):
    """Where a program's elements are in a map, and which exist."""
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    place = pixel[:, None].to(tl.int64) * stride_pixel + channel[None, :] * stride_channel
    exists = (pixel < num_pixels)[:, None] & (channel < num_channels)[None, :]
    return channel, place, exists


@triton.jit
def _factors(weight, channel, num_channels, ROWS: constexpr, SUM: constexpr):
    """The rows of the weights, each ``(1, CHANNELS)``."""
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
    channel, place, exists = _tile(num_pixels, num_channels, stride_pixel, stride_channel, PIXELS, CHANNELS)
    factors = _factors(weight, channel, num_channels, ROWS, SUM)
    # Batches may have more elements than 32 bits count.
    first = tl.program_id(0).to(tl.int64) * K
    for k in range(K):
        for output in tl.static_range(OUTPUTS):
            total = tl.zeros((PIXELS, CHANNELS), SUM)
            # A term is (output, phase, shift, row).
            for i in tl.static_range(len(TERMS) // 4):
                if TERMS[4 * i] == output:
                    group = k + TERMS[4 * i + 2]
                    source = (first + group) * P + TERMS[4 * i + 1]
                    value = tl.load(x + source * map_size + place, mask=exists & (group >= 0) & (group < K), other=0)
                    total += factors[TERMS[4 * i + 3]] * value.to(SUM)
            y = y0 if output == 0 else y1
            # What is not a number stays so.
            shown = tl.where(total <= 0, 0, total)
            tl.store(y + (first + k) * map_size + place, shown, mask=exists)


@triton.jit
def _passed(
    y0, y1, grad0, grad1, group, first, map_size, place, exists, K: constexpr, OUTPUTS: constexpr, SUM: constexpr
):
    """The gradients of the outputs of a group behind their ReLU."""
    inside = exists & (group >= 0) & (group < K)
    at = (first + group) * map_size + place
    passed = ()
    for output in tl.static_range(OUTPUTS):
        y = y0 if output == 0 else y1
        grad = grad0 if output == 0 else grad1
        hidden = tl.load(y + at, mask=inside, other=0) <= 0
        passed = passed + (tl.where(hidden, 0, tl.load(grad + at, mask=inside, other=0)).to(SUM),)
    return passed


@triton.jit
def _add_to(sums, ROW: constexpr, value):
    """A tuple of which one item has grown."""
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
    channel, place, exists = _tile(num_pixels, num_channels, stride_pixel, stride_channel, PIXELS, CHANNELS)
    factors = _factors(weight, channel, num_channels, ROWS, SUM)
    first = tl.program_id(0).to(tl.int64) * K
    sums = ()
    for row in tl.static_range(ROWS):
        sums = sums + (tl.zeros((PIXELS, CHANNELS), SUM),)
    # The gradients of all outputs that group k reaches, which move along with
    # it: each is read once.
    window = ()
    for i in tl.static_range(LAST - FIRST + 1):
        window = window + _passed(y0, y1, grad0, grad1, i - LAST - 1, first, map_size, place, exists, K, OUTPUTS, SUM)
    for k in range(K):
        newest = _passed(y0, y1, grad0, grad1, k - FIRST, first, map_size, place, exists, K, OUTPUTS, SUM)
        window = window[OUTPUTS:] + newest
        for phase in tl.static_range(P):
            source = ((first + k) * P + phase) * map_size + place
            value = tl.load(x + source, mask=exists, other=0).to(SUM)
            total = tl.zeros((PIXELS, CHANNELS), SUM)
            for i in tl.static_range(len(TERMS) // 4):
                if TERMS[4 * i + 1] == phase:
                    passed = window[(LAST - TERMS[4 * i + 2]) * OUTPUTS + TERMS[4 * i]]
                    total += factors[TERMS[4 * i + 3]] * passed
                    sums = _add_to(sums, TERMS[4 * i + 3], passed * value)
            tl.store(grad_x + source, total, mask=exists)
    part = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    grad_weight += part.to(tl.int64) * ROWS * num_channels
    for row in tl.static_range(ROWS):
        tl.store(grad_weight + row * num_channels + channel, tl.sum(sums[row], 0), mask=channel < num_channels)


@functools.lru_cache(maxsize=None)
def _plan(
    shape: torch.Size, layout: torch.memory_format, dtype: torch.dtype, num_rows: int, terms: Tuple, step: int
) -> Tuple[Tuple[int, int, int], Tuple[int, ...], dict]:
    """The grid of a kernel, its arguments for sizes, and its constants."""
    num_clips, num_maps, channels, height, width = shape
    pixels = height * width
    if layout == torch.channels_last:
        strides = (channels, 1)
        wide = min(128, triton.next_power_of_2(channels))
        tile = dict(PIXELS=TILE // wide, CHANNELS=wide)
    else:
        strides = (1, pixels)
        long = min(256, triton.next_power_of_2(pixels))
        tile = dict(PIXELS=long, CHANNELS=TILE // long)
    grid = (num_clips, triton.cdiv(pixels, tile['PIXELS']), triton.cdiv(channels, tile['CHANNELS']))
    numbers = []
    for term in terms:
        shift, phase = divmod(term.place, step)
        for row in term.rows:
            numbers += [term.output, phase, shift, row]
    constants = dict(
        tile,
        K=num_maps // step,
        P=step,
        ROWS=num_rows,
        OUTPUTS=1 + max(term.output for term in terms),
        TERMS=tuple(numbers),
        SUM=tl.float64 if dtype == torch.float64 else tl.float32,
    )
    return grid, (channels * pixels, pixels, channels, *strides), constants


def _lay_out(maps: Tensor, layout: torch.memory_format) -> Tensor:
    """Maps ``(N, M, C, H, W)`` as ``(N * M, C, H, W)`` of a layout."""
    return maps.flatten(0, 1).contiguous(memory_format=layout)


def _prepare(x: Tensor, weight: Tensor, terms: Tuple, step: int) -> tuple:
    """The layout of the maps, the maps in it, and the plan."""
    maps = x.flatten(0, 1)
    is_last = maps.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_last else torch.contiguous_format
    return layout, _lay_out(x, layout), *_plan(x.shape, layout, x.dtype, len(weight), terms, step)


def blend(x: Tensor, weight: Tensor, terms: Tuple, step: int) -> List[Tensor]:
    """See :class:`.frame_blending.BlendFrames`."""
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
    """The gradients of the input and of the weights of :func:`blend`."""
    layout, maps, grid, sizes, constants = _prepare(x, weight, terms, step)
    grad_x = torch.empty_like(maps, memory_format=layout)
    # A sum per program and no atomics: the same bits in every run.
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
