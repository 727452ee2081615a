"""SSIM by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native


def forward(
    x: Tensor,
    y: Tensor,
    data_range: float,
    window: str,
    window_size: int,
    sigma: float,
    needs_x: bool,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """SSIM of each image and, on CPU, its gradients by x and y in float32; empty where not needed."""
    _check(x, y, window_size)
    out, grad_x, grad_y = empty_outputs(x, y, needs_x, needs_y)
    options = (tuple(x.shape), data_range, window == "gaussian", window_size, sigma)
    grads = (_native.tensor_arg(grad if grad.numel() else None) for grad in (grad_x, grad_y))
    _native.call(
        "ssim_forward",
        x.device,
        _native.tensor_arg(x),
        _native.tensor_arg(y),
        *options,
        _native.float32_ptr(out),
        *(() if x.is_cuda else grads),
        workspace=lambda module: module.ssim_workspace(*options, False),
    )
    return out, grad_x, grad_y


def empty_outputs(x: Tensor, y: Tensor, needs_x: bool, needs_y: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialized tensors for the results of `forward`."""
    gradients = not x.is_cuda
    grad_x = _native.empty_like(x, needs_x and gradients, dtype=torch.float32)
    grad_y = _native.empty_like(y, needs_y and gradients, dtype=torch.float32)
    return x.new_empty(x.shape[0], dtype=torch.float32), grad_x, grad_y


def scale(grad: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of each image's SSIM by the factor of the image."""
    _native.check_numbers("grad", grad.float(), gradient, gradient.shape[:1])
    out = _native.empty_like(gradient, dtype=dtype)
    return torch.mul(gradient, grad.float().view(-1, 1, 1, 1), out=out)


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
    """Gradients of x and y on a GPU; empty where not needed."""
    _check(x, y, window_size)
    grad = grad.float().contiguous()
    _native.check_numbers("grad", grad, x, (x.shape[0],))
    grad_x = _native.empty_like(x, needs_x)
    grad_y = _native.empty_like(y, needs_y)
    options = (tuple(x.shape), data_range, window == "gaussian", window_size, sigma)
    _native.call(
        "ssim_backward",
        x.device,
        _native.tensor_arg(x),
        _native.tensor_arg(y),
        *options,
        _native.float32_ptr(grad),
        _native.tensor_arg(grad_x if needs_x else None),
        _native.tensor_arg(grad_y if needs_y else None),
        workspace=lambda module: module.ssim_workspace(*options, True),
    )
    return grad_x, grad_y


def _check(x: Tensor, y: Tensor, window_size: int) -> None:
    _native.check(x, y)
    if window_size > min(x.shape[2:]) or window_size < 1 or window_size % 2 == 0:
        raise ValueError(f"window_size must be odd and fit {tuple(x.shape[2:])}, got {window_size}")
