"""The adversarial losses in Triton: one launch gives the loss and the gradients by the logits, another one scales them.

Bytes that must move per logit, of e bytes: e, and 4 more of its gradient, forward; 4 + e backward.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _triton
from fastgan.utils.format import dtype_name

CHOICES = (
    _triton.config(BLOCK=1024, num_warps=4),
    _triton.config(BLOCK=512, num_warps=4),
    _triton.config(BLOCK=2048, num_warps=8),
    _triton.config(BLOCK=4096, num_warps=16),  # 8 warps spill with Triton 3.6
)

#: Up to this many logits are processed by one program: a second launch would cost more than it saves.
ALONE = 32768
#: Logits per program where there are several, and the largest number of programs.
SHARE, PROGRAMS = 8192, 256

KINDS = {"bce": 0, "hinge": 1, "lsgan": 2, "wgan": 3}
#: The generator's loss is that of the discriminator on real logits with a label of 1; of `hinge` it is that of `wgan`.
GENERATOR = {**KINDS, "hinge": KINDS["wgan"]}
BCE, HINGE, LSGAN = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def _log1p(e):
    """log(1 + e) for e in [0, 1], accurate to the last digits: 2 atanh(t) by its series, t up to 1/3."""
    t = e / (2.0 + e)
    z = t * t
    p = 1.0 / 15
    p = p * z + 1.0 / 13
    p = p * z + 1.0 / 11
    p = p * z + 1.0 / 9
    p = p * z + 1.0 / 7
    p = p * z + 1.0 / 5
    p = p * z + 1.0 / 3
    return 2.0 * t + 2.0 * t * z * p


@triton.jit
def _value_and_slope(y, label, KIND: tl.constexpr, REAL: tl.constexpr):
    # Comparisons that are false for NaN keep it.
    if KIND == BCE:
        # softplus(y) - label y, without a difference of large numbers for any label.
        e = tl.exp(-tl.abs(y))
        weight = tl.where(y > 0, 1.0 - label, -label)
        value = tl.where(weight == 0, 0.0, weight * y) + _log1p(e)  # no product of 0 with an infinity
        faint = e / (1.0 + e)
        slope = weight + tl.where(y > 0, -faint, faint)
    elif KIND == HINGE:
        sign = -1.0 if REAL else 1.0
        margin = 1.0 + sign * y
        value = tl.where(margin < 0, 0.0, margin)
        slope = tl.where(margin <= 0, 0.0, sign)
    elif KIND == LSGAN:
        value = (y - label) * (y - label)
        slope = 2.0 * (y - label)
    else:
        sign = -1.0 if REAL else 1.0
        value = sign * y
        slope = tl.full(y.shape, sign, tl.float32)
    return value, slope


@triton.jit
def _half(
    logits,
    gradient,
    stride,
    count,
    per_logit,
    inverse_temperature,
    label,
    KIND: tl.constexpr,
    REAL: tl.constexpr,
    NEEDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The part of this program in the mean loss of one set of logits."""
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(tl.program_id(0) * BLOCK, count, tl.num_programs(0) * BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < count
        y = tl.load(logits + i.to(tl.int64) * stride, mask=inside, other=0.0).to(tl.float32) * inverse_temperature
        value, slope = _value_and_slope(y, label, KIND, REAL)
        sums += tl.where(inside, value, 0.0)
        if NEEDED:
            tl.store(gradient + i, slope * (per_logit * inverse_temperature), mask=inside)
    return tl.sum(sums, axis=0) * per_logit


@triton.jit
def discriminator_loss_fwd_kernel(
    real,
    fake,
    loss,
    grad_real,
    grad_fake,
    real_stride,
    fake_stride,
    real_count,
    fake_count,
    per_real,
    per_fake,
    inverse_temperature,
    real_label,
    fake_label,
    KIND: tl.constexpr,
    NEEDS_REAL: tl.constexpr,
    NEEDS_FAKE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    total = _half(
        real,
        grad_real,
        real_stride,
        real_count,
        per_real,
        inverse_temperature,
        real_label,
        KIND,
        True,
        NEEDS_REAL,
        BLOCK,
    )
    total += _half(
        fake,
        grad_fake,
        fake_stride,
        fake_count,
        per_fake,
        inverse_temperature,
        fake_label,
        KIND,
        False,
        NEEDS_FAKE,
        BLOCK,
    )
    tl.store(loss + tl.program_id(0), total)


@triton.jit
def generator_loss_fwd_kernel(
    fake,
    loss,
    grad_fake,
    fake_stride,
    fake_count,
    per_fake,
    inverse_temperature,
    KIND: tl.constexpr,
    NEEDS_FAKE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    total = _half(
        fake, grad_fake, fake_stride, fake_count, per_fake, inverse_temperature, 1.0, KIND, True, NEEDS_FAKE, BLOCK
    )
    tl.store(loss + tl.program_id(0), total)


@triton.jit
def _scale(gradient, out, count, factor, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    scaled = tl.load(gradient + i, mask=inside, other=0.0) * factor
    tl.store(out + i, scaled.to(out.dtype.element_ty), mask=inside)


@triton.jit
def discriminator_loss_bwd_kernel(
    grad, of_real, of_fake, grad_real, grad_fake, real_count, fake_count, BLOCK: tl.constexpr
):
    factor = tl.load(grad).to(tl.float32)
    _scale(of_real, grad_real, real_count, factor, BLOCK)
    _scale(of_fake, grad_fake, fake_count, factor, BLOCK)


@triton.jit
def generator_loss_bwd_kernel(grad, of_fake, grad_fake, fake_count, BLOCK: tl.constexpr):
    _scale(of_fake, grad_fake, fake_count, tl.load(grad).to(tl.float32), BLOCK)


def discriminator_loss(
    real: Tensor,
    fake: Tensor,
    kind: str,
    temperature: float,
    real_label: float,
    fake_label: float,
    needs_real: bool,
    needs_fake: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its gradients by the logits in float32; empty where not needed."""
    counts = _counts(real, fake)
    flat = real.reshape(-1), fake.reshape(-1)
    programs, partial = _partial_sums(real, sum(counts))
    gradients = _gradient(real, needs_real), _gradient(fake, needs_fake)
    _triton.launch(
        discriminator_loss_fwd_kernel,
        lambda config: (programs,),
        (
            *flat,
            partial,
            *gradients,
            *(logits.stride(0) for logits in flat),
            *counts,
            *(1 / count for count in counts),
            1 / temperature,
            real_label,
            fake_label,
        ),
        choices=CHOICES,
        key=_key(real, sum(counts)),
        KIND=_code(KINDS, kind),
        NEEDS_REAL=needs_real,
        NEEDS_FAKE=needs_fake,
    )
    return partial if programs == 1 else partial.sum(), *gradients


def generator_loss(fake: Tensor, kind: str, temperature: float, needs_fake: bool) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient by the logits in float32; empty where not needed."""
    (count,) = _counts(fake)
    flat = fake.reshape(-1)
    programs, partial = _partial_sums(fake, count)
    gradient = _gradient(fake, needs_fake)
    _triton.launch(
        generator_loss_fwd_kernel,
        lambda config: (programs,),
        (flat, partial, gradient, flat.stride(0), count, 1 / count, 1 / temperature),
        choices=CHOICES,
        key=_key(fake, count),
        KIND=_code(GENERATOR, kind),
        NEEDS_FAKE=needs_fake,
    )
    return partial if programs == 1 else partial.sum(), gradient


def discriminator_loss_backward(
    grad: Tensor, of_real: Tensor, of_fake: Tensor, real_dtype: torch.dtype, fake_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The gradients times that of the loss, each in the dtype of its logits."""
    _check_gradients(grad, of_real, of_fake)
    grad_real, grad_fake = torch.empty_like(of_real, dtype=real_dtype), torch.empty_like(of_fake, dtype=fake_dtype)
    most = max(of_real.numel(), of_fake.numel())
    _triton.launch(
        discriminator_loss_bwd_kernel,
        lambda config: (_triton.cdiv(most, config["BLOCK"]),),
        (grad, of_real, of_fake, grad_real, grad_fake, of_real.numel(), of_fake.numel()),
        choices=CHOICES,
        key=_key(grad_real, most),
    )
    return grad_real, grad_fake


def generator_loss_backward(grad: Tensor, of_fake: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient times that of the loss, in the dtype of the logits."""
    _check_gradients(grad, of_fake)
    grad_fake = torch.empty_like(of_fake, dtype=dtype)
    _triton.launch(
        generator_loss_bwd_kernel,
        lambda config: (_triton.cdiv(of_fake.numel(), config["BLOCK"]),),
        (grad, of_fake, grad_fake, of_fake.numel()),
        choices=CHOICES,
        key=_key(grad_fake, of_fake.numel()),
    )
    return grad_fake


def _partial_sums(logits: Tensor, count: int) -> tuple[int, Tensor]:
    """The number of programs, and an uninitialized tensor for their partial sums; for one program, the loss itself."""
    programs = 1 if count <= ALONE else min(_triton.cdiv(count, SHARE), PROGRAMS)
    return programs, logits.new_empty(() if programs == 1 else programs, dtype=torch.float32)


def _gradient(logits: Tensor, needed: bool) -> Tensor:
    return logits.new_empty(logits.shape if needed else 0, dtype=torch.float32)


def _counts(*logits: Tensor) -> list[int]:
    """The number of logits in each tensor; validates them, as the registered ops can be called directly."""
    for tensor in logits:
        if tensor is None:  # torch lets None pass for a Tensor of a schema
            raise TypeError("expected tensors, got None")
        if tensor.dtype not in _triton.DTYPES or tensor.numel() == 0 or tensor.device != logits[0].device:
            raise ValueError(
                "expected logits, some of them, float32, bfloat16 or float16, on one device, "
                f"got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            )
    return [tensor.numel() for tensor in logits]


def _check_gradients(grad: Tensor, *gradients: Tensor) -> None:
    if grad.numel() != 1:
        raise ValueError(f"grad must be the gradient of one number, got {tuple(grad.shape)}")
    for gradient in gradients:
        if gradient.dtype != torch.float32 or not gradient.is_contiguous() or gradient.device != grad.device:
            raise ValueError(
                f"expected contiguous float32 gradients on {grad.device}, "
                f"got {gradient.dtype} with strides {gradient.stride()} on {gradient.device}"
            )


def _code(kinds: dict[str, int], kind: str) -> int:
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
    return kinds[kind]


def _key(logits: Tensor, count: int) -> tuple[object, ...]:
    return _triton.next_power_of_2(count), dtype_name(logits.dtype)
