"""PSNR by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native


def forward(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    _native.check(x, y)
    out = x.new_empty(x.shape[0], dtype=torch.float32)
    shape = tuple(x.shape)
    _native.call(
        "psnr_forward",
        x.device,
        _native.tensor_arg(x),
        _native.tensor_arg(y),
        shape,
        data_range,
        _native.float32_ptr(out),
        workspace=lambda module: module.psnr_workspace(shape),
    )
    return out


def backward(
    grad: Tensor, x: Tensor, y: Tensor, psnr: Tensor, data_range: float, needs_x: bool, needs_y: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and y; empty where not needed."""
    _native.check(x, y)
    grad = grad.float().contiguous()
    _native.check_numbers("grad", grad, x, (x.shape[0],))
    _native.check_numbers("psnr", psnr, x, (x.shape[0],))
    grad_x = _native.empty_like(x, needs_x)
    grad_y = _native.empty_like(y, needs_y)
    _native.call(
        "psnr_backward",
        x.device,
        _native.tensor_arg(x),
        _native.tensor_arg(y),
        tuple(x.shape),
        data_range,
        _native.float32_ptr(psnr.contiguous()),
        _native.float32_ptr(grad),
        _native.tensor_arg(grad_x if needs_x else None),
        _native.tensor_arg(grad_y if needs_y else None),
    )
    return grad_x, grad_y
