"""Pixel conversion in Triton, one launch each way.

Bytes that must move per value, of e bytes as a float: 1 + e each way.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._triton_tiles import MAX_PIXELS, check_plane
from fastgan.ops.image_convert import native
from fastgan.utils.format import dtype_name

#: One image after another in rows of pixels, or each image as one row where its rows follow on from one another.
ROWS = (
    _triton.config(BLOCK_R=4, BLOCK_E=256, num_warps=4),
    _triton.config(BLOCK_R=2, BLOCK_E=512, num_warps=4),
    _triton.config(BLOCK_R=1, BLOCK_E=1024, num_warps=4),
    _triton.config(BLOCK_R=8, BLOCK_E=256, num_warps=8),
)
WHOLE = (
    _triton.config(BLOCK_R=1, BLOCK_E=1024, num_warps=4),
    _triton.config(BLOCK_R=1, BLOCK_E=2048, num_warps=4),
    _triton.config(BLOCK_R=1, BLOCK_E=512, num_warps=4),
    _triton.config(BLOCK_R=1, BLOCK_E=4096, num_warps=8),
)

# The quotient by 127.5 in two products, the first of which is exact: equal to the division's for each of the 256
# values, with and without contraction. A product with the reciprocal is not, nor is Triton's own division rounded.
_HIGH, _LOW = tl.constexpr(float.fromhex("0x1.01p-7")), tl.constexpr(float.fromhex("0x1.010102p-23"))
# Its unit is 1: a number below 2^22 that is added to it is rounded half to even.
_WHOLE = tl.constexpr(1.5 * 2**23)


@triton.jit
def _load_normalized(at, inside):
    value = tl.load(at, mask=inside, other=0).to(tl.float32)
    return value * _HIGH + value * _LOW - 1.0


@triton.jit
def _corner(corners, corner_n, image, inside, limit):
    corner = tl.load(corners + image * corner_n, mask=inside, other=0)
    return tl.minimum(tl.maximum(corner, 0), limit).to(tl.int32)


@triton.jit
def from_pixels_fwd_kernel(
    x,
    top,
    left,
    flip,
    out,
    x_n,
    x_h,
    x_w,
    x_c,
    top_n,
    left_n,
    flip_n,
    rows,
    height,
    width,
    max_top,
    max_left,
    CHANNELS: tl.constexpr,
    LAST: tl.constexpr,
    PACKED: tl.constexpr,
    HAS_TOP: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_FLIP: tl.constexpr,
    MIRRORED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """`rows` of `height` an image; an element of a row is a byte in channels_last and a pixel of a plane in NCHW.

    PACKED: a row's bytes lie as those of the result.
    """
    values = width * CHANNELS if LAST else width
    blocks = tl.cdiv(values, BLOCK_E)
    row = (tl.program_id(0) // blocks) * BLOCK_R + tl.arange(0, BLOCK_R)
    e = (tl.program_id(0) % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    exists = row < rows
    inside = exists[:, None] & (e < values)[None, :]
    image = (row // height).to(tl.int64)
    y = row % height
    # Offsets have 64 bits; within a row of the result 32 are enough.
    base = x + image * x_n
    if HAS_TOP:
        base += (y + _corner(top, top_n, image, exists, max_top)).to(tl.int64) * x_h
    else:
        base += y.to(tl.int64) * x_h
    if HAS_LEFT:
        base += _corner(left, left_n, image, exists, max_left).to(tl.int64) * x_w
    pixel = e // CHANNELS if LAST else e
    if HAS_FLIP:
        mirrored = tl.load(flip + image * flip_n, mask=exists, other=0) != 0
        column = tl.where(mirrored[:, None], (width - 1 - pixel)[None, :], pixel[None, :])
    elif MIRRORED:
        column = (width - 1 - pixel)[None, :]
    else:
        column = pixel[None, :]
    at = base[:, None] + column.to(tl.int64) * x_w
    if LAST:
        at = base[:, None] + e[None, :] if PACKED else at + (e % CHANNELS).to(tl.int64)[None, :] * x_c
        number = _load_normalized(at, inside)
        to = out + row.to(tl.int64)[:, None] * values + e[None, :]
        tl.store(to, number.to(out.dtype.element_ty), mask=inside)
    else:
        plane = height * width
        to = out + (image * plane * CHANNELS + y * width)[:, None] + e[None, :]
        if CHANNELS <= 4:  # what one channel fetches from memory the next ones find in the cache
            for _ in tl.static_range(CHANNELS):
                tl.store(to, _load_normalized(at, inside).to(out.dtype.element_ty), mask=inside)
                to += plane
                at += x_c
        else:
            for _ in range(CHANNELS):
                tl.store(to, _load_normalized(at, inside).to(out.dtype.element_ty), mask=inside)
                to += plane
                at += x_c


@triton.jit
def to_pixels_fwd_kernel(
    x,
    out,
    x_n,
    x_c,
    x_h,
    x_w,
    rows,
    height,
    width,
    CHANNELS: tl.constexpr,
    PACKED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    values = width * CHANNELS
    blocks = tl.cdiv(values, BLOCK_E)
    row = (tl.program_id(0) // blocks) * BLOCK_R + tl.arange(0, BLOCK_R)
    e = (tl.program_id(0) % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    inside = (row < rows)[:, None] & (e < values)[None, :]
    base = x + (row // height).to(tl.int64) * x_n + (row % height).to(tl.int64) * x_h
    offset = e if PACKED else (e // CHANNELS).to(tl.int64) * x_w + (e % CHANNELS).to(tl.int64) * x_c
    at = base[:, None] + offset[None, :]
    v = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    v = tl.where(v > 2.0, 2.0, tl.where(v < -2.0, -2.0, v))  # or an infinity would be taken from itself
    # 127.5 v rounded once. Written as a product it would be contracted with the sum, and ties fall otherwise.
    scaled = v * 128.0 - v * 0.5
    y = scaled + 127.5
    y = tl.where(y > 0.0, y, 0.0)  # NaN too
    y = tl.where(y < 255.0, y, 255.0)
    level = (y + _WHOLE) - _WHOLE
    to = out + row.to(tl.int64)[:, None] * values + e[None, :]
    tl.store(to, level.to(tl.int32).to(tl.uint8), mask=inside)


def from_pixels(
    x: Tensor,
    dtype: torch.dtype,
    channels_last: bool,
    top: Tensor | None,
    left: Tensor | None,
    height: int,
    width: int,
    flip: Tensor | None,
    mirrored: bool,
) -> Tensor:
    """As `native.from_pixels`."""
    native.check(x, _triton.DTYPES, dtype, height, width, top, left, flip)
    n, h, w, c = x.shape
    out = torch.empty(
        (n, c, height, width), dtype=dtype, device=x.device, memory_format=native.memory_format(channels_last)
    )
    if out.numel() == 0:
        return out
    check_plane(h, w)
    x_n, x_h, x_w, x_c = x.stride()
    if w == 1:  # whose stride says nothing
        x_w = x_h
    limits = h - height, w - width
    whole = top is None and left is None and flip is None and not mirrored and _one_row(x_h, x_w, x)
    if whole:
        height, width = 1, h * w
    rows = n * height
    values = width * c if channels_last else width
    # A mask that is loaded as a number is a byte to every version.
    mask = x if flip is None else flip.view(torch.uint8)
    strides = (0 if tensor is None else tensor.stride(0) for tensor in (top, left, flip))
    corners = (x if tensor is None else tensor for tensor in (top, left))
    _triton.launch(
        from_pixels_fwd_kernel,
        lambda config: (_triton.cdiv(rows, config["BLOCK_R"]) * _triton.cdiv(values, config["BLOCK_E"]),),
        (x, *corners, mask, out, x_n, x_h, x_w, x_c, *strides, rows, height, width, *limits),
        choices=WHOLE if whole else ROWS,
        key=_key(whole, "channels_last" if channels_last else "nchw", values, dtype),
        CHANNELS=c,
        LAST=channels_last,
        PACKED=channels_last and flip is None and not mirrored and _packed(c, x_c, x_w),
        HAS_TOP=top is not None,
        HAS_LEFT=left is not None,
        HAS_FLIP=flip is not None,
        MIRRORED=mirrored,
    )
    return out


def to_pixels(x: Tensor) -> Tensor:
    """As `native.to_pixels`."""
    n, c, h, w = x.shape
    out = torch.empty((n, h, w, c), dtype=torch.uint8, device=x.device)
    check_plane(h, w)
    x_n, x_c, x_h, x_w = x.stride()
    if w == 1:  # whose stride says nothing
        x_w = x_h
    whole = _one_row(x_h, x_w, x)
    height, width = (1, h * w) if whole else (h, w)
    rows, values = n * height, width * c
    _triton.launch(
        to_pixels_fwd_kernel,
        lambda config: (_triton.cdiv(rows, config["BLOCK_R"]) * _triton.cdiv(values, config["BLOCK_E"]),),
        (x, out, x_n, x_c, x_h, x_w, rows, height, width),
        choices=WHOLE if whole else ROWS,
        key=_key(whole, "channels_last" if x_c < x_w else "nchw", values, x.dtype),
        CHANNELS=c,
        PACKED=_packed(c, x_c, x_w),
    )
    return out


def _one_row(x_h: int, x_w: int, x: Tensor) -> bool:
    """Whether an image's rows follow on from one another, and 32 bits number what it has."""
    h, w = (x.shape[1], x.shape[2]) if x.dtype == torch.uint8 else x.shape[2:]
    return (h == 1 or x_h == w * x_w) and x.shape[1:].numel() <= MAX_PIXELS


def _packed(channels: int, channel_stride: int, pixel_stride: int) -> bool:
    return pixel_stride == channels and (channel_stride == 1 or channels == 1)


def _key(whole: bool, layout: str, values: int, dtype: torch.dtype) -> tuple[object, ...]:
    return "whole" if whole else "rows", layout, _triton.next_power_of_2(values), dtype_name(dtype)
