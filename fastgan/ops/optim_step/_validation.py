"""What both functions ask of their tensors. The backends ask again: their registered ops can be called directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops import _checks

KINDS = ("adam", "rmsprop", "sgd")
GRADIENTS: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
RATES = (torch.float32, torch.float64)


def states(kind: str, beta1: float) -> tuple[str, ...]:
    """The names, as torch.optim has them, of the tensors that a kind keeps."""
    momentum = ("momentum_buffer",) if beta1 > 0 else ()
    return {"adam": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg", *momentum), "sgd": momentum}[kind]


def flat(name: str, tensor: Tensor) -> None:
    _checks.floating(name, tensor)
    if tensor.dim() != 1 or tensor.numel() == 0 or not tensor.is_contiguous():
        raise ValueError(
            f"{name} must be one-dimensional, contiguous and not empty, "
            f"got shape {tuple(tensor.shape)} with strides {tensor.stride()}"
        )


def gradient(grad: Tensor, dtype: torch.dtype | None) -> None:
    """float64 is for the reference alone, with a float64 parameter."""
    flat("grad", grad)
    allowed = (torch.float64,) if dtype == torch.float64 else GRADIENTS
    if dtype is None:
        allowed = (*GRADIENTS, torch.float64)
    if grad.dtype not in allowed:
        raise TypeError(f"grad must be {' or '.join(map(str, allowed))}, got {grad.dtype}")


def number(name: str, tensor: Tensor | None, like: Tensor, dtypes: Sequence[torch.dtype] = (torch.float32,)) -> None:
    """A number that lies on the device, or None."""
    if tensor is None:
        return
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} must be {' or '.join(map(str, dtypes))}, got {tensor.dtype}")
    if tensor.numel() != 1 or tensor.device != like.device:
        raise ValueError(
            f"{name} must have one element, on {like.device}, got shape {tuple(tensor.shape)} on {tensor.device}"
        )


class Update(NamedTuple):
    """An update as the registered ops take it: with a tensor `step`, `lr_at` or `ema_decay_at` that number
    is not used."""

    param: Tensor
    grad: Tensor
    state: Sequence[Tensor]
    kind: str
    update_number: int
    step: Tensor | None
    lr: float
    lr_at: Tensor | None
    beta1: float
    beta2: float
    eps: float
    weight_clip: float | None
    ema: Tensor | None
    ema_decay: float
    ema_decay_at: Tensor | None
    scale: Tensor | None
    found_inf: Tensor | None

    def check(self) -> None:
        """Raises TypeError or ValueError unless every tensor can be read and written as it is."""
        param, state = self.param, self.state
        flat("param", param)
        if param.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"param must be torch.float32, got {param.dtype}; keep the weights of the update in it")
        gradient(self.grad, param.dtype)
        _checks.one_of("kind", self.kind, KINDS)
        names = states(self.kind, self.beta1)
        if not isinstance(state, (tuple, list)):
            raise TypeError(f"state must be a tuple of tensors, got {type(state).__name__}")
        if len(state) != len(names):
            wanted = ", ".join(names) or "nothing"
            raise ValueError(
                f"the state of {self.kind} with beta1={self.beta1:g} must be ({wanted}), got {len(state)} tensors"
            )
        for name, tensor in [*zip(names, state, strict=True), *([] if self.ema is None else [("ema", self.ema)])]:
            flat(name, tensor)
            if tensor.dtype != param.dtype:
                raise TypeError(f"{name} must be {param.dtype} as param is, got {tensor.dtype}")
            _same_place(name, tensor, param)
        _same_place("grad", self.grad, param)
        number("step", self.step, param, (torch.float32, torch.int64))
        number("lr", self.lr_at, param, RATES)
        number("ema_decay", self.ema_decay_at, param, RATES)
        number("scale", self.scale, param)
        number("found_inf", self.found_inf, param)


def _same_place(name: str, tensor: Tensor, param: Tensor) -> None:
    if tensor.shape != param.shape or tensor.device != param.device:
        raise ValueError(
            f"{name} must have the {param.numel()} elements of param, on {param.device}, "
            f"got {tensor.numel()} on {tensor.device}"
        )
