"""One update of Adam as the cases have it, by fastgan and by torch.optim.

torch.optim's parameters are many tensors, as of a network, that lie in the memory of the one that fastgan takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan import ops

#: The updates so far, and this one.
STEP = 10
LR, BETAS, EPS, EMA_DECAY = 1e-2, (0.5, 0.999), 1e-8, 0.999
#: A network's layers: a weight, and a bias of a 576th part of it (3 x 3 taps of 64 channels).
_LAYERS, _BIAS = 32, 576

Function = Callable[..., Tensor]


def ours(inputs: Sequence[Tensor], backend: str | None) -> Tensor:
    """The parameters, changed in place as the moments and the EMA are."""
    param, grad, mean, square, *rest = inputs
    ops.optim_step(
        param,
        grad,
        (mean, square),
        step=STEP,
        lr=LR,
        beta1=BETAS[0],
        beta2=BETAS[1],
        eps=EPS,
        ema=rest[0] if rest else None,
        ema_decay=EMA_DECAY if rest else None,
        backend=backend,
    )
    return param


def found_inf(grad: Tensor, backend: str | None) -> Tensor:
    found = torch.zeros((), device=grad.device)
    ops.check_finite(grad, found, backend=backend)
    return found


def adam(**options: bool) -> Function:
    """torch.optim.Adam with `foreach` or `fused`; the EMA is a foreach call of its own."""
    made: dict[int, tuple[torch.optim.Adam, list[list[Tensor]], Tensor]] = {}

    def run(param: Tensor, grad: Tensor, mean: Tensor, square: Tensor, *ema: Tensor) -> Tensor:
        key = param.data_ptr()
        if key not in made:
            wide = grad if grad.dtype == param.dtype else torch.empty_like(param)
            params, grads, means, squares, *emas = (_split(flat) for flat in (param, wide, mean, square, *ema))
            optimizer = torch.optim.Adam(params, lr=LR, betas=BETAS, eps=EPS, **options)
            for each, g, m, v in zip(params, grads, means, squares, strict=True):
                each.grad = g
                step = torch.tensor(STEP - 1.0, device=param.device)
                optimizer.state[each] = {"step": step, "exp_avg": m, "exp_avg_sq": v}
            made[key] = optimizer, [params, *emas], wide
        optimizer, (params, *emas), wide = made[key]
        if wide is not grad:
            wide.copy_(grad)
        optimizer.step()
        for averages in emas:
            torch._foreach_lerp_(averages, params, 1 - EMA_DECAY)
        return param

    return run


def non_finite_check() -> Function:
    """What torch.amp.GradScaler runs: it unscales as well, here by 1."""

    def run(grad: Tensor) -> Tensor:
        found, one = torch.zeros((), device=grad.device), torch.ones((), device=grad.device)
        torch._amp_foreach_non_finite_check_and_unscale_(_split(grad), found, one)
        return found

    return run


def _split(flat: Tensor) -> list[Tensor]:
    """Views: weights and biases in turns."""
    weight = max(1, flat.numel() // _LAYERS)
    bias = max(1, weight // _BIAS)
    parts: list[Tensor] = []
    at = 0
    while at < flat.numel():
        size = min(bias if len(parts) % 2 else weight, flat.numel() - at)
        parts.append(flat.detach()[at : at + size])
        at += size
    return parts
