"""instance_norm in Triton: one launch each way where a program holds whole planes in registers, else two.

Bytes that must move per value, of e bytes each: 2 e forward (3 e with a residual), 3 e backward (2 e without grad_x).
That is what moves where planes are held; else x is read twice forward (3 e, 4 e), x and the gradient twice backward
(5 e, 2 e).
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _native, _triton
from fastgan.ops._triton_tiles import (
    ACTIVATIONS,
    activate,
    activate_backward,
    addresses,
    arrange,
    pointer,
    size_key,
    tile,
)
from fastgan.ops.instance_norm import _triton_sweeps as sweeps
from fastgan.ops.instance_norm._triton_sweeps import deviation_inverse, parameter
from fastgan.ops.instance_norm.native import _TINY

#: Where planes are held; a tile's other side is the plane itself. Those that hold it are tried, the evenest first.
HELD_NCHW = (
    _triton.config(BLOCK_C=1, num_warps=1),
    _triton.config(BLOCK_C=1, num_warps=4),
    _triton.config(BLOCK_C=4, num_warps=1),
    _triton.config(BLOCK_C=4, num_warps=4),
    _triton.config(BLOCK_C=16, num_warps=4),
    _triton.config(BLOCK_C=1, num_warps=8),
    _triton.config(BLOCK_C=1, num_warps=16),
)
HELD_CHANNELS_LAST = (
    _triton.config(BLOCK_C=32, num_warps=4),
    _triton.config(BLOCK_C=32, num_warps=8),
    _triton.config(BLOCK_C=64, num_warps=8),
    _triton.config(BLOCK_C=16, num_warps=4),
    _triton.config(BLOCK_C=16, num_warps=8),
    _triton.config(BLOCK_C=32, num_warps=16),
    _triton.config(BLOCK_C=16, num_warps=16),
    _triton.config(BLOCK_C=8, num_warps=4),
    _triton.config(BLOCK_C=8, num_warps=16),
    _triton.config(BLOCK_C=4, num_warps=4),
    _triton.config(BLOCK_C=4, num_warps=16),
)
SWEEP_NCHW = (
    _triton.config(BLOCK_C=1, BLOCK_P=1024, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=2048, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=2048, num_warps=8),
)
SWEEP_CHANNELS_LAST = (
    _triton.config(BLOCK_C=32, BLOCK_P=32, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=64, num_warps=8),
    _triton.config(BLOCK_C=64, BLOCK_P=32, num_warps=8),
    _triton.config(BLOCK_C=16, BLOCK_P=128, num_warps=8),
    _triton.config(BLOCK_C=8, BLOCK_P=128, num_warps=4),
    _triton.config(BLOCK_C=4, BLOCK_P=256, num_warps=4),
)

#: Values that a warp holds of each of its tensors: 32 registers a lane. ptxas spills some kernels of twice as many.
FORWARD_HELD, BACKWARD_HELD = 1024, 512
#: Programs of a sweep that fill a GPU of some 132 multiprocessors, and chunks of a plane at most.
PROGRAMS, MAX_CHUNKS = 1056, 128


@triton.jit
def instance_norm_fwd_kernel(
    x,
    weight,
    bias,
    residual,
    out,
    mean,
    rstd,
    x_n,
    x_c,
    x_h,
    x_w,
    residual_n,
    residual_c,
    residual_h,
    residual_w,
    out_n,
    out_c,
    out_h,
    out_w,
    channels,
    pixels,
    width,
    weight_n,
    bias_n,
    inverse,
    negative_slope,
    eps,
    ACTIVATION: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    MERGED: tl.constexpr,
    PLANE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, c, p = tile(tl.program_id(0), 0, channels, BLOCK_C, PLANE)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
    value = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    near = tl.sum(value, axis=1) * inverse
    d = tl.where(inside, value - near[:, None], 0.0)
    # The rounding error of a large mean can be large beside a small deviation.
    rest = tl.sum(d, axis=1) * inverse
    d = tl.where(inside, d - rest[:, None], 0.0)
    inverse_deviation = deviation_inverse(tl.sum(d * d, axis=1) * inverse, eps)
    tl.store(mean + image * channels + c, near + rest, mask=c < channels)
    tl.store(rstd + image * channels + c, inverse_deviation, mask=c < channels)
    scale = inverse_deviation * parameter(weight, image, weight_n, c, channels, 1.0, HAS_WEIGHT)
    shift = parameter(bias, image, bias_n, c, channels, 0.0, HAS_BIAS)
    y = activate(d * scale[:, None] + shift[:, None], negative_slope, ACTIVATION)
    if HAS_RESIDUAL:
        of = addresses(residual, image, c, p, width, residual_n, residual_c, residual_h, residual_w, MERGED)
        y += tl.load(of, mask=inside, other=0.0).to(tl.float32)
    to = addresses(out, image, c, p, width, out_n, out_c, out_h, out_w, MERGED)
    tl.store(to, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def instance_norm_bwd_kernel(
    grad,
    x,
    weight,
    bias,
    mean,
    rstd,
    grad_x,
    grad_weight,
    grad_bias,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    x_n,
    x_c,
    x_h,
    x_w,
    to_n,
    to_c,
    to_h,
    to_w,
    channels,
    pixels,
    width,
    weight_n,
    bias_n,
    inverse,
    negative_slope,
    ACTIVATION: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    NEEDS_X: tl.constexpr,
    NEEDS_WEIGHT: tl.constexpr,
    NEEDS_BIAS: tl.constexpr,
    MERGED: tl.constexpr,
    PLANE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, c, p = tile(tl.program_id(0), 0, channels, BLOCK_C, PLANE)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
    d = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
    g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    center = tl.load(mean + image * channels + c, mask=c < channels, other=0.0)
    inverse_deviation = tl.load(rstd + image * channels + c, mask=c < channels, other=0.0)
    scale = parameter(weight, image, weight_n, c, channels, 1.0, HAS_WEIGHT)
    shift = parameter(bias, image, bias_n, c, channels, 0.0, HAS_BIAS)
    # Less what the mean kept lost to float32, which a sum over many pixels would add up.
    d = tl.where(inside, d - center[:, None], 0.0)
    normal = tl.where(inside, (d - (tl.sum(d, axis=1) * inverse)[:, None]) * inverse_deviation[:, None], 0.0)
    g = activate_backward(g, normal * scale[:, None] + shift[:, None], negative_slope, ACTIVATION)
    sums = tl.sum(g, axis=1)
    products = tl.sum(g * normal, axis=1)
    if NEEDS_WEIGHT:
        tl.store(grad_weight + image * channels + c, products, mask=c < channels)
    if NEEDS_BIAS:
        tl.store(grad_bias + image * channels + c, sums, mask=c < channels)
    if NEEDS_X:
        # A single pixel has exactly 0; g less its mean may differ from 0 where the compiler fuses g's last product.
        scale = tl.where(pixels == 1, 0.0, scale * inverse_deviation)
        g = ((g - (sums * inverse)[:, None]) - normal * (products * inverse)[:, None]) * scale[:, None]
        to = addresses(grad_x, image, c, p, width, to_n, to_c, to_h, to_w, MERGED)
        tl.store(to, g.to(grad_x.dtype.element_ty), mask=inside)


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str | None,
    negative_slope: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `native.forward`."""
    parameter_strides = _parameter_strides(x, weight, bias)
    out = _native.empty_like(x)
    mean, rstd = (x.new_empty(x.shape[:2], dtype=torch.float32) for _ in range(2))
    layout = arrange(x, pointer(residual, x), out)
    n, c, h, w = x.shape
    pixels, key = h * w, size_key(x, layout.channels_last)
    inputs = (x, pointer(weight, x), pointer(bias, x), pointer(residual, x), out, mean, rstd)
    numbers = (negative_slope, max(eps, _TINY))
    constants = {
        "ACTIVATION": ACTIVATIONS[activation],
        "HAS_WEIGHT": weight is not None,
        "HAS_BIAS": bias is not None,
        "HAS_RESIDUAL": residual is not None,
        "MERGED": layout.merged,
    }
    held = _held_configs(x, layout.channels_last, FORWARD_HELD)
    if held:
        _triton.launch(
            instance_norm_fwd_kernel,
            lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]),),
            (*inputs, *layout.strides, c, pixels, w, *parameter_strides, 1 / pixels, *numbers),
            choices=held,
            key=key,
            PLANE=_triton.next_power_of_2(pixels),
            **constants,
        )
        return out, mean, rstd
    sweep = _Sweep(x, layout.channels_last)
    _triton.launch(
        sweeps.instance_norm_stats_kernel,
        sweep.grid,
        (x, sweep.work, *layout.strides[:4], *sweep.work.stride(), c, pixels, w, sweep.chunk_pixels),
        choices=sweep.choices,
        key=key,
        MERGED=layout.merged,
    )
    _triton.launch(
        sweeps.instance_norm_apply_kernel,
        sweep.grid,
        (
            *(*inputs, sweep.work, *layout.strides, *sweep.work.stride()),
            *(c, pixels, w, sweep.chunk_pixels, *parameter_strides, *numbers),
        ),
        choices=sweep.choices,
        key=key,
        **constants,
    )
    return out, mean, rstd


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    activation: str | None,
    negative_slope: float,
    needs_x: bool,
    needs_weight: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `native.backward`."""
    parameter_strides = _parameter_strides(x, weight, bias, mean, rstd)
    grad_x = _native.empty_like(x, needs_x)
    grad_weight, grad_bias = (
        x.new_empty(x.shape[:2] if needed else 0, dtype=torch.float32) for needed in (needs_weight, needs_bias)
    )
    layout = arrange(x, grad, grad_x if needs_x else x)
    of_x, of_grad, of_grad_x = layout.strides[:4], layout.strides[4:8], layout.strides[8:]
    n, c, h, w = x.shape
    pixels, key = h * w, size_key(x, layout.channels_last)
    inputs = (grad, x, pointer(weight, x), pointer(bias, x), mean.contiguous(), rstd.contiguous())
    outputs = (grad_x, grad_weight, grad_bias)
    constants = {
        "ACTIVATION": ACTIVATIONS[activation],
        "HAS_WEIGHT": weight is not None,
        "HAS_BIAS": bias is not None,
        "MERGED": layout.merged,
    }
    needs = {"NEEDS_X": needs_x, "NEEDS_WEIGHT": needs_weight, "NEEDS_BIAS": needs_bias}
    held = _held_configs(x, layout.channels_last, BACKWARD_HELD)
    if held:
        _triton.launch(
            instance_norm_bwd_kernel,
            lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]),),
            (
                *(*inputs, *outputs, *of_grad, *of_x, *of_grad_x),
                *(c, pixels, w, *parameter_strides, 1 / pixels, negative_slope),
            ),
            choices=held,
            key=key,
            PLANE=_triton.next_power_of_2(pixels),
            **constants,
            **needs,
        )
        return outputs
    sweep = _Sweep(x, layout.channels_last)
    _triton.launch(
        sweeps.instance_norm_bwd_sums_kernel,
        sweep.grid,
        (
            *(*inputs, sweep.work, *of_grad, *of_x, *sweep.work.stride()),
            *(c, pixels, w, sweep.chunk_pixels, *parameter_strides, negative_slope),
        ),
        choices=sweep.choices,
        key=key,
        **constants,
    )
    _triton.launch(
        sweeps.instance_norm_bwd_apply_kernel,
        sweep.grid if needs_x else lambda config: (sweep.grid(config)[0], 1),
        (
            *(*inputs, sweep.work, *outputs, *of_grad, *of_x, *of_grad_x, *sweep.work.stride()),
            *(c, pixels, w, sweep.chunks, sweep.chunk_pixels, *parameter_strides, 1 / pixels, negative_slope),
        ),
        choices=sweep.choices,
        key=(*key, *(() if needs_x else ("sums",))),
        **constants,
        **needs,
    )
    return outputs


def _parameter_strides(x: Tensor, weight: Tensor | None, bias: Tensor | None, *moments: Tensor) -> tuple[int, int]:
    """Strides from image to image of weight and bias; validates them and the moments."""
    n, c = x.shape[:2]
    for name, affine in (("weight", weight), ("bias", bias)):
        _native.check_numbers(name, affine, x, (c,), (n, c))
    for moment in moments:
        _native.check_numbers("mean and rstd", moment, x, (n, c))
    weight_stride, bias_stride = (c if affine is not None and affine.dim() == 2 else 0 for affine in (weight, bias))
    return weight_stride, bias_stride


def _min_block(x: Tensor, min_block: int) -> int:
    return min(min_block, max(4, _triton.next_power_of_2(x.shape[1])))


def _held_configs(x: Tensor, channels_last: bool, held: int) -> tuple[_triton.Config, ...]:
    """The configurations whose programs hold planes of this size; none if the planes are too large."""
    plane = _triton.next_power_of_2(x.shape[2] * x.shape[3])

    def unevenness(config: _triton.Config) -> float:
        # From half of what can be held: several programs share a multiprocessor, and one loads while another stores.
        return abs(math.log2(plane * config["BLOCK_C"] / (held // 2 * config.num_warps)))

    table = HELD_CHANNELS_LAST if channels_last else HELD_NCHW
    # A row of channels fills a sector of 32 bytes.
    min_block = _min_block(x, 32 // x.element_size()) if channels_last else 1
    max_block = max(min_block, _triton.next_power_of_2(x.shape[1]))
    fitting = [
        config
        for config in table
        if min_block <= config["BLOCK_C"] <= max_block and plane * config["BLOCK_C"] <= held * config.num_warps
    ]
    return tuple(sorted(fitting, key=unevenness)[:4])


class _Sweep:
    """Division of planes into chunks, with a workspace for three sums of each chunk."""

    def __init__(self, x: Tensor, channels_last: bool) -> None:
        n, c, h, w = x.shape
        self.choices: tuple[_triton.Config, ...] = SWEEP_NCHW
        if channels_last:
            min_block = _min_block(x, 16)
            max_block = max(min_block, _triton.next_power_of_2(c))
            self.choices = tuple(
                config for config in SWEEP_CHANNELS_LAST if min_block <= config["BLOCK_C"] <= max_block
            )
        self.images, self.channels = n, c
        pixels = h * w
        # Chunks consist of whole tiles, so that only the last tile of a plane is partial.
        tile = max(config["BLOCK_P"] for config in self.choices)
        planes = n * _triton.cdiv(c, self.choices[0]["BLOCK_C"])
        # Every program of the second sweep reads the sums of all chunks: more of them would cost more than they bring.
        target_chunks = min(_triton.cdiv(PROGRAMS, planes), MAX_CHUNKS, max(1, math.isqrt(pixels) // 2))
        self.chunk_pixels = _triton.cdiv(_triton.cdiv(pixels, target_chunks), tile) * tile
        self.chunks = _triton.cdiv(pixels, self.chunk_pixels)
        # Neighboring lanes have neighboring channels in channels_last, and chunks otherwise.
        inner = (self.chunks, c) if channels_last else (c, self.chunks)
        work = x.new_empty((3, n, *inner), dtype=torch.float32)
        self.work = work.transpose(2, 3) if channels_last else work

    def grid(self, config: _triton.Config) -> tuple[int, int]:
        return self.images * _triton.cdiv(self.channels, config["BLOCK_C"]), self.chunks
