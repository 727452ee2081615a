"""An optimizer's update in plain torch, operation by operation as `torch.optim` has them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def optim_step(
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
    applied = None if found_inf is None else found_inf.reshape(()) == 0
    dtype = param.dtype
    g = grad.to(dtype)
    if scale is not None:
        g = g * inverse(scale).to(dtype)
    # Numbers on the host are Python's, those on the device float64 and without dimensions: neither widens a float32.
    rate = lr if lr_at is None else lr_at.reshape(()).double()
    done: int | Tensor = count
    if step is not None:
        step.add_(1 if applied is None else applied.to(step.dtype).reshape(step.shape))
        done = step.reshape(()).double()
    new: list[Tensor]
    if kind == "adam":
        mean, square = state
        mean = torch.lerp(mean, g, 1 - beta1)
        square = (square * beta2).addcmul(g, g, value=1 - beta2)
        correction1, correction2 = 1 - beta1**done, 1 - beta2**done
        root2 = correction2.sqrt() if isinstance(correction2, Tensor) else math.sqrt(correction2)
        p = _moved(param, mean, rate / correction1, square.sqrt() / root2 + eps)
        new = [mean, square]
    elif kind == "rmsprop":
        square = (state[0] * beta2).addcmul(g, g, value=1 - beta2)
        divisor = square.sqrt() + eps
        if beta1 > 0:
            buffer = (state[1] * beta1).addcdiv(g, divisor)
            p, new = _moved(param, buffer, rate), [square, buffer]
        else:
            p, new = _moved(param, g, rate, divisor), [square]
    else:
        new = [state[0] * beta1 + g] if beta1 > 0 else []
        p = _moved(param, new[0] if new else g, rate)
    if weight_clip is not None:
        p = p.clamp(-weight_clip, weight_clip)
    old = [*state, param]
    new.append(p)
    if ema is not None:
        if ema_decay_at is None:
            average = torch.lerp(ema, p, 1 - ema_decay)
        else:
            average = torch.lerp(ema, p, (1 - ema_decay_at.reshape(()).double()).to(dtype))
        old.append(ema)
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
