"""One update of Adam by fastgan and by torch.optim, with the settings of the benchmark.

The parameters of torch.optim are many tensors, as in a network: views into the flat tensor that fastgan updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan import ops

#: The number of the update.
STEP = 10
LR, BETAS, EPS, EMA_DECAY = 1e-2, (0.5, 0.999), 1e-8, 0.999
#: A network's layers: a weight, and a bias of a 576th part of it (3 x 3 taps of 64 channels).
_LAYERS, _BIAS = 32, 576

Function = Callable[..., Tensor]


def fastgan_adam(inputs: Sequence[Tensor], backend: str | None) -> Tensor:
    """Update parameters, moments and EMA in place; the parameters."""
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


def fastgan_found_inf(grad: Tensor, backend: str | None) -> Tensor:
    found_inf = torch.zeros((), device=grad.device)
    ops.check_finite(grad, found_inf, backend=backend)
    return found_inf


def torch_adam(**options: bool) -> Function:
    """torch.optim.Adam with `foreach` or `fused`; the EMA is a separate foreach call."""
    optimizers: dict[int, tuple[torch.optim.Adam, list[list[Tensor]], Tensor]] = {}

    def run(param: Tensor, grad: Tensor, mean: Tensor, square: Tensor, *ema: Tensor) -> Tensor:
        key = param.data_ptr()
        if key not in optimizers:
            grad32 = grad if grad.dtype == param.dtype else torch.empty_like(param)
            params, grads, means, squares, *emas = (_split(flat) for flat in (param, grad32, mean, square, *ema))
            optimizer = torch.optim.Adam(params, lr=LR, betas=BETAS, eps=EPS, **options)
            for parameter, g, m, v in zip(params, grads, means, squares, strict=True):
                parameter.grad = g
                step = torch.tensor(STEP - 1.0, device=param.device)
                optimizer.state[parameter] = {"step": step, "exp_avg": m, "exp_avg_sq": v}
            optimizers[key] = optimizer, [params, *emas], grad32
        optimizer, (params, *emas), grad32 = optimizers[key]
        if grad32 is not grad:
            grad32.copy_(grad)
        optimizer.step()
        for averages in emas:
            torch._foreach_lerp_(averages, params, 1 - EMA_DECAY)
        return param

    return run


def amp_non_finite_check() -> Function:
    """The check of torch.amp.GradScaler, which also unscales, here by 1."""

    def run(grad: Tensor) -> Tensor:
        found_inf, inv_scale = torch.zeros((), device=grad.device), torch.ones((), device=grad.device)
        torch._amp_foreach_non_finite_check_and_unscale_(_split(grad), found_inf, inv_scale)
        return found_inf

    return run


def _split(flat: Tensor) -> list[Tensor]:
    """Views of alternating weights and biases."""
    weight = max(1, flat.numel() // _LAYERS)
    bias = max(1, weight // _BIAS)
    parts: list[Tensor] = []
    offset = 0
    while offset < flat.numel():
        size = min(bias if len(parts) % 2 else weight, flat.numel() - offset)
        parts.append(flat.detach()[offset : offset + size])
        offset += size
    return parts
