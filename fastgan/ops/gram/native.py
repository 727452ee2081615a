"""Gram matrices and the style loss by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native


def gram(x: Tensor) -> Tensor:
    _native.check(x)
    n, c, h, w = x.shape
    out = x.new_empty((n, c, c), dtype=torch.float32)
    _native.call(
        "gram_forward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        1 / (c * h * w),
        _native.float32_ptr(out),
        workspace=lambda module: module.gram_workspace(tuple(x.shape)),
    )
    return out


def gram_backward(grad: Tensor, x: Tensor) -> Tensor:
    """(dG + dG^T) F / (C H W)."""
    _native.check(x)
    n, c, h, w = x.shape
    matrix = ((grad + grad.mT) / (c * h * w)).float().contiguous()
    _native.check_numbers("grad", matrix, x, (n, c, c))
    grad_x = _native.empty_like(x)
    _native.call(
        "gram_backward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        _native.float32_ptr(matrix),
        _native.tensor_arg(grad_x),
    )
    return grad_x


def gram_style_loss(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each image, and Gram matrices less the target, which the gradient needs."""
    _native.check(x)
    n, c = x.shape[:2]
    target = target.float().contiguous()
    _native.check_numbers("target", target, x, (c, c), (n, c, c))
    out = x.new_empty(n, dtype=torch.float32)
    difference = x.new_empty((n, c, c), dtype=torch.float32)
    _native.call(
        "gram_style_loss_forward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        _native.float32_ptr(target),
        c * c if target.dim() == 3 else 0,
        _native.float32_ptr(difference),
        _native.float32_ptr(out),
        workspace=lambda module: module.gram_workspace(tuple(x.shape)),
    )
    return out, difference


def gram_style_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, difference: Tensor, needs_x: bool, needs_target: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and target; empty where not needed."""
    _native.check(x)
    n, c = x.shape[:2]
    grad = grad.float().contiguous()
    _native.check_numbers("grad", grad, x, (n,))
    _native.check_numbers("difference", difference, x, (n, c, c))
    grad_target = target.new_empty(0)
    if needs_target:
        scaled = difference * (grad.view(-1, 1, 1) * (-2 / c**2))
        grad_target = (scaled.sum(0) if target.dim() == 2 else scaled).to(target.dtype)
    if not needs_x:
        return x.new_empty(0), grad_target
    grad_x = _native.empty_like(x)
    _native.call(
        "gram_style_loss_backward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        _native.float32_ptr(difference.contiguous()),
        _native.float32_ptr(grad),
        _native.tensor_arg(grad_x),
        workspace=lambda module: 4 * n * c * c,
    )
    return grad_x, grad_target
