"""The adversarial losses, from logits."""

from torch import Tensor

from fastgan.ops import _checks
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.adversarial import reference

KINDS = ("bce", "hinge", "lsgan", "wgan")

register(Backend("discriminator_loss", "reference", reference.discriminator_loss))
register(Backend("generator_loss", "reference", reference.generator_loss))


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    kind: str = "bce",
    temperature: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """What the discriminator minimises: the sum of its mean loss on real and its mean loss on fake.

    With r and f the logits divided by `temperature` (SPEC S14):

    - `bce`: mean softplus(-r) + mean softplus(f), that is -E[log D(x)] - E[log(1 - D(G(z)))] (SPEC S2)
    - `hinge`: mean relu(1 - r) + mean relu(1 + f) (Lim and Ye 2017)
    - `lsgan`: mean (r - 1)^2 + mean f^2 (Mao et al. 2017, without their factor 1/2)
    - `wgan`: mean f - mean r (Arjovsky et al. 2017; it needs clipped weights or a penalty)

    Args:
        real_logits, fake_logits: floating tensors of any shape (they may differ), before any sigmoid.

    Returns:
        A scalar, float32 for half-precision logits.

    Raises:
        TypeError: logits are not floating.
        ValueError: empty logits, an unknown `kind`, or a `temperature` that is not above 0.
    """
    _check("real_logits", real_logits, kind, temperature)
    _check("fake_logits", fake_logits, kind, temperature)
    chosen = select("discriminator_loss", real_logits, fake_logits, backend=backend)
    return chosen(real_logits, fake_logits, kind, temperature)


def generator_loss(
    fake_logits: Tensor, *, kind: str = "bce", temperature: float = 1.0, backend: str | None = None
) -> Tensor:
    """What the generator minimises, given the discriminator's logits of its images.

    With f the logits divided by `temperature` (SPEC S14): `bce` mean softplus(-f), that is -E[log D(G(z))],
    non-saturating (SPEC S2); `hinge` and `wgan` -mean f; `lsgan` mean (f - 1)^2.

    Returns:
        A scalar, float32 for half-precision logits.

    Raises:
        TypeError: logits are not floating.
        ValueError: empty logits, an unknown `kind`, or a `temperature` that is not above 0.
    """
    _check("fake_logits", fake_logits, kind, temperature)
    return select("generator_loss", fake_logits, backend=backend)(fake_logits, kind, temperature)


def _check(name: str, logits: Tensor, kind: str, temperature: float) -> None:
    _checks.floating(name, logits)
    if logits.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(logits.shape)}")
    _checks.one_of("kind", kind, KINDS)
    _checks.positive("temperature", temperature)
