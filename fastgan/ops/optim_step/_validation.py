"""Validation of both functions' tensors. The backends repeat it: their registered ops can be called directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops import _checks

KINDS = ("adam", "rmsprop", "sgd")
GRAD_DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
RATE_DTYPES = (torch.float32, torch.float64)


def state_names(kind: str, beta1: float) -> tuple[str, ...]:
    """The names, as in torch.optim, of the state tensors of an optimizer kind."""
    momentum = ("momentum_buffer",) if beta1 > 0 else ()
    return {"adam": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg", *momentum), "sgd": momentum}[kind]


def check_flat(name: str, tensor: Tensor) -> None:
    _checks.floating(name, tensor)
    if tensor.dim() != 1 or tensor.numel() == 0 or not tensor.is_contiguous():
        raise ValueError(
            f"{name} must be one-dimensional, contiguous and not empty, "
            f"got shape {tuple(tensor.shape)} with strides {tensor.stride()}"
        )


def check_grad(grad: Tensor, dtype: torch.dtype | None) -> None:
    """Check the gradient; float64 is supported by the reference alone, with a float64 parameter."""
    check_flat("grad", grad)
    allowed = (torch.float64,) if dtype == torch.float64 else GRAD_DTYPES
    if dtype is None:
        allowed = (*GRAD_DTYPES, torch.float64)
    if grad.dtype not in allowed:
        raise TypeError(f"grad must be {' or '.join(map(str, allowed))}, got {grad.dtype}")


def check_scalar(
    name: str, tensor: Tensor | None, like: Tensor, dtypes: Sequence[torch.dtype] = (torch.float32,)
) -> None:
    """Check a one-element tensor on the device of `like`; None passes."""
    if tensor is None:
        return
    _checks.dense(name, tensor, like)
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} must be {' or '.join(map(str, dtypes))}, got {tensor.dtype}")
    if tensor.numel() != 1:
        raise ValueError(f"{name} must have one element, got shape {tuple(tensor.shape)}")


def check_numbers(step: int, lr: float, beta1: float, beta2: float, eps: float, weight_clip: float | None) -> None:
    """Check the numbers of an update; a weight clip of None passes."""
    if isinstance(step, bool) or not isinstance(step, (int, torch.SymInt)) or step < 1:
        raise ValueError(f"step must be a whole number from 1 on, or a tensor, got {step!r}")
    _checks.slope("lr", lr)
    _checks.slope("eps", eps)
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        _checks.slope(name, value)
        if value >= 1:
            raise ValueError(f"{name} must be from 0 to below 1, got {value!r}")
    if weight_clip is not None:
        _checks.positive("weight_clip", weight_clip)


class UpdateArgs(NamedTuple):
    """Arguments of the registered ops: a tensor `step`, `lr_tensor` or `ema_decay_tensor` replaces the number."""

    param: Tensor
    grad: Tensor
    state: Sequence[Tensor]
    kind: str
    update_number: int
    step: Tensor | None
    lr: float
    lr_tensor: Tensor | None
    beta1: float
    beta2: float
    eps: float
    weight_clip: float | None
    ema: Tensor | None
    ema_decay: float
    ema_decay_tensor: Tensor | None
    scale: Tensor | None
    found_inf: Tensor | None

    @classmethod
    def from_call(
        cls,
        param: Tensor,
        grad: Tensor,
        state: tuple[Tensor, ...],
        kind: str,
        step: int | Tensor,
        lr: float | Tensor,
        beta1: float,
        beta2: float,
        eps: float,
        weight_clip: float | None,
        ema: Tensor | None,
        ema_decay: float | Tensor | None,
        scale: Tensor | None,
        found_inf: Tensor | None,
    ) -> UpdateArgs:
        """The arguments of `fastgan.ops.optim_step`, their numbers checked and apart from the tensors."""
        count, counter = (0, step) if isinstance(step, Tensor) else (step, None)
        rate, lr_tensor = (0.0, lr) if isinstance(lr, Tensor) else (lr, None)
        decay, ema_decay_tensor = (0.0, ema_decay) if isinstance(ema_decay, Tensor) else (ema_decay, None)
        check_numbers(count if counter is None else 1, rate, beta1, beta2, eps, weight_clip)
        if (ema is None) != (ema_decay is None):
            raise ValueError("ema and ema_decay are given together")
        if decay is None:
            decay = 0.0
        _checks.slope("ema_decay", decay)
        if decay > 1:
            raise ValueError(f"ema_decay must be from 0 to 1, got {decay!r}")
        return cls(
            param,
            grad,
            state,
            kind,
            count,
            counter,
            float(rate),
            lr_tensor,
            float(beta1),
            float(beta2),
            float(eps),
            None if weight_clip is None else float(weight_clip),
            ema,
            float(decay),
            ema_decay_tensor,
            scale,
            found_inf,
        )

    def check(self) -> None:
        """Raises TypeError or ValueError unless every tensor can be read and written as it is."""
        param, state = self.param, self.state
        check_flat("param", param)
        if param.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"param must be torch.float32, got {param.dtype}; keep the weights of the update in it")
        check_grad(self.grad, param.dtype)
        _checks.one_of("kind", self.kind, KINDS)
        names = state_names(self.kind, self.beta1)
        if not isinstance(state, (tuple, list)):
            raise TypeError(f"state must be a tuple of tensors, got {type(state).__name__}")
        if len(state) != len(names):
            expected = ", ".join(names) or "nothing"
            raise ValueError(
                f"the state of {self.kind} with beta1={self.beta1:g} must be ({expected}), got {len(state)} tensors"
            )
        for name, tensor in [*zip(names, state, strict=True), *([] if self.ema is None else [("ema", self.ema)])]:
            check_flat(name, tensor)
            if tensor.dtype != param.dtype:
                raise TypeError(f"{name} must be {param.dtype} as param is, got {tensor.dtype}")
            _check_like(name, tensor, param)
        _check_like("grad", self.grad, param)
        check_scalar("step", self.step, param, (torch.float32, torch.int64))
        check_scalar("lr", self.lr_tensor, param, RATE_DTYPES)
        check_scalar("ema_decay", self.ema_decay_tensor, param, RATE_DTYPES)
        check_scalar("scale", self.scale, param)
        check_scalar("found_inf", self.found_inf, param)


def _check_like(name: str, tensor: Tensor, param: Tensor) -> None:
    if tensor.shape != param.shape or tensor.device != param.device:
        raise ValueError(
            f"{name} must have the {param.numel()} elements of param, on {param.device}, "
            f"got {tensor.numel()} on {tensor.device}"
        )
