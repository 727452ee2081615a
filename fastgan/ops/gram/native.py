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
        workspace=lambda module: module.gram_workspace(tuple(x.shape), 1, 1),
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


def gram_style_loss(
    x: Tensor, target: Tensor, rows: int, cols: int, window_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each image, the whole plane's part of it, and what the gradient needs: matrices of each window,
    (N, rows, cols, C (C + 1) / 2), the lower triangles of G - (T + T^T) / 2 with the whole plane's mixed in."""
    _native.check(x)
    _check_windows(x, rows, cols)
    n, c = x.shape[:2]
    target = target.float().contiguous()
    _native.check_numbers("target", target, x, (c, c), (n, c, c))
    out, whole = (x.new_empty(n, dtype=torch.float32) for _ in range(2))
    difference = _native.empty(x, (n, rows, cols, c * (c + 1) // 2), torch.float32)
    _native.call(
        "gram_style_loss_forward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        _native.float32_ptr(target),
        c * c if target.dim() == 3 else 0,
        rows,
        cols,
        window_weight,
        _native.float32_ptr(difference),
        _native.float32_ptr(out),
        _native.float32_ptr(whole),
        workspace=lambda module: module.gram_workspace(tuple(x.shape), rows, cols),
    )
    return out, whole, difference


def gram_style_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, difference: Tensor, rows: int, cols: int, needs_x: bool, needs_target: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and target; empty where not needed."""
    _native.check(x)
    _check_windows(x, rows, cols)
    n, c = x.shape[:2]
    grad = grad.float().contiguous()
    _native.check_numbers("grad", grad, x, (n,))
    _native.check_numbers("difference", difference, x, (n, rows, cols, c * (c + 1) // 2))
    grad_target = target.new_empty(0)
    if needs_target:
        total = _whole_difference(x, difference) + (target.mT - target).float() / 2
        scaled = total * (grad.view(-1, 1, 1) * (-2 / c**2))
        grad_target = (scaled.sum(0) if target.dim() == 2 else scaled).to(target.dtype)
    if not needs_x:
        return x.new_empty(0), grad_target
    grad_x = _native.empty_like(x)
    _native.call(
        "gram_style_loss_backward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        rows,
        cols,
        _native.float32_ptr(difference.contiguous()),
        _native.float32_ptr(grad),
        _native.tensor_arg(grad_x),
        workspace=lambda module: 4 * n * rows * cols * c * c,
    )
    return grad_x, grad_target


def _whole_difference(x: Tensor, difference: Tensor) -> Tensor:
    """(N, C, C): the windows' matrices, each by its share of the plane."""
    n, c, height, width = x.shape
    down, across = (
        difference.new_tensor([((i + 1) * size // count - i * size // count) / size for i in range(count)])
        for size, count in zip((height, width), difference.shape[1:3], strict=True)
    )
    row, column = torch.tril_indices(c, c, device=x.device)
    full = x.new_empty((n, c, c), dtype=torch.float32)
    full[:, row, column] = (difference * (down[:, None] * across)[..., None]).sum((1, 2))
    full[:, column, row] = full[:, row, column]
    return full


def _check_windows(x: Tensor, rows: int, cols: int) -> None:
    if not (1 <= rows <= x.shape[2] and 1 <= cols <= x.shape[3]):
        raise ValueError(f"windows must be 1 to {x.shape[2]} by 1 to {x.shape[3]}, got {rows} by {cols}")
