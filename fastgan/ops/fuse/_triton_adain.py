"""AdaIN kernels.

Where a plane of the content is one tile, a program keeps it in registers: `fuse_adain_fwd_kernel` and
`fuse_adain_bwd_kernel` are the whole pass. Else planes are cut into pieces: moments (or sums) of each, the pieces of
each plane merged in their order, and a pass that writes.
"""

import triton
import triton.language as tl

from fastgan.ops._triton_tiles import addresses, tile
from fastgan.ops.fuse._triton_blend import alpha_of

EPS = tl.constexpr(1e-5)


@triton.jit
def centered(x, inside, pixels):
    """`x` less its mean over the pixels of each channel, 0 outside; and the mean. Exact for large means too."""
    near = tl.sum(x, axis=1) / pixels
    d = tl.where(inside, x - near[:, None], 0.0)
    rest = tl.sum(d, axis=1) / pixels
    return tl.where(inside, d - rest[:, None], 0.0), near + rest


@triton.jit
def moments_between(
    x,
    image,
    c,
    channels,
    begin,
    end,
    width,
    x_n,
    x_c,
    x_h,
    x_w,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """The mean of pixels `begin` to `end` of each channel, and the sum of squares about it (Chan et al. 1979)."""
    mean = tl.zeros([BLOCK_C], dtype=tl.float32)
    squares = tl.zeros([BLOCK_C], dtype=tl.float32)
    seen = 0.0
    for start in range(begin, end, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (c < channels)[:, None] & (p < end)[None, :]
        of = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
        tile = tl.load(of, mask=inside, other=0.0).to(tl.float32)
        count = tl.minimum(end - start, BLOCK_P) * 1.0
        d, near = centered(tile, inside, count)
        share = count / (seen + count)
        offset = near - mean
        squares += tl.sum(d * d, axis=1) + offset * offset * (seen * share)
        mean += offset * share
        seen += count
    return mean, squares


@triton.jit
def fuse_adain_fwd_kernel(
    content,
    style,
    alpha,
    out,
    moments,
    content_n,
    content_c,
    content_h,
    content_w,
    out_n,
    out_c,
    out_h,
    out_w,
    style_n,
    style_c,
    style_h,
    style_w,
    channels,
    pixels,
    width,
    style_pixels,
    style_width,
    planes,
    number,
    HAS_ALPHA: tl.constexpr,
    MERGED: tl.constexpr,
    STYLE_MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    image, c, p = tile(tl.program_id(0), 0, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(content, image, c, p, width, content_n, content_c, content_h, content_w, MERGED)
    x = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    mean_s, squares = moments_between(
        style,
        image,
        c,
        channels,
        0,
        style_pixels,
        style_width,
        style_n,
        style_c,
        style_h,
        style_w,
        STYLE_MERGED,
        BLOCK_C,
        BLOCK_P,
    )
    sigma_s = tl.sqrt(squares / style_pixels + EPS)
    d, mean_c = centered(x, inside, pixels)
    rstd_c = 1 / tl.sqrt(tl.sum(d * d, axis=1) / pixels + EPS)
    a = alpha_of(alpha, number, image, HAS_ALPHA)
    scale = a * sigma_s * rstd_c + (1 - a)
    shift = a * mean_s + (1 - a) * mean_c
    to = addresses(out, image, c, p, width, out_n, out_c, out_h, out_w, MERGED)
    tl.store(to, (d * scale[:, None] + shift[:, None]).to(out.dtype.element_ty), mask=inside)
    at = moments + image * channels + c
    tl.store(at, mean_c, mask=c < channels)
    tl.store(at + planes, rstd_c, mask=c < channels)
    tl.store(at + 2 * planes, mean_s, mask=c < channels)
    tl.store(at + 3 * planes, 1 / sigma_s, mask=c < channels)


@triton.jit
def fuse_adain_bwd_kernel(
    grad,
    content,
    style,
    alpha,
    moments,
    grad_content,
    grad_style,
    by_alpha,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    content_n,
    content_c,
    content_h,
    content_w,
    to_content_n,
    to_content_c,
    to_content_h,
    to_content_w,
    style_n,
    style_c,
    style_h,
    style_w,
    to_style_n,
    to_style_c,
    to_style_h,
    to_style_w,
    channels,
    pixels,
    width,
    style_pixels,
    style_width,
    planes,
    number,
    HAS_ALPHA: tl.constexpr,
    NEEDS_CONTENT: tl.constexpr,
    NEEDS_STYLE: tl.constexpr,
    NEEDS_ALPHA: tl.constexpr,
    MERGED: tl.constexpr,
    STYLE_MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    image, c, p = tile(tl.program_id(0), 0, channels, BLOCK_C, BLOCK_P)
    within = c < channels
    inside = within[:, None] & (p < pixels)[None, :]
    of = addresses(content, image, c, p, width, content_n, content_c, content_h, content_w, MERGED)
    x = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
    g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    plane = image * channels + c
    mean_c = tl.load(moments + plane, mask=within, other=0.0)
    rstd_c = tl.load(moments + planes + plane, mask=within, other=1.0)
    mean_s = tl.load(moments + 2 * planes + plane, mask=within, other=0.0)
    rstd_s = tl.load(moments + 3 * planes + plane, mask=within, other=1.0)
    a = alpha_of(alpha, number, image, HAS_ALPHA)
    d = tl.where(inside, x - mean_c[:, None], 0.0)
    # The rounding error of the stored mean, which a sum over many pixels would add up.
    rest = tl.sum(d, axis=1) / pixels
    d = tl.where(inside, d - rest[:, None], 0.0)
    total = tl.sum(g, axis=1)
    product = tl.sum(g * d, axis=1) * rstd_c
    if NEEDS_CONTENT:
        scale = a * rstd_c / rstd_s
        pull = scale * rstd_c * product / pixels
        down = (g - (total / pixels)[:, None]) * scale[:, None] - d * pull[:, None] + g * (1 - a)
        to = addresses(grad_content, image, c, p, width, to_content_n, to_content_c, to_content_h, to_content_w, MERGED)
        tl.store(to, down.to(grad_content.dtype.element_ty), mask=inside)
    if NEEDS_ALPHA:
        term = product * (1 / rstd_s - 1 / rstd_c) + total * (mean_s - mean_c)
        tl.store(by_alpha + plane, term, mask=within)
    if NEEDS_STYLE:
        scale = a * product * rstd_s / style_pixels
        shift = a * total / style_pixels
        for start in range(0, style_pixels, BLOCK_P):
            q = start + tl.arange(0, BLOCK_P)
            there = within[:, None] & (q < style_pixels)[None, :]
            of = addresses(style, image, c, q, style_width, style_n, style_c, style_h, style_w, STYLE_MERGED)
            s = tl.load(of, mask=there, other=0.0).to(tl.float32)
            down = (s - mean_s[:, None]) * scale[:, None] + shift[:, None]
            to = addresses(
                grad_style, image, c, q, style_width, to_style_n, to_style_c, to_style_h, to_style_w, STYLE_MERGED
            )
            tl.store(to, down.to(grad_style.dtype.element_ty), mask=there)
