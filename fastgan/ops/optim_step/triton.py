"""An optimizer's update in Triton: one launch, and one of a single thread where a counter lies on the device.

Bytes that must move per value, with a gradient of e bytes: Adam and RMSprop with momentum 24 + e, RMSprop and SGD with
momentum 16 + e, SGD 8 + e; the EMA 8 more. The check of the gradient: e.
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._triton_tiles import pointer
from fastgan.ops.optim_step import _validation
from fastgan.utils.format import dtype_name

#: Up to six tiles live at once. 2 values a thread: with 4, Triton 3.6's ptxas spills Adam's divisions for float32, and
#: with 8, Triton 3.8's for bfloat16, to fit one more program on a multiprocessor.
FLAT = (
    _triton.config(BLOCK=256, num_warps=4),
    _triton.config(BLOCK=512, num_warps=8),
    _triton.config(BLOCK=1024, num_warps=16),
)
#: One tile live at once.
CHECKED = (
    _triton.config(BLOCK=4096, num_warps=4),
    _triton.config(BLOCK=2048, num_warps=4),
    _triton.config(BLOCK=4096, num_warps=8),
    _triton.config(BLOCK=1024, num_warps=4),
)
SINGLE = (_triton.config(num_warps=1),)

ADAM, RMSPROP = tl.constexpr(0), tl.constexpr(1)


@triton.jit
def one_minus_exp(x):
    """1 - exp(x) for x <= 0, to float32's precision where exp(x) is close to 1 too."""
    small = 1 + x / 8
    small = 1 + x / 7 * small
    small = 1 + x / 6 * small
    small = 1 + x / 5 * small
    small = 1 + x / 4 * small
    small = 1 + x / 3 * small
    small = 1 + x / 2 * small
    return tl.where(x > -0.5, -x * small, 1 - tl.exp(x))


@triton.jit
def lerp(a, b, weight):
    """torch.lerp, in its two forms: exact at the nearer end."""
    return tl.where(weight < 0.5, a + weight * (b - a), b - (b - a) * (1 - weight))


@triton.jit
def optim_step_count_kernel(step, found_inf, HAS_FOUND: tl.constexpr):
    updates = tl.load(step)
    if HAS_FOUND:
        tl.store(step, updates + 1, mask=tl.load(found_inf) == 0)
    else:
        tl.store(step, updates + 1)


@triton.jit
def optim_step_fwd_kernel(
    param,
    grad,
    state1,
    state2,
    ema,
    step,
    lr_tensor,
    ema_decay_tensor,
    scale,
    found_inf,
    size,
    rate,
    root2,
    log_beta1,
    log_beta2,
    beta1,
    weight1,
    beta2,
    weight2,
    eps,
    clip,
    ema_weight,
    KIND: tl.constexpr,
    HAS_MOMENTUM: tl.constexpr,
    HAS_STEP: tl.constexpr,
    HAS_LR: tl.constexpr,
    HAS_CLIP: tl.constexpr,
    HAS_EMA: tl.constexpr,
    HAS_EMA_DECAY: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_FOUND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    end = size
    if HAS_FOUND:
        # Nothing is read or written where the update is left out.
        end = tl.where(tl.load(found_inf) == 0, size, 0)
    inside = at < end
    if HAS_LR:
        rate = rate * tl.load(lr_tensor).to(tl.float32)
    g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_SCALE:
        g = g * tl.div_rn(1.0, tl.load(scale))
    p = tl.load(param + at, mask=inside, other=0.0)
    if KIND == ADAM:
        if HAS_STEP:
            updates = tl.load(step).to(tl.float32)
            rate = tl.div_rn(rate, one_minus_exp(updates * log_beta1))
            root2 = tl.sqrt_rn(one_minus_exp(updates * log_beta2))
        m = lerp(tl.load(state1 + at, mask=inside, other=0.0), g, weight1)
        v = tl.load(state2 + at, mask=inside, other=0.0) * beta2 + weight2 * g * g
        p += tl.div_rn(rate * m, tl.div_rn(tl.sqrt_rn(v), root2) + eps)
        tl.store(state1 + at, m, mask=inside)
        tl.store(state2 + at, v, mask=inside)
    elif KIND == RMSPROP:
        v = tl.load(state1 + at, mask=inside, other=0.0) * beta2 + weight2 * g * g
        tl.store(state1 + at, v, mask=inside)
        divisor = tl.sqrt_rn(v) + eps
        if HAS_MOMENTUM:
            moved = tl.load(state2 + at, mask=inside, other=0.0) * beta1 + tl.div_rn(g, divisor)
            tl.store(state2 + at, moved, mask=inside)
            p += rate * moved
        else:
            p += tl.div_rn(rate * g, divisor)
    else:
        if HAS_MOMENTUM:
            g += tl.load(state1 + at, mask=inside, other=0.0) * beta1
            tl.store(state1 + at, g, mask=inside)
        p += rate * g
    if HAS_CLIP:
        # Comparisons that are false for NaN keep it.
        p = tl.where(p > clip, clip, tl.where(p < -clip, -clip, p))
    tl.store(param + at, p, mask=inside)
    if HAS_EMA:
        if HAS_EMA_DECAY:
            ema_weight = (1 - tl.load(ema_decay_tensor).to(tl.float64)).to(tl.float32)
        average = lerp(tl.load(ema + at, mask=inside, other=0.0), p, ema_weight)
        tl.store(ema + at, average, mask=inside)


@triton.jit
def check_finite_fwd_kernel(grad, found_inf, scale, size, HAS_SCALE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_SCALE:
        g = g * tl.div_rn(1.0, tl.load(scale))
    bad = inside & ~(tl.abs(g) < float("inf"))
    # Every block that writes writes the same.
    tl.store(found_inf, 1.0, mask=tl.max(bad.to(tl.int32), axis=0) > 0)


def forward(*args: Any) -> None:
    """As `native.forward`."""
    u = _validation.UpdateArgs(*args)
    u.check()
    if u.step is not None:
        _triton.launch(
            optim_step_count_kernel,
            lambda config: (1,),
            (u.step, pointer(u.found_inf, u.step)),
            choices=SINGLE,
            HAS_FOUND=u.found_inf is not None,
        )
    rate, root2 = (-1.0 if u.lr_tensor is not None else -u.lr), 1.0
    if u.kind == "adam" and u.step is None:
        rate, root2 = rate / (1 - u.beta1**u.update_number), math.sqrt(1 - u.beta2**u.update_number)
    size = u.param.numel()
    _triton.launch(
        optim_step_fwd_kernel,
        lambda config: (_triton.cdiv(size, config["BLOCK"]),),
        (
            u.param,
            u.grad,
            pointer(u.state[0] if u.state else None, u.param),
            pointer(u.state[1] if len(u.state) > 1 else None, u.param),
            pointer(u.ema, u.param),
            pointer(u.step, u.param),
            pointer(u.lr_tensor, u.param),
            pointer(u.ema_decay_tensor, u.param),
            pointer(u.scale, u.param),
            pointer(u.found_inf, u.param),
            size,
            rate,
            root2,
            _log(u.beta1),
            _log(u.beta2),
            u.beta1,
            1 - u.beta1,
            u.beta2,
            1 - u.beta2,
            u.eps,
            u.weight_clip or 0.0,
            1 - u.ema_decay,
        ),
        choices=FLAT,
        key=(u.kind, len(u.state), u.ema is not None, dtype_name(u.grad.dtype), _triton.next_power_of_2(size)),
        KIND=_validation.KINDS.index(u.kind),
        HAS_MOMENTUM=u.kind != "adam" and u.beta1 > 0,
        HAS_STEP=u.step is not None,
        HAS_LR=u.lr_tensor is not None,
        HAS_CLIP=u.weight_clip is not None,
        HAS_EMA=u.ema is not None,
        HAS_EMA_DECAY=u.ema_decay_tensor is not None,
        HAS_SCALE=u.scale is not None,
        HAS_FOUND=u.found_inf is not None,
    )


def check_finite(grad: Tensor, found_inf: Tensor, scale: Tensor | None) -> None:
    """As `native.check_finite`."""
    _validation.check_grad(grad, None)
    _validation.check_scalar("found_inf", found_inf, grad)
    _validation.check_scalar("scale", scale, grad)
    size = grad.numel()
    _triton.launch(
        check_finite_fwd_kernel,
        lambda config: (_triton.cdiv(size, config["BLOCK"]),),
        (grad, found_inf, pointer(scale, found_inf), size),
        choices=CHECKED,
        key=(dtype_name(grad.dtype), _triton.next_power_of_2(size)),
        HAS_SCALE=scale is not None,
    )


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0 else -math.inf
