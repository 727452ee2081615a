"""The adversarial losses, from logits."""

from torch import Tensor

from fastgan.ops import _checks, _triton
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.gan_loss import reference, torch_library

KINDS = ("bce", "hinge", "lsgan", "wgan")
#: The kinds that hold the discriminator to labels.
LABELED = ("bce", "lsgan")

register(
    Backend("discriminator_loss", "reference", reference.discriminator_loss),
    _triton.backend("discriminator_loss", torch_library.discriminator_loss),
)
register(
    Backend("generator_loss", "reference", reference.generator_loss),
    _triton.backend("generator_loss", torch_library.generator_loss),
)


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    kind: str = "bce",
    temperature: float = 1.0,
    real_label: float = 1.0,
    fake_label: float = 0.0,
    backend: str | None = None,
) -> Tensor:
    """Discriminator loss: the sum of its mean loss on real and its mean loss on fake logits.

    With r and f the logits divided by `temperature` (SPEC S14):

    - `bce`: mean softplus(-r) + mean softplus(f), that is -E[log D(x)] - E[log(1 - D(G(z)))] (SPEC S2); with labels
      y, mean softplus(l) - y l of each, that is -y log D - (1 - y) log(1 - D)
    - `hinge`: mean relu(1 - r) + mean relu(1 + f) (Lim and Ye 2017)
    - `lsgan`: mean (r - real_label)^2 + mean (f - fake_label)^2 (Mao et al. 2017, without their factor 1/2)
    - `wgan`: mean f - mean r (Arjovsky et al. 2017; it needs clipped weights or a penalty)

    Args:
        real_logits, fake_logits: floating tensors of any shape (they may differ), before any sigmoid.
        real_label, fake_label: what `bce` and `lsgan` hold D to; 0.9 and 0 are one-sided smoothing (Salimans et al.
            2016).

    Returns:
        A scalar, float32 for half-precision logits.

    Raises:
        TypeError: logits are not floating.
        ValueError: empty logits, an unknown `kind`, a `temperature` that is not above 0, labels that are not
            0 <= fake_label < real_label <= 1, or labels other than 1 and 0 with `hinge` and `wgan`, which have none.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
        >>> ops.discriminator_loss(real, fake, kind="hinge")
        tensor(0.7500)
    """
    _check("real_logits", real_logits, kind, temperature)
    _check("fake_logits", fake_logits, kind, temperature, real_logits)
    _checks.number("real_label", real_label)
    _checks.number("fake_label", fake_label)
    if not 0 <= fake_label < real_label <= 1:
        raise ValueError(f"labels must be 0 <= fake_label < real_label <= 1, got {fake_label!r} and {real_label!r}")
    if kind not in LABELED and (real_label, fake_label) != (1, 0):
        raise ValueError(
            f"{kind} has no labels: real_label and fake_label must be 1 and 0, got {real_label!r} and {fake_label!r}"
        )
    impl = select("discriminator_loss", real_logits, fake_logits, backend=backend)
    return impl(real_logits, fake_logits, kind, temperature, real_label, fake_label)


def generator_loss(
    fake_logits: Tensor, *, kind: str = "bce", temperature: float = 1.0, backend: str | None = None
) -> Tensor:
    """Generator loss, from the discriminator's logits of generated images.

    With f the logits divided by `temperature` (SPEC S14): `bce` mean softplus(-f), that is -E[log D(G(z))],
    non-saturating (SPEC S2); `hinge` and `wgan` -mean f; `lsgan` mean (f - 1)^2.

    Returns:
        A scalar, float32 for half-precision logits.

    Raises:
        TypeError: logits are not floating.
        ValueError: empty logits, an unknown `kind`, or a `temperature` that is not above 0.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> ops.generator_loss(torch.tensor([2.0, 0.5]), kind="wgan")
        tensor(-1.2500)
    """
    _check("fake_logits", fake_logits, kind, temperature)
    return select("generator_loss", fake_logits, backend=backend)(fake_logits, kind, temperature)


def _check(name: str, logits: Tensor, kind: str, temperature: float, like: Tensor | None = None) -> None:
    _checks.floating(name, logits, like)
    if logits.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(logits.shape)}")
    _checks.one_of("kind", kind, KINDS)
    _checks.positive("temperature", temperature)
