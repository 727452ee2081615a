"""An optimizer's update by the extension, on CPU."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from fastgan.ops import _native
from fastgan.ops.optim_step import _validation


def forward(*args: Any) -> None:
    """Apply one update; arguments as in `_validation.UpdateArgs`."""
    u = _validation.UpdateArgs(*args)
    u.check()
    if u.found_inf is not None and u.found_inf.item() != 0:
        return
    count = u.update_number
    if u.step is not None:
        count = int(u.step.item()) + 1
        if count < 1:
            raise ValueError(f"step counts the updates so far: at least 0, got {count - 1}")
        u.step.add_(1)
    rate = -(u.lr if u.lr_tensor is None else float(u.lr_tensor.item()))
    decay = u.ema_decay if u.ema_decay_tensor is None else float(u.ema_decay_tensor.item())
    root2 = 1.0
    if u.kind == "adam":
        rate, root2 = rate / (1 - u.beta1**count), math.sqrt(1 - u.beta2**count)
    _native.call(
        "optim_step_forward",
        u.param.device,
        _native.float32_ptr(u.param),
        *_native.flat_arg(u.grad),
        _native.float32_ptr(u.state[0] if u.state else None),
        _native.float32_ptr(u.state[1] if len(u.state) > 1 else None),
        _native.float32_ptr(u.ema),
        u.param.numel(),
        _validation.KINDS.index(u.kind),
        _inverse(u.scale),
        1 - u.beta1,
        u.beta1,
        u.beta2,
        1 - u.beta2,
        u.eps,
        rate,
        root2,
        -1.0 if u.weight_clip is None else u.weight_clip,
        1 - decay,
    )


def check_finite(grad: Tensor, found_inf: Tensor, scale: Tensor | None) -> None:
    _validation.check_grad(grad, None)
    _validation.check_scalar("found_inf", found_inf, grad)
    _validation.check_scalar("scale", scale, grad)
    _native.call(
        "check_finite_forward",
        grad.device,
        *_native.flat_arg(grad),
        grad.numel(),
        _inverse(scale),
        _native.float32_ptr(found_inf),
    )


def _inverse(scale: Tensor | None) -> float:
    if scale is None:
        return 1.0
    value = float(scale.item())
    return 1 / value if value != 0 else math.copysign(math.inf, value)
