"""torch.ops.fastgan.ssim: (N, C, H, W) x 2 to (N,) float32, and its gradients, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._library import define, gradient_like
from fastgan.ops.ssim import native

_ssim = define(
    "ssim(Tensor x, Tensor y, float data_range, str window, int window_size, float sigma) -> Tensor", native.forward
)
_ssim_backward = define(
    "ssim_backward(Tensor grad, Tensor x, Tensor y, float data_range, str window, int window_size, float sigma,"
    " bool needs_x, bool needs_y) -> (Tensor, Tensor)",
    native.backward,
)


@torch.library.register_fake("fastgan::ssim")
def _(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    return x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.register_fake("fastgan::ssim_backward")
def _(
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
    return gradient_like(x, needs_x), gradient_like(y, needs_y)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, *ctx.options = inputs
    ctx.save_for_backward(x, y)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs_x, needs_y = ctx.needs_input_grad[:2]
    grad_x, grad_y = _ssim_backward(grad, *ctx.saved_tensors, *ctx.options, needs_x, needs_y)
    return grad_x if needs_x else None, grad_y if needs_y else None, None, None, None, None


torch.library.register_autograd("fastgan::ssim", _backward, setup_context=_setup)


def ssim(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    if x.dtype != y.dtype and x.is_cuda:  # the CPU's kernel reads each image in its own dtype
        x, y = x.float(), y.float()
    return _ssim(x, y, data_range, window, window_size, sigma)
