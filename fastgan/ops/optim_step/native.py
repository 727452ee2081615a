"""An optimizer's update by the extension, on CPU."""

from __future__ import annotations

import math

from torch import Tensor

from fastgan.ops import _native
from fastgan.ops.optim_step import _arguments


def forward(
    param: Tensor,
    grad: Tensor,
    state: list[Tensor],
    kind: str,
    count: int,
    step: Tensor | None,
    lr: float,
    lr_at: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    weight_clip: float | None,
    ema: Tensor | None,
    ema_decay: float,
    ema_decay_at: Tensor | None,
    scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    _arguments.update(param, grad, state, kind, beta1, step, lr_at, ema, ema_decay_at, scale, found_inf)
    if found_inf is not None and found_inf.item() != 0:
        return
    if step is not None:
        count = int(step.item()) + 1
        if count < 1:
            raise ValueError(f"step counts the updates so far: at least 0, got {count - 1}")
        step.add_(1)
    rate = -(lr if lr_at is None else float(lr_at.item()))
    decay = ema_decay if ema_decay_at is None else float(ema_decay_at.item())
    root2 = 1.0
    if kind == "adam":
        rate, root2 = rate / (1 - beta1**count), math.sqrt(1 - beta2**count)
    _native.call(
        "optim_step_forward",
        param.device,
        _native.floats(param),
        *_native.flat(grad),
        _native.floats(state[0] if state else None),
        _native.floats(state[1] if len(state) > 1 else None),
        _native.floats(ema),
        param.numel(),
        _arguments.KINDS.index(kind),
        _inverse(scale),
        1 - beta1,
        beta1,
        beta2,
        1 - beta2,
        eps,
        rate,
        root2,
        -1.0 if weight_clip is None else weight_clip,
        1 - decay,
    )


def check_finite(grad: Tensor, found_inf: Tensor, scale: Tensor | None) -> None:
    _arguments.gradient(grad, None)
    _arguments.number("found_inf", found_inf, grad)
    _arguments.number("scale", scale, grad)
    _native.call(
        "check_finite_forward",
        grad.device,
        *_native.flat(grad),
        grad.numel(),
        _inverse(scale),
        _native.floats(found_inf),
    )


def _inverse(scale: Tensor | None) -> float:
    if scale is None:
        return 1.0
    value = float(scale.item())
    return 1 / value if value != 0 else math.copysign(math.inf, value)
