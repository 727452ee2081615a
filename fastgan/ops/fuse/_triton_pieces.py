"""AdaIN kernels for planes larger than a tile and for tensors of mixed layouts: by pieces of planes."""

import triton
import triton.language as tl

from fastgan.ops._triton_tiles import addresses, merged_moments, merged_sums, row_and_column, tile
from fastgan.ops.fuse._triton_adain import EPS, moments_between
from fastgan.ops.fuse._triton_blend import alpha_of

#: Pieces merged at a time.
BLOCK_M = tl.constexpr(16)


@triton.jit
def fuse_moments_kernel(
    x,
    partial,
    x_n,
    x_c,
    x_h,
    x_w,
    channels,
    pixels,
    width,
    planes,
    MERGED: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """The mean of each piece of each plane, TILES * BLOCK_P pixels, and the sum of squares about it."""
    row, column = row_and_column(pixels, TILES * BLOCK_P)
    image, c, _ = tile(row, 0, channels, BLOCK_C, BLOCK_P)
    begin = column * (TILES * BLOCK_P)
    end = tl.minimum(begin + TILES * BLOCK_P, pixels)
    mean, squares = moments_between(
        x, image, c, channels, begin, end, width, x_n, x_c, x_h, x_w, MERGED, BLOCK_C, BLOCK_P
    )
    at = partial + column * 2 * planes + image * channels + c
    tl.store(at, mean, mask=c < channels)
    tl.store(at + planes, squares, mask=c < channels)


@triton.jit
def fuse_merge_fwd_kernel(
    of_content,
    of_style,
    alpha,
    moments,
    factors,
    channels,
    planes,
    pixels,
    pieces,
    piece,
    style_pixels,
    style_pieces,
    style_piece,
    number,
    HAS_ALPHA: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The moments, and the factors of `fuse_apply_kernel`."""
    plane = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    within = plane < planes
    near_c, offset_c, var_c = merged_moments(
        of_content + plane, within, planes, 2 * planes, pieces, piece, pixels, False, BLOCK_M
    )
    near_s, offset_s, var_s = merged_moments(
        of_style + plane, within, planes, 2 * planes, style_pieces, style_piece, style_pixels, False, BLOCK_M
    )
    mean_c, mean_s = near_c + offset_c, near_s + offset_s
    rstd_c = 1 / tl.sqrt(var_c + EPS)
    sigma_s = tl.sqrt(var_s + EPS)
    a = alpha_of(alpha, number, tl.where(within, plane // channels, 0), HAS_ALPHA)
    tl.store(moments + plane, mean_c, mask=within)
    tl.store(moments + planes + plane, rstd_c, mask=within)
    tl.store(moments + 2 * planes + plane, mean_s, mask=within)
    tl.store(moments + 3 * planes + plane, 1 / sigma_s, mask=within)
    tl.store(factors + plane, mean_c, mask=within)
    tl.store(factors + planes + plane, a * sigma_s * rstd_c + (1 - a), mask=within)
    tl.store(factors + 2 * planes + plane, a * mean_s + (1 - a) * mean_c, mask=within)


@triton.jit
def fuse_apply_kernel(
    x,
    factors,
    out,
    x_n,
    x_c,
    x_h,
    x_w,
    out_n,
    out_c,
    out_h,
    out_w,
    channels,
    pixels,
    width,
    planes,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """(x - mean) * scale + shift, by the factors of each plane."""
    row, column = row_and_column(pixels, BLOCK_P)
    image, c, p = tile(row, column, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
    y = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    at = factors + image * channels + c
    mean = tl.load(at, mask=c < channels, other=0.0)
    scale = tl.load(at + planes, mask=c < channels, other=0.0)
    shift = tl.load(at + 2 * planes, mask=c < channels, other=0.0)
    y = (y - mean[:, None]) * scale[:, None] + shift[:, None]
    to = addresses(out, image, c, p, width, out_n, out_c, out_h, out_w, MERGED)
    tl.store(to, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def fuse_sums_kernel(
    content,
    grad,
    moments,
    partial,
    content_n,
    content_c,
    content_h,
    content_w,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    channels,
    pixels,
    width,
    planes,
    MERGED: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Sums over each piece of each plane: of g, of g (x - mean) and of x - mean."""
    row, column = row_and_column(pixels, TILES * BLOCK_P)
    image, c, lane = tile(row, 0, channels, BLOCK_C, BLOCK_P)
    begin = column * (TILES * BLOCK_P)
    end = tl.minimum(begin + TILES * BLOCK_P, pixels)
    plane = image * channels + c
    mean = tl.load(moments + plane, mask=c < channels, other=0.0)
    total = tl.zeros([BLOCK_C], dtype=tl.float32)
    product = tl.zeros([BLOCK_C], dtype=tl.float32)
    rest = tl.zeros([BLOCK_C], dtype=tl.float32)
    for start in range(begin, end, BLOCK_P):
        p = start + lane
        inside = (c < channels)[:, None] & (p < end)[None, :]
        of = addresses(content, image, c, p, width, content_n, content_c, content_h, content_w, MERGED)
        x = tl.load(of, mask=inside, other=0.0).to(tl.float32)
        of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
        g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
        d = tl.where(inside, x - mean[:, None], 0.0)
        total += tl.sum(g, axis=1)
        product += tl.sum(g * d, axis=1)
        rest += tl.sum(d, axis=1)
    at = partial + column * 3 * planes + plane
    tl.store(at, total, mask=c < channels)
    tl.store(at + planes, product, mask=c < channels)
    tl.store(at + 2 * planes, rest, mask=c < channels)


@triton.jit
def fuse_merge_bwd_kernel(
    partial,
    alpha,
    moments,
    factors,
    by_alpha,
    channels,
    planes,
    pixels,
    pieces,
    style_pixels,
    number,
    HAS_ALPHA: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Factors of `fuse_apply_bwd_kernel` (four) and, for the style, `fuse_apply_kernel` (three), and alpha's terms."""
    plane = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    within = plane < planes
    total, product, rest = merged_sums(partial + plane, within, planes, 3 * planes, pieces, BLOCK_M)
    mean_c = tl.load(moments + plane, mask=within, other=0.0)
    rstd_c = tl.load(moments + planes + plane, mask=within, other=1.0)
    mean_s = tl.load(moments + 2 * planes + plane, mask=within, other=0.0)
    rstd_s = tl.load(moments + 3 * planes + plane, mask=within, other=1.0)
    a = alpha_of(alpha, number, tl.where(within, plane // channels, 0), HAS_ALPHA)
    # The rounding error of the stored mean, which a sum over many pixels would add up.
    rest /= pixels
    product = (product - rest * total) * rstd_c
    scale = a * rstd_c / rstd_s
    pull = -scale * rstd_c * product / pixels
    tl.store(factors + plane, mean_c, mask=within)
    tl.store(factors + planes + plane, scale + (1 - a), mask=within)
    tl.store(factors + 2 * planes + plane, pull, mask=within)
    tl.store(factors + 3 * planes + plane, -(total / pixels * scale + rest * pull), mask=within)
    tl.store(factors + 4 * planes + plane, mean_s, mask=within)
    tl.store(factors + 5 * planes + plane, a * product * rstd_s / style_pixels, mask=within)
    tl.store(factors + 6 * planes + plane, a * total / style_pixels, mask=within)
    tl.store(by_alpha + plane, product * (1 / rstd_s - 1 / rstd_c) + total * (mean_s - mean_c), mask=within)


@triton.jit
def fuse_apply_bwd_kernel(
    content,
    grad,
    factors,
    grad_content,
    content_n,
    content_c,
    content_h,
    content_w,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    to_n,
    to_c,
    to_h,
    to_w,
    channels,
    pixels,
    width,
    planes,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """g * keep + (x - mean) * pull + shift, by the factors of each plane."""
    row, column = row_and_column(pixels, BLOCK_P)
    image, c, p = tile(row, column, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(content, image, c, p, width, content_n, content_c, content_h, content_w, MERGED)
    x = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
    g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    at = factors + image * channels + c
    mean = tl.load(at, mask=c < channels, other=0.0)
    keep = tl.load(at + planes, mask=c < channels, other=0.0)
    pull = tl.load(at + 2 * planes, mask=c < channels, other=0.0)
    shift = tl.load(at + 3 * planes, mask=c < channels, other=0.0)
    down = g * keep[:, None] + ((x - mean[:, None]) * pull[:, None] + shift[:, None])
    to = addresses(grad_content, image, c, p, width, to_n, to_c, to_h, to_w, MERGED)
    tl.store(to, down.to(grad_content.dtype.element_ty), mask=inside)
