"""An optimizer's update of flat parameters in one pass: unscale, Adam, RMSprop or SGD, weight clip, EMA."""

import torch
from torch import Tensor

from fastgan.ops import _checks, _native, _triton
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.optim_step import _validation, reference, torch_library

_DTYPES = {"cpu": _validation.GRAD_DTYPES}

register(
    Backend("optim_step", "reference", reference.optim_step),
    _native.backend("optim_step", torch_library.native_optim_step, gradient_order=0, devices=("cpu",), dtypes=_DTYPES),
    _triton.backend("optim_step", torch_library.triton_optim_step, gradient_order=0),
    preference={"cpu": ("native", "reference")},
)
register(
    Backend("check_finite", "reference", reference.check_finite),
    _native.backend(
        "check_finite", torch_library.native_check_finite, gradient_order=0, devices=("cpu",), dtypes=_DTYPES
    ),
    _triton.backend("check_finite", torch_library.triton_check_finite, gradient_order=0),
    preference={"cpu": ("native", "reference")},
)


@torch.no_grad()
def optim_step(
    param: Tensor,
    grad: Tensor,
    state: tuple[Tensor, ...],
    *,
    kind: str = "adam",
    step: int | Tensor,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float = 1e-8,
    weight_clip: float | None = None,
    ema: Tensor | None = None,
    ema_decay: float | Tensor | None = None,
    scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    backend: str | None = None,
) -> None:
    """One update in place, by the rules of `torch.optim`: Adam (Kingma and Ba 2015), RMSprop or SGD with momentum.

    On a GPU nothing waits for the host. What changes from step to step in a CUDA graph is given as a tensor: `step`,
    `lr`, `ema_decay`. No gradient flows through it.

    Args:
        param: (L,) float32, contiguous: all parameters of a network, which are views of it.
        grad: (L,) float32, bfloat16 or float16.
        state: each like `param`, zeros at first. "adam": (exp_avg, exp_avg_sq); "rmsprop": (square_avg,) and with
            `beta1` above 0 (square_avg, momentum_buffer); "sgd": (), or (momentum_buffer,).
        kind: "adam", "rmsprop" (alpha is `beta2`, momentum `beta1`) or "sgd" (momentum `beta1`; `beta2` and `eps` are
            not used).
        step: which update this is, from 1; or one element, float32 or int64: how many were applied before, to which 1
            is added if this one is. Only "adam" depends on it.
        lr: at least 0; or one element, float32 or float64.
        beta1, beta2: from 0 to below 1.
        eps: at least 0; torch's default for all three.
        weight_clip: above 0: `param` is clamped to [-weight_clip, weight_clip] after the update (Arjovsky et al. 2017).
        ema: like `param`; becomes `ema_decay * ema + (1 - ema_decay) * param` of the new `param`.
        ema_decay: from 0 to 1, as `lr`; needed with `ema`.
        scale: one element float32: the gradient is divided by it.
        found_inf: one element float32: where it is not 0 (`check_finite`) all tensors stay as they are, `ema` and
            `step` too.

    Raises:
        TypeError: a dtype that is not served, or not a tensor.
        ValueError: lengths, devices or a layout that do not fit, a state that is missing, or a value out of range.
    """
    count, counter = (0, step) if isinstance(step, Tensor) else (step, None)
    rate, lr_tensor = (0.0, lr) if isinstance(lr, Tensor) else (lr, None)
    decay, ema_decay_tensor = (0.0, ema_decay) if isinstance(ema_decay, Tensor) else (ema_decay, None)
    if counter is None and (isinstance(count, bool) or not isinstance(count, (int, torch.SymInt)) or count < 1):
        raise ValueError(f"step must be a whole number from 1 on, or a tensor, got {step!r}")
    _checks.slope("lr", rate)
    _checks.slope("eps", eps)
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        _checks.slope(name, value)
        if value >= 1:
            raise ValueError(f"{name} must be from 0 to below 1, got {value!r}")
    if weight_clip is not None:
        _checks.positive("weight_clip", weight_clip)
    if (ema is None) != (ema_decay is None):
        raise ValueError("ema and ema_decay are given together")
    if decay is None:
        decay = 0.0
    _checks.slope("ema_decay", decay)
    if decay > 1:
        raise ValueError(f"ema_decay must be from 0 to 1, got {decay!r}")
    update = _validation.UpdateArgs(
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
    update.check()
    outputs = [param, *state] if ema is None else [param, *state, ema]
    if any(a is b for i, a in enumerate(outputs) for b in (grad, *outputs[:i])):
        raise ValueError("param, grad, the tensors of state and ema must be different tensors")
    impl = select("optim_step", grad, *outputs, backend=backend)
    impl(*update)


@torch.no_grad()
def check_finite(grad: Tensor, found_inf: Tensor, scale: Tensor | None = None, *, backend: str | None = None) -> None:
    """Sets `found_inf` to 1 where a gradient, divided by `scale`, is not finite; leaves it otherwise, so that several
    checks can share it.

    Args:
        grad: (L,) float32, bfloat16 or float16, contiguous.
        found_inf: one element float32, on the device of `grad`; the caller sets it to 0 before.
        scale: one element float32; None for 1.

    Raises:
        TypeError: a dtype that is not served, or not a tensor.
        ValueError: shapes or devices that do not fit.
    """
    _validation.check_grad(grad, None)
    if found_inf is None:
        raise TypeError("found_inf must be a torch.Tensor, got None")
    _validation.check_scalar("found_inf", found_inf, grad)
    _validation.check_scalar("scale", scale, grad)
    select("check_finite", grad, backend=backend)(grad, found_inf, scale)
