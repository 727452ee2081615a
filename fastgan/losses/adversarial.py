"""The adversarial losses of both networks (SPEC S2, S3, S14)."""

from __future__ import annotations

from torch import Tensor, nn

from fastgan import ops


class AdversarialLoss(nn.Module):
    """Losses of the discriminator and the generator from logits, and the article's total L_G + lambda L_D.

    Args:
        kind: ``"bce"`` (the article's, non-saturating), ``"hinge"``, ``"lsgan"`` or ``"wgan"``.
        temperature: divides the logits.
        lambda_d: the article's lambda.
    """

    def __init__(self, kind: str = "bce", *, temperature: float = 1.0, lambda_d: float = 1.0) -> None:
        super().__init__()
        self.kind = kind
        self.temperature = temperature
        self.lambda_d = lambda_d

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-E[log D(x)] - E[log(1 - D(G(z)))], a scalar."""
        return ops.discriminator_loss(real_logits, fake_logits, kind=self.kind, temperature=self.temperature)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """-E[log D(G(z))], a scalar."""
        return ops.generator_loss(fake_logits, kind=self.kind, temperature=self.temperature)

    def total(self, loss_g: Tensor, loss_d: Tensor) -> Tensor:
        """L = L_G + lambda L_D (SPEC S3): reported, never minimised as a whole."""
        return loss_g + self.lambda_d * loss_d
