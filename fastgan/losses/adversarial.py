"""The adversarial losses of both networks (SPEC S2, S3, S14)."""

from __future__ import annotations

from torch import Tensor, nn

from fastgan import ops


class AdversarialLoss(nn.Module):
    """Losses of the discriminator and the generator from logits, and the article's total L_G + lambda L_D.

    Args:
        kind: ``"bce"`` (the article's, non-saturating), ``"hinge"``, ``"lsgan"`` or ``"wgan"``.
        temperature: divides the logits; may be set between steps (annealing, SPEC S14).
        lambda_d: the article's lambda.
        real_label, fake_label: target labels of the discriminator, as ``fastgan.ops.discriminator_loss``.
    """

    def __init__(
        self,
        kind: str = "bce",
        *,
        temperature: float = 1.0,
        lambda_d: float = 1.0,
        real_label: float = 1.0,
        fake_label: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.temperature = temperature
        self.lambda_d = lambda_d
        self.real_label = real_label
        self.fake_label = fake_label

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-E[log D(x)] - E[log(1 - D(G(z)))], a scalar."""
        return ops.discriminator_loss(
            real_logits,
            fake_logits,
            kind=self.kind,
            temperature=self.temperature,
            real_label=self.real_label,
            fake_label=self.fake_label,
        )

    def generator(self, fake_logits: Tensor) -> Tensor:
        """-E[log D(G(z))], a scalar."""
        return ops.generator_loss(fake_logits, kind=self.kind, temperature=self.temperature)

    def total(self, loss_g: Tensor, loss_d: Tensor) -> Tensor:
        """L = L_G + lambda L_D (SPEC S3): reported, never minimized as a whole."""
        return loss_g + self.lambda_d * loss_d
