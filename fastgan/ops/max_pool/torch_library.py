"""torch.ops.fastgan.max_pool, differentiable once, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.max_pool import native

max_pool = define("max_pool(Tensor x) -> Tensor", native.forward, ("CPU",))
max_pool_backward = define("max_pool_backward(Tensor grad, Tensor x, Tensor out) -> Tensor", native.backward, ("CPU",))


@torch.library.register_fake("fastgan::max_pool")
def _(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return _native.empty(x, (n, c, h // 2, w // 2), x.dtype, torch.channels_last)


@torch.library.register_fake("fastgan::max_pool_backward")
def _(grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
    return _native.empty(x, x.shape, x.dtype, torch.channels_last)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs, output)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return max_pool_backward(grad, *ctx.saved_tensors)


torch.library.register_autograd("fastgan::max_pool", _backward, setup_context=_setup)


def native_max_pool(x: Tensor) -> Tensor:
    return max_pool(x.contiguous(memory_format=torch.channels_last))
