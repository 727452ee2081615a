"""torch.ops.fastgan.psnr: (N, C, H, W) x 2 to (N,) float32, and its gradients, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.psnr import native

_psnr = define("psnr(Tensor x, Tensor y, float data_range) -> Tensor", native.forward)
_psnr_backward = define(
    "psnr_backward(Tensor grad, Tensor x, Tensor y, Tensor psnr, float data_range, bool needs_x, bool needs_y)"
    " -> (Tensor, Tensor)",
    native.backward,
)


@torch.library.register_fake("fastgan::psnr")
def _(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    return x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.register_fake("fastgan::psnr_backward")
def _(
    grad: Tensor, x: Tensor, y: Tensor, psnr: Tensor, data_range: float, needs_x: bool, needs_y: bool
) -> tuple[Tensor, Tensor]:
    return _native.empty_like(x, needs_x), _native.empty_like(y, needs_y)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, ctx.data_range = inputs
    ctx.save_for_backward(x, y, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs_x, needs_y = ctx.needs_input_grad[:2]
    grad_x, grad_y = _psnr_backward(grad, *ctx.saved_tensors, ctx.data_range, needs_x, needs_y)
    return grad_x if needs_x else None, grad_y if needs_y else None, None


torch.library.register_autograd("fastgan::psnr", _backward, setup_context=_setup)


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    if x.dtype != y.dtype and x.is_cuda:  # the CPU's kernel reads each image in its own dtype
        x, y = x.float(), y.float()
    return _psnr(x, y, data_range)
