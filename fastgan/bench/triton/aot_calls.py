"""Calls that launch every Triton kernel of an op in every form that training and stylizing use.

Tensors are uninitialized, and recorded launches do not touch them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan import ops
from fastgan.ops import _triton

Call = Callable[[], object]

_LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _features() -> Iterator[Tensor]:
    """Planes that fit one program, larger planes, odd sizes. bfloat16 and float16 load alike."""
    for layout in _LAYOUTS:
        yield _empty(4, 64, 64, 64, memory_format=layout)
        yield _empty(4, 64, 64, 64, dtype=torch.bfloat16, memory_format=layout)
        yield _empty(2, 32, 256, 256, dtype=torch.bfloat16, memory_format=layout)
    yield _empty(2, 3, 37, 53, dtype=torch.float16)


def _empty(*shape: int, **options: Any) -> Tensor:
    return torch.empty(shape, requires_grad=True, **options)


def _call(op: Callable[..., Tensor], *inputs: Tensor | None, **options: Any) -> Call:
    """A call of value and gradients on Triton."""

    def run() -> None:
        output = op(*inputs, **options, backend="triton")
        torch.autograd.grad(output, [tensor for tensor in inputs if tensor is not None], torch.empty_like(output))

    return run


def _bias_act() -> Iterator[Call]:
    for x in _features():
        yield _call(ops.bias_act, x, _empty(x.shape[1]), activation="leaky_relu")
    for activation in (None, "relu", "tanh"):
        yield _call(ops.bias_act, _empty(4, 64, 64, 64), activation=activation, clamp=1.0)


def _instance_norm() -> Iterator[Call]:
    for x in _features():
        c = x.shape[1]
        yield _call(ops.instance_norm, x, _empty(c), _empty(c), activation="relu")
    for layout in _LAYOUTS:
        x, residual = (_empty(4, 64, 64, 64, dtype=torch.bfloat16, memory_format=layout) for _ in range(2))
        yield _call(ops.instance_norm, x, _empty(4, 64), _empty(4, 64), residual)
        yield _call(ops.instance_norm, x, activation="leaky_relu")


def _fuse() -> Iterator[Call]:
    for content in _features():
        style = torch.empty_like(content).requires_grad_()
        for mode in ("adain", "convex", "additive"):
            yield _call(_fused, content, style, _empty(content.shape[0]), mode=mode)


def _fused(content: Tensor, style: Tensor, alpha: Tensor, *, mode: str, backend: str) -> Tensor:
    return ops.fuse(content, style, mode=mode, alpha=alpha, backend=backend)


def _logits() -> Iterator[Tensor]:
    for side, dtype in ((30, torch.float32), (30, torch.bfloat16), (256, torch.float32)):
        yield _empty(4, 1, side, side, dtype=dtype)


def _discriminator_loss() -> Iterator[Call]:
    for logits in _logits():
        for kind in ("bce", "hinge", "lsgan", "wgan"):
            fake = torch.empty_like(logits).requires_grad_()
            yield _call(ops.discriminator_loss, logits, fake, kind=kind, temperature=1.5)


def _generator_loss() -> Iterator[Call]:
    for logits in _logits():
        for kind in ("bce", "hinge", "lsgan", "wgan"):
            yield _call(ops.generator_loss, logits, kind=kind, temperature=1.5)


def _from_pixels() -> Iterator[Call]:
    x, where = torch.empty(4, 300, 400, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    cut = {"top": where, "left": where, "size": 256, "flip": torch.empty(4, dtype=torch.bool)}
    for dtype in (torch.float32, torch.bfloat16):
        for channels_last in (False, True):
            for options in ({}, cut):
                yield lambda d=dtype, last=channels_last, o=options: ops.from_pixels(  # type: ignore[misc]
                    x, dtype=d, channels_last=last, backend="triton", **o
                )


def _to_pixels() -> Iterator[Call]:
    for dtype in (torch.float32, torch.bfloat16):
        for layout in _LAYOUTS:
            x = torch.empty((4, 3, 250, 256), dtype=dtype, memory_format=layout)
            yield lambda x=x: ops.to_pixels(x, backend="triton")  # type: ignore[misc]


def _optim_step() -> Iterator[Call]:
    numbers: dict[str, Any] = {name: torch.empty(()) for name in ("scale", "found_inf", "step", "lr")}
    for kind, states in (("adam", 2), ("rmsprop", 2), ("sgd", 1), ("sgd", 0)):
        for dtype in (torch.float32, torch.bfloat16):
            flat = [torch.empty(1 << 20) for _ in range(states + 2)]
            grad = torch.empty(1 << 20, dtype=dtype)
            options = {"kind": kind, "beta1": 0.5 if states else 0.0, "beta2": 0.9, "backend": "triton"}
            yield (
                lambda f=flat, g=grad, o=options: ops.optim_step(  # type: ignore[misc]
                    f[0], g, tuple(f[2:]), ema=f[1], ema_decay=0.99, weight_clip=0.01, **numbers, **o
                )
            )
        yield lambda f=flat, o=options: ops.optim_step(f[0], f[1], tuple(f[2:]), step=3, lr=1e-3, **o)  # type: ignore[misc]


def _check_finite() -> Iterator[Call]:
    for dtype in _triton.DTYPES:
        grad = torch.empty(1 << 20, dtype=dtype)
        yield lambda g=grad: ops.check_finite(g, torch.empty(()), torch.empty(()), backend="triton")  # type: ignore[misc]


#: Calls by op.
CALLS: dict[str, Callable[[], Iterator[Call]]] = {
    "bias_act": _bias_act,
    "check_finite": _check_finite,
    "discriminator_loss": _discriminator_loss,
    "from_pixels": _from_pixels,
    "fuse": _fuse,
    "generator_loss": _generator_loss,
    "instance_norm": _instance_norm,
    "optim_step": _optim_step,
    "to_pixels": _to_pixels,
}
