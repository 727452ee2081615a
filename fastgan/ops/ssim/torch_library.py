"""torch.ops.fastgan.ssim: (N, C, H, W) x 2 to (N,) float32, and its gradients, by the extension.

On CPU the forward makes the gradients of each image's SSIM in the same pass, since a backward would repeat most of it,
and the backward scales them. On a GPU the backward starts from the images again and keeps nothing.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define, refuse
from fastgan.ops.ssim import native

_ssim = define(
    "ssim(Tensor x, Tensor y, float data_range, str window, int window_size, float sigma, bool needs_x, bool needs_y)"
    " -> (Tensor, Tensor, Tensor)",
    native.forward,
)
_ssim_scale_backward = define(
    "ssim_scale_backward(Tensor grad, Tensor gradient, ScalarType dtype) -> Tensor", native.scale
)
_ssim_backward = define(
    "ssim_backward(Tensor grad, Tensor x, Tensor y, float data_range, str window, int window_size, float sigma,"
    " bool needs_x, bool needs_y) -> (Tensor, Tensor)",
    native.backward,
    devices=("CUDA",),
)


@torch.library.register_fake("fastgan::ssim")
def _(
    x: Tensor,
    y: Tensor,
    data_range: float,
    window: str,
    window_size: int,
    sigma: float,
    needs_x: bool,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return native.empty_outputs(x, y, needs_x, needs_y)


@torch.library.register_fake("fastgan::ssim_scale_backward")
def _(grad: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    return _native.empty_like(gradient, dtype=dtype)


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
    return _native.empty_like(x, needs_x), _native.empty_like(y, needs_y)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, *options, _, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.options, ctx.dtypes = options, (x.dtype, y.dtype)
    if x.is_cuda:
        ctx.save_for_backward(x, y)
    else:
        ctx.save_for_backward(*output[1:])


def _backward(ctx: Any, grad: Tensor | None, *of_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    if any(gradient is not None for gradient in of_gradients):
        refuse()
    grads: tuple[Tensor | None, ...] = (None, None)
    needed = ctx.needs_input_grad[:2]
    if grad is not None and ctx.saved_tensors[0].is_cuda:
        grads = _ssim_backward(grad, *ctx.saved_tensors, *ctx.options, *needed)
    elif grad is not None:
        if any(needs and not gradient.numel() for needs, gradient in zip(needed, ctx.saved_tensors, strict=True)):
            raise RuntimeError("ssim was called with needs_x or needs_y False, and its gradient is asked for")
        grads = tuple(
            _ssim_scale_backward(grad, gradient, dtype) if needs else None
            for gradient, dtype, needs in zip(ctx.saved_tensors, ctx.dtypes, needed, strict=True)
        )
    grads = tuple(gradient if needs else None for gradient, needs in zip(grads, needed, strict=True))
    return *grads, *(None for _ in range(6))


torch.library.register_autograd("fastgan::ssim", _backward, setup_context=_setup)


def ssim(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    if x.dtype != y.dtype and x.is_cuda:  # the CPU's kernel reads each image in its own dtype
        x, y = x.float(), y.float()
    needs = (torch.is_grad_enabled() and image.requires_grad for image in (x, y))
    return _ssim(x, y, data_range, window, window_size, sigma, *needs)[0]
