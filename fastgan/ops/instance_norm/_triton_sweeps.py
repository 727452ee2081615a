"""instance_norm's kernels for planes that no program holds: each direction a sweep for sums and one for its result.

A program sweeps a chunk of a plane in tiles, and leaves three numbers for each of its channels in a workspace. Each
program of the second sweep merges those of all chunks for itself: they are few, and in cache.
"""

import triton
import triton.language as tl

from fastgan.ops._triton_tiles import activate, activate_backward, addresses, merged_moments, merged_sums, tile


@triton.jit
def parameter(values, image, image_stride, c, channels, DEFAULT: tl.constexpr, PRESENT: tl.constexpr):
    if PRESENT:
        return tl.load(values + image * image_stride + c, mask=c < channels, other=DEFAULT)
    return tl.full(c.shape, DEFAULT, tl.float32)


@triton.jit
def deviation_inverse(variance, eps):
    # Both are approximate unless asked otherwise.
    return tl.div_rn(tl.full(variance.shape, 1.0, tl.float32), tl.sqrt_rn(variance + eps))


@triton.jit
def instance_norm_stats_kernel(
    x,
    work,
    x_n,
    x_c,
    x_h,
    x_w,
    work_kind,
    work_n,
    work_c,
    work_chunk,
    channels,
    pixels,
    width,
    chunk_pixels,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Moments of each chunk: a value near its mean, the difference to the mean, the sum of squares about the mean."""
    image, c, lane = tile(tl.program_id(0), 0, channels, BLOCK_C, BLOCK_P)
    begin = tl.program_id(1) * chunk_pixels
    count = tl.minimum(pixels - begin, chunk_pixels)
    inside = (c < channels)[:, None] & (begin + lane < pixels)[None, :]
    of = addresses(x, image, c, begin + lane, width, x_n, x_c, x_h, x_w, MERGED)
    value = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    near = tl.sum(value, axis=1) / tl.minimum(count, BLOCK_P)
    # Each lane has a mean of its own that moves with it (Welford): one center for all, taken from the first tile, would
    # cancel the variance where that tile is unlike the rest.
    mean = tl.where(inside, value - near[:, None], 0.0)
    squares = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    for done in range(BLOCK_P, count, BLOCK_P):
        p = begin + done + lane
        inside = (c < channels)[:, None] & (p < pixels)[None, :]
        of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
        value = tl.load(of, mask=inside, other=0.0).to(tl.float32)
        delta = tl.where(inside, (value - near[:, None]) - mean, 0.0)
        step = delta * (1.0 / (done // BLOCK_P + 1))
        mean += step
        squares += delta * (delta - step)
    seen = ((count - lane + (BLOCK_P - 1)) // BLOCK_P).to(tl.float32)[None, :]
    rest = tl.sum(seen * mean, axis=1) / count
    delta = mean - rest[:, None]
    to = work + image * work_n + c * work_c + tl.program_id(1) * work_chunk
    tl.store(to, near, mask=c < channels)
    tl.store(to + work_kind, rest, mask=c < channels)
    tl.store(to + 2 * work_kind, tl.sum(squares + seen * delta * delta, axis=1), mask=c < channels)


@triton.jit
def instance_norm_apply_kernel(
    x,
    weight,
    bias,
    residual,
    out,
    mean,
    rstd,
    work,
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
    work_kind,
    work_n,
    work_c,
    work_chunk,
    channels,
    pixels,
    width,
    chunk_pixels,
    weight_n,
    bias_n,
    negative_slope,
    eps,
    ACTIVATION: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    BLOCK_M: tl.constexpr = 128 if BLOCK_C < 8 else 1024 // BLOCK_C
    image, c, lane = tile(tl.program_id(0), 0, channels, BLOCK_C, BLOCK_P)
    parts = work + image * work_n + c * work_c
    origin, offset, variance = merged_moments(
        parts, c < channels, work_kind, work_chunk, tl.num_programs(1), chunk_pixels, pixels, True, BLOCK_M
    )
    center = origin + offset
    # The rounding error of a large mean can be large beside a small deviation: that of the sum above (Knuth).
    back = center - origin
    rest = (origin - (center - back)) + (offset - back)
    inverse_deviation = deviation_inverse(variance, eps)
    if tl.program_id(1) == 0:
        tl.store(mean + image * channels + c, center, mask=c < channels)
        tl.store(rstd + image * channels + c, inverse_deviation, mask=c < channels)
    scale = inverse_deviation * parameter(weight, image, weight_n, c, channels, 1.0, HAS_WEIGHT)
    shift = parameter(bias, image, bias_n, c, channels, 0.0, HAS_BIAS) - rest * scale
    begin = tl.program_id(1) * chunk_pixels
    for done in range(0, tl.minimum(pixels - begin, chunk_pixels), BLOCK_P):
        p = begin + done + lane
        inside = (c < channels)[:, None] & (p < pixels)[None, :]
        of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
        d = tl.load(of, mask=inside, other=0.0).to(tl.float32) - center[:, None]
        y = activate(d * scale[:, None] + shift[:, None], negative_slope, ACTIVATION)
        if HAS_RESIDUAL:
            of = addresses(residual, image, c, p, width, residual_n, residual_c, residual_h, residual_w, MERGED)
            y += tl.load(of, mask=inside, other=0.0).to(tl.float32)
        to = addresses(out, image, c, p, width, out_n, out_c, out_h, out_w, MERGED)
        tl.store(to, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def instance_norm_bwd_sums_kernel(
    grad,
    x,
    weight,
    bias,
    mean,
    rstd,
    work,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    x_n,
    x_c,
    x_h,
    x_w,
    work_kind,
    work_n,
    work_c,
    work_chunk,
    channels,
    pixels,
    width,
    chunk_pixels,
    weight_n,
    bias_n,
    negative_slope,
    ACTIVATION: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Sums over each chunk: of g, of g (x - mean) and of x - mean; g is the gradient before activation."""
    image, c, lane = tile(tl.program_id(0), 0, channels, BLOCK_C, BLOCK_P)
    begin = tl.program_id(1) * chunk_pixels
    center = tl.load(mean + image * channels + c, mask=c < channels, other=0.0)
    scale = tl.load(rstd + image * channels + c, mask=c < channels, other=0.0)
    scale *= parameter(weight, image, weight_n, c, channels, 1.0, HAS_WEIGHT)
    shift = parameter(bias, image, bias_n, c, channels, 0.0, HAS_BIAS)
    sums = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    products = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    rests = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    for done in range(0, tl.minimum(pixels - begin, chunk_pixels), BLOCK_P):
        p = begin + done + lane
        inside = (c < channels)[:, None] & (p < pixels)[None, :]
        of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
        d = tl.load(of, mask=inside, other=0.0).to(tl.float32) - center[:, None]
        d = tl.where(inside, d, 0.0)
        of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
        g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
        g = activate_backward(g, d * scale[:, None] + shift[:, None], negative_slope, ACTIVATION)
        sums += g
        products += g * d
        rests += d
    to = work + image * work_n + c * work_c + tl.program_id(1) * work_chunk
    tl.store(to, tl.sum(sums, axis=1), mask=c < channels)
    tl.store(to + work_kind, tl.sum(products, axis=1), mask=c < channels)
    tl.store(to + 2 * work_kind, tl.sum(rests, axis=1), mask=c < channels)


@triton.jit
def instance_norm_bwd_apply_kernel(
    grad,
    x,
    weight,
    bias,
    mean,
    rstd,
    work,
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
    work_kind,
    work_n,
    work_c,
    work_chunk,
    channels,
    pixels,
    width,
    chunks,
    chunk_pixels,
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
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Without NEEDS_X it merges the sums alone, for which one program for each block of channels is enough."""
    BLOCK_M: tl.constexpr = 128 if BLOCK_C < 8 else 1024 // BLOCK_C
    image, c, lane = tile(tl.program_id(0), 0, channels, BLOCK_C, BLOCK_P)
    parts = work + image * work_n + c * work_c
    sums, products, rests = merged_sums(parts, c < channels, work_kind, work_chunk, chunks, BLOCK_M)
    # The rounding error of the saved mean, which a sum over many pixels would add up.
    rest = rests * inverse
    inverse_deviation = tl.load(rstd + image * channels + c, mask=c < channels, other=0.0)
    by_weight = (products - rest * sums) * inverse_deviation
    if tl.program_id(1) == 0:
        if NEEDS_WEIGHT:
            tl.store(grad_weight + image * channels + c, by_weight, mask=c < channels)
        if NEEDS_BIAS:
            tl.store(grad_bias + image * channels + c, sums, mask=c < channels)
    if NEEDS_X:
        center = tl.load(mean + image * channels + c, mask=c < channels, other=0.0)
        scale = inverse_deviation * parameter(weight, image, weight_n, c, channels, 1.0, HAS_WEIGHT)
        shift = parameter(bias, image, bias_n, c, channels, 0.0, HAS_BIAS)
        sums, pull = sums * inverse, by_weight * inverse
        begin = tl.program_id(1) * chunk_pixels
        for done in range(0, tl.minimum(pixels - begin, chunk_pixels), BLOCK_P):
            p = begin + done + lane
            inside = (c < channels)[:, None] & (p < pixels)[None, :]
            of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
            d = tl.load(of, mask=inside, other=0.0).to(tl.float32) - center[:, None]
            of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
            g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
            g = activate_backward(g, d * scale[:, None] + shift[:, None], negative_slope, ACTIVATION)
            normal = (d - rest[:, None]) * inverse_deviation[:, None]
            g = ((g - sums[:, None]) - normal * pull[:, None]) * scale[:, None]
            to = addresses(grad_x, image, c, p, width, to_n, to_c, to_h, to_w, MERGED)
            tl.store(to, g.to(grad_x.dtype.element_ty), mask=inside)
