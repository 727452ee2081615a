"""An optimizer's update in plain torch, operation by operation as `torch.optim` has them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.optim_step._validation import UpdateArgs


def optim_step(*args: Any) -> None:
    """Apply one update; arguments as in `_validation.UpdateArgs`."""
    u = UpdateArgs(*args)
    applied = None if u.found_inf is None else u.found_inf.reshape(()) == 0
    dtype = u.param.dtype
    g = u.grad.to(dtype)
    if u.scale is not None:
        g = g * inverse(u.scale).to(dtype)
    # Host numbers are Python floats, device numbers zero-dimensional float64 tensors: neither promotes a float32.
    rate = u.lr if u.lr_tensor is None else u.lr_tensor.reshape(()).double()
    updates: int | Tensor = u.update_number
    if u.step is not None:
        u.step.add_(1 if applied is None else applied.to(u.step.dtype).reshape(u.step.shape))
        updates = u.step.reshape(()).double()
    new: list[Tensor]
    if u.kind == "adam":
        mean, square = u.state
        mean = torch.lerp(mean, g, 1 - u.beta1)
        square = (square * u.beta2).addcmul(g, g, value=1 - u.beta2)
        correction1, correction2 = 1 - u.beta1**updates, 1 - u.beta2**updates
        root2 = correction2.sqrt() if isinstance(correction2, Tensor) else math.sqrt(correction2)
        p = _apply_update(u.param, mean, rate / correction1, square.sqrt() / root2 + u.eps)
        new = [mean, square]
    elif u.kind == "rmsprop":
        square = (u.state[0] * u.beta2).addcmul(g, g, value=1 - u.beta2)
        divisor = square.sqrt() + u.eps
        if u.beta1 > 0:
            buffer = (u.state[1] * u.beta1).addcdiv(g, divisor)
            p, new = _apply_update(u.param, buffer, rate), [square, buffer]
        else:
            p, new = _apply_update(u.param, g, rate, divisor), [square]
    else:
        new = [u.state[0] * u.beta1 + g] if u.beta1 > 0 else []
        p = _apply_update(u.param, new[0] if new else g, rate)
    if u.weight_clip is not None:
        p = p.clamp(-u.weight_clip, u.weight_clip)
    old = [*u.state, u.param]
    new.append(p)
    if u.ema is not None:
        if u.ema_decay_tensor is None:
            average = torch.lerp(u.ema, p, 1 - u.ema_decay)
        else:
            average = torch.lerp(u.ema, p, (1 - u.ema_decay_tensor.reshape(()).double()).to(dtype))
        old.append(u.ema)
        new.append(average)
    for target, value in zip(old, new, strict=True):
        target.copy_(value if applied is None else torch.where(applied, value, target))


def _apply_update(param: Tensor, direction: Tensor, rate: float | Tensor, divisor: Tensor | None = None) -> Tensor:
    if isinstance(rate, Tensor):  # which torch would have to wait for
        return param - (rate * direction if divisor is None else rate * direction / divisor)
    if divisor is None:
        return param.add(direction, alpha=-rate)
    return param.addcdiv(direction, divisor, value=-rate)


def check_finite(grad: Tensor, found_inf: Tensor, scale: Tensor | None) -> None:
    g = grad if grad.dtype == torch.float64 else grad.float()
    if scale is not None:
        g = g * inverse(scale).to(g.dtype)
    overflow = ~g.isfinite().all()
    found_inf.masked_fill_(overflow.reshape(found_inf.shape), 1)


def inverse(scale: Tensor) -> Tensor:
    """The reciprocal, rounded once as in torch.amp.GradScaler."""
    return scale.reshape(()).double().reciprocal().float()
