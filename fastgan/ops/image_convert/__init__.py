"""Conversion between pictures (uint8, NHWC) and network tensors (NCHW in [-1, 1])."""

import torch
from torch import Tensor

from fastgan.ops import _checks, _native, _triton
from fastgan.ops._registry import FLOATING, Backend, register, select
from fastgan.ops.image_convert import reference, torch_library

# The gradient is zero to any order; only torch.func needs the reference.
register(
    Backend("from_pixels", "reference", reference.from_pixels, dtypes=(torch.uint8, *FLOATING)),
    _native.backend(
        "from_pixels",
        torch_library.native_from_pixels,
        devices=("cpu",),
        dtypes={"cpu": (torch.uint8, *_native.DTYPES["cpu"])},
        gradient_order=2,
    ),
    _triton.backend(
        "from_pixels", torch_library.triton_from_pixels, dtypes=(torch.uint8, *_triton.DTYPES), gradient_order=2
    ),
    preference={"cpu": ("native", "reference")},
)
register(
    Backend("to_pixels", "reference", reference.to_pixels),
    _native.backend("to_pixels", torch_library.native_to_pixels, devices=("cpu",), gradient_order=2),
    _triton.backend("to_pixels", torch_library.triton_to_pixels, gradient_order=2),
    preference={"cpu": ("native", "reference")},
)


def from_pixels(
    x: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
    top: Tensor | int | None = None,
    left: Tensor | int | None = None,
    size: int | tuple[int, int] | None = None,
    flip: Tensor | bool | None = None,
    backend: str | None = None,
) -> Tensor:
    """Pictures to network input: `x / 127.5 - 1`, cut out and mirrored on the way.

    Args:
        x: (N, H, W, C) uint8, any strides.
        dtype: a floating dtype; the arithmetic is float32 or better, rounded once.
        channels_last: memory format of the result.
        top, left: the corner of what is cut out, in pixels: a number, or int64 or int32 (N,) on the device of `x`, one
            for each picture; 0 where not given. Tensors are checked on CPU; on a GPU, where that would wait for it, and
            in compiled code, a corner that does not fit counts as the nearest that does.
        size: of what is cut out, a number or (height, width); None for the whole picture.
        flip: mirrors left to right what was cut out: a bool, or bool (N,) on the device of `x`.

    Returns:
        (N, C, height, width) in [-1, 1]. `to_pixels` gives back every uint8 value exactly, from each of the dtypes.

    Raises:
        TypeError: `x` is not uint8, `dtype` is not floating, or a corner, `size` or `flip` is of a wrong type.
        ValueError: `x` is not four-dimensional, a corner without `size`, or a cut that is not within the pictures.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> picture = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 3)
        >>> ops.from_pixels(picture).flatten()
        tensor([-1.0000,  1.0000, -0.6000])
    """
    _checks.dense("x", x)
    if x.dtype != torch.uint8:
        raise TypeError(f"x must be a uint8 tensor, got {x.dtype}")
    if x.dim() != 4:
        raise ValueError(f"x must be (N, H, W, C), got shape {tuple(x.shape)}")
    if dtype not in FLOATING:
        raise TypeError(f"dtype must be one of {', '.join(map(str, FLOATING))}, got {dtype}")
    height, width = _size(size, top, left, x)
    if isinstance(flip, Tensor):
        _one_an_image("flip", flip, x, (torch.bool,))
    elif flip is None:
        flip = False
    elif not isinstance(flip, bool):
        raise TypeError(f"flip must be a bool or a tensor of them, got {type(flip).__name__}")
    impl = select("from_pixels", x, backend=backend, result=dtype)
    x, top = _corner("top", top, height, x, 1)
    x, left = _corner("left", left, width, x, 2)
    return impl(x, dtype, channels_last, top, left, height, width, flip)


def to_pixels(x: Tensor, *, backend: str | None = None) -> Tensor:
    """Network output to pictures: `(x + 1) * 127.5`, rounded half to even and clamped to 0..255.

    Args:
        x: (N, C, H, W) floating, nominally in [-1, 1]; NaN becomes 0.

    Returns:
        (N, H, W, C) uint8, contiguous.

    Raises:
        TypeError: `x` is not floating.
        ValueError: `x` is not four-dimensional or empty.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> ops.to_pixels(torch.tensor([-1.0, 0.0, 2.0]).reshape(1, 3, 1, 1)).flatten()
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    _checks.nchw("x", x)
    return select("to_pixels", x, backend=backend)(x)


def _size(
    size: int | tuple[int, int] | None, top: Tensor | int | None, left: Tensor | int | None, x: Tensor
) -> tuple[int, int]:
    _, h, w, _ = x.shape
    if size is None:
        if top is not None or left is not None:
            raise ValueError("top and left say where a cut begins: give its size too")
        return h, w
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or any(isinstance(p, bool) or not isinstance(p, (int, torch.SymInt)) for p in pair):
        raise TypeError(f"size must be a whole number of pixels or two of them, (height, width), got {size!r}")
    if not 0 < pair[0] <= h or not 0 < pair[1] <= w:
        raise ValueError(f"size must be 1 to {h} x 1 to {w} for pictures of {h} x {w}, got {size!r}")
    return pair[0], pair[1]


def _corner(name: str, corner: Tensor | int | None, size: int, x: Tensor, dim: int) -> tuple[Tensor, Tensor | None]:
    """`x`, cut at once where the corner is the same for all pictures, and the corners where it is not."""
    limit = x.shape[dim] - size
    if isinstance(corner, Tensor):
        _one_an_image(name, corner, x, (torch.int64, torch.int32))
        if corner.device.type == "cpu" and not torch.compiler.is_compiling():
            outside = [value for value in corner.tolist() if not 0 <= value <= limit]
            if outside:
                raise ValueError(f"{name} must be within 0 and {limit} for this size, got {outside[0]}")
        return x, corner
    if corner is None:
        corner = 0
    if isinstance(corner, bool) or not isinstance(corner, (int, torch.SymInt)):
        raise TypeError(f"{name} must be a whole number of pixels or a tensor of them, got {type(corner).__name__}")
    if not 0 <= corner <= limit:
        raise ValueError(f"{name} must be within 0 and {limit} for this size, got {corner}")
    return x.narrow(dim, corner, size), None


def _one_an_image(name: str, tensor: Tensor, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    _checks.dense(name, tensor, x)
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} must be {' or '.join(map(str, dtypes))}, got {tensor.dtype}")
    if tensor.shape != x.shape[:1]:
        raise ValueError(f"{name} must be ({x.shape[0]},) for this x, got {tuple(tensor.shape)}")
