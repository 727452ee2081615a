"""torch.ops.fastgan.triton_discriminator_loss and triton_generator_loss: the losses, and beside them their gradients.

The gradients are kept in float32 until the backward has scaled them: a logit's is as small as one over their number,
and in float16 it would be lost before a loss scaler's factor could lift it.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._library import define, refuse

_discriminator_loss = define(
    "triton_discriminator_loss(Tensor real, Tensor fake, str kind, float temperature, float real_label,"
    " float fake_label, bool needs_real, bool needs_fake) -> (Tensor, Tensor, Tensor)",
    _triton.lazy("gan_loss", "discriminator_loss"),
)
_discriminator_loss_backward = define(
    "triton_discriminator_loss_backward(Tensor grad, Tensor of_real, Tensor of_fake, ScalarType real_dtype,"
    " ScalarType fake_dtype) -> (Tensor, Tensor)",
    _triton.lazy("gan_loss", "discriminator_loss_backward"),
)
_generator_loss = define(
    "triton_generator_loss(Tensor fake, str kind, float temperature, bool needs_fake) -> (Tensor, Tensor)",
    _triton.lazy("gan_loss", "generator_loss"),
)
_generator_loss_backward = define(
    "triton_generator_loss_backward(Tensor grad, Tensor of_fake, ScalarType dtype) -> Tensor",
    _triton.lazy("gan_loss", "generator_loss_backward"),
)


def _loss(logits: Tensor) -> Tensor:
    return logits.new_empty((), dtype=torch.float32)


def _gradient(logits: Tensor, needed: bool) -> Tensor:
    return logits.new_empty(logits.shape if needed else 0, dtype=torch.float32)


@torch.library.register_fake("fastgan::triton_discriminator_loss")
def _(real: Tensor, fake: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, needs_real, needs_fake = options
    return _loss(real), _gradient(real, needs_real), _gradient(fake, needs_fake)


@torch.library.register_fake("fastgan::triton_discriminator_loss_backward")
def _(
    grad: Tensor, of_real: Tensor, of_fake: Tensor, real_dtype: torch.dtype, fake_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(of_real, dtype=real_dtype), torch.empty_like(of_fake, dtype=fake_dtype)


@torch.library.register_fake("fastgan::triton_generator_loss")
def _(fake: Tensor, kind: str, temperature: float, needs_fake: bool) -> tuple[Tensor, Tensor]:
    return _loss(fake), _gradient(fake, needs_fake)


@torch.library.register_fake("fastgan::triton_generator_loss_backward")
def _(grad: Tensor, of_fake: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(of_fake, dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
    ctx.set_materialize_grads(False)
    ctx.dtypes = [tensor.dtype for tensor in logits]
    ctx.needed = inputs[-len(logits) :]
    ctx.save_for_backward(*output[1:])


def _discriminator_backward(ctx: Any, grad: Tensor | None, *of_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    if any(gradient is not None for gradient in of_gradients):
        refuse()
    grads: tuple[Tensor | None, ...] = (None, None)
    if grad is not None:
        grads = _discriminator_loss_backward(grad, *ctx.saved_tensors, *ctx.dtypes)
    grads = tuple(gradient if needs else None for gradient, needs in zip(grads, ctx.needed, strict=True))
    return *grads, *(None for _ in range(6))


def _generator_backward(ctx: Any, grad: Tensor | None, of_gradient: Tensor | None) -> tuple[Tensor | None, ...]:
    if of_gradient is not None:
        refuse()
    needed = grad is not None and ctx.needed[0]
    return _generator_loss_backward(grad, *ctx.saved_tensors, *ctx.dtypes) if needed else None, None, None, None


torch.library.register_autograd("fastgan::triton_discriminator_loss", _discriminator_backward, setup_context=_setup)
torch.library.register_autograd("fastgan::triton_generator_loss", _generator_backward, setup_context=_setup)


def _needs(logits: Tensor) -> bool:
    return torch.is_grad_enabled() and logits.requires_grad


def discriminator_loss(
    real: Tensor, fake: Tensor, kind: str, temperature: float, real_label: float, fake_label: float
) -> Tensor:
    needs = _needs(real), _needs(fake)
    return _discriminator_loss(real, fake, kind, temperature, real_label, fake_label, *needs)[0]


def generator_loss(fake: Tensor, kind: str, temperature: float) -> Tensor:
    return _generator_loss(fake, kind, temperature, _needs(fake))[0]
