"""An optimizer's update in plain torch, operation by operation as `torch.optim` has them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.optim_step._validation import Update


def optim_step(*given: Any) -> None:
    """`given` as in `_arguments.Update`."""
    u = Update(*given)
    applied = None if u.found_inf is None else u.found_inf.reshape(()) == 0
    dtype = u.param.dtype
    g = u.grad.to(dtype)
    if u.scale is not None:
        g = g * inverse(u.scale).to(dtype)
    # Numbers on the host are Python's, those on the device float64 and without dimensions: neither widens a float32.
    rate = u.lr if u.lr_at is None else u.lr_at.reshape(()).double()
    done: int | Tensor = u.update_number
    if u.step is not None:
        u.step.add_(1 if applied is None else applied.to(u.step.dtype).reshape(u.step.shape))
        done = u.step.reshape(()).double()
    new: list[Tensor]
    if u.kind == "adam":
        mean, square = u.state
        mean = torch.lerp(mean, g, 1 - u.beta1)
        square = (square * u.beta2).addcmul(g, g, value=1 - u.beta2)
        correction1, correction2 = 1 - u.beta1**done, 1 - u.beta2**done
        root2 = correction2.sqrt() if isinstance(correction2, Tensor) else math.sqrt(correction2)
        p = _moved(u.param, mean, rate / correction1, square.sqrt() / root2 + u.eps)
        new = [mean, square]
    elif u.kind == "rmsprop":
        square = (u.state[0] * u.beta2).addcmul(g, g, value=1 - u.beta2)
        divisor = square.sqrt() + u.eps
        if u.beta1 > 0:
            buffer = (u.state[1] * u.beta1).addcdiv(g, divisor)
            p, new = _moved(u.param, buffer, rate), [square, buffer]
        else:
            p, new = _moved(u.param, g, rate, divisor), [square]
    else:
        new = [u.state[0] * u.beta1 + g] if u.beta1 > 0 else []
        p = _moved(u.param, new[0] if new else g, rate)
    if u.weight_clip is not None:
        p = p.clamp(-u.weight_clip, u.weight_clip)
    old = [*u.state, u.param]
    new.append(p)
    if u.ema is not None:
        if u.ema_decay_at is None:
            average = torch.lerp(u.ema, p, 1 - u.ema_decay)
        else:
            average = torch.lerp(u.ema, p, (1 - u.ema_decay_at.reshape(()).double()).to(dtype))
        old.append(u.ema)
        new.append(average)
    for to, value in zip(old, new, strict=True):
        to.copy_(value if applied is None else torch.where(applied, value, to))


def _moved(param: Tensor, by: Tensor, rate: float | Tensor, divisor: Tensor | None = None) -> Tensor:
    if isinstance(rate, Tensor):  # which torch would have to wait for
        return param - (rate * by if divisor is None else rate * by / divisor)
    if divisor is None:
        return param.add(by, alpha=-rate)
    return param.addcdiv(by, divisor, value=-rate)


def check_finite(grad: Tensor, found_inf: Tensor, scale: Tensor | None) -> None:
    g = grad if grad.dtype == torch.float64 else grad.float()
    if scale is not None:
        g = g * inverse(scale).to(g.dtype)
    found = ~g.isfinite().all()
    found_inf.masked_fill_(found.reshape(found_inf.shape), 1)


def inverse(scale: Tensor) -> Tensor:
    """Rounded once, as torch.amp.GradScaler has it."""
    return scale.reshape(()).double().reciprocal().float()
