"""An optimizer's update of flat parameters in one pass: unscale, Adam, RMSprop or SGD, weight clip, EMA."""

import torch
from torch import Tensor

from fastgan.ops import _native, _triton
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

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> param, state = torch.zeros(2), (torch.zeros(2), torch.zeros(2))
        >>> ops.optim_step(param, torch.tensor([1.0, -4.0]), state, step=1, lr=0.1, beta1=0.9, beta2=0.99)
        >>> param
        tensor([-0.1000,  0.1000])
    """
    update = _validation.UpdateArgs.from_call(
        param, grad, state, kind, step, lr, beta1, beta2, eps, weight_clip, ema, ema_decay, scale, found_inf
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

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> found_inf = torch.zeros(1)
        >>> ops.check_finite(torch.tensor([1.0, float("inf")]), found_inf)
        >>> found_inf
        tensor([1.])
    """
    _validation.check_grad(grad, None)
    if found_inf is None:
        raise TypeError("found_inf must be a torch.Tensor, got None")
    _validation.check_scalar("found_inf", found_inf, grad)
    _validation.check_scalar("scale", scale, grad)
    select("check_finite", grad, backend=backend)(grad, found_inf, scale)
