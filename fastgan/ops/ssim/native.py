"""SSIM by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import gradient_like


def forward(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    _check(x, y, window_size)
    out = x.new_empty(x.shape[0], dtype=torch.float32)
    options = (tuple(x.shape), data_range, window == "gaussian", window_size, sigma)
    _native.call(
        "ssim_forward",
        x.device,
        _native.view(x),
        _native.view(y),
        *options,
        _native.floats(out),
        workspace=lambda module: module.ssim_workspace(*options, False),
    )
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    data_range: float,
    window: str,
    window_size: int,
    sigma: float,
    needs_x: bool,
    needs_y: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and y; empty where not needed."""
    _check(x, y, window_size)
    grad = grad.float().contiguous()
    _native.check_numbers("grad", grad, x, (x.shape[0],))
    grad_x = gradient_like(x, needs_x)
    grad_y = gradient_like(y, needs_y)
    options = (tuple(x.shape), data_range, window == "gaussian", window_size, sigma)
    _native.call(
        "ssim_backward",
        x.device,
        _native.view(x),
        _native.view(y),
        *options,
        _native.floats(grad),
        _native.view(grad_x if needs_x else None),
        _native.view(grad_y if needs_y else None),
        workspace=lambda module: module.ssim_workspace(*options, True),
    )
    return grad_x, grad_y


def _check(x: Tensor, y: Tensor, window_size: int) -> None:
    _native.check(x, y)
    if window_size > min(x.shape[2:]) or window_size < 1 or window_size % 2 == 0:
        raise ValueError(f"window_size must be odd and fit {tuple(x.shape[2:])}, got {window_size}")
