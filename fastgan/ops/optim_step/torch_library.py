"""torch.ops.fastgan.optim_step and check_finite, by the extension and by Triton; schemas declare what is mutated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._library import define
from fastgan.ops.optim_step import native
from fastgan.ops.optim_step._validation import UpdateArgs


def _register(
    prefix: str, forward: Callable[..., None], check: Callable[..., None], devices: tuple[str, ...]
) -> tuple[Callable[..., None], Callable[..., None]]:
    optim_step = define(
        f"{prefix}optim_step(Tensor(a!) param, Tensor grad, Tensor(b!)[] state, str kind, SymInt count,"
        " Tensor(c!)? step, float lr, Tensor? lr_tensor, float beta1, float beta2, float eps, float? weight_clip,"
        " Tensor(d!)? ema, float ema_decay, Tensor? ema_decay_tensor, Tensor? scale, Tensor? found_inf) -> ()",
        forward,
        devices,
    )
    check_finite = define(
        f"{prefix}check_finite(Tensor grad, Tensor(a!) found_inf, Tensor? scale) -> ()", check, devices
    )

    @torch.library.register_fake(f"fastgan::{prefix}optim_step")
    def _(*_: Any) -> None:
        return None

    @torch.library.register_fake(f"fastgan::{prefix}check_finite")
    def _(*_: Any) -> None:
        return None

    def call(*args: Any) -> None:
        u = UpdateArgs(*args)
        optim_step(*u)
        _mark_changed(u.param, *u.state, *(tensor for tensor in (u.step, u.ema) if tensor is not None))

    def call_check(grad: Tensor, found_inf: Tensor, scale: Tensor | None) -> None:
        check_finite(grad, found_inf, scale)
        _mark_changed(found_inf)

    return call, call_check


def _mark_changed(*tensors: Tensor) -> None:
    """Bump version counters, as torch's in-place ops do, so that autograd detects saved tensors that changed."""
    if not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version([tensor for tensor in tensors if not tensor.is_inference()])


native_optim_step, native_check_finite = _register("", native.forward, native.check_finite, ("CPU",))
triton_optim_step, triton_check_finite = _register(
    "triton_",
    _triton.lazy("optim_step", "forward"),
    _triton.lazy("optim_step", "check_finite"),
    ("CPU", "CUDA"),
)
