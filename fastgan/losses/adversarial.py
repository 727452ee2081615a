"""The adversarial losses of both networks (SPEC S2, S3, S14)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.precision import autocast


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


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """E[|dD(x)/dx|^2] on real images (Mescheder et al. 2018), differentiable in D's parameters, float32.

    Where D gives a logit a patch, the squared gradient of their sum, divided by their number: the mean of the patches'
    penalties as far as patches do not overlap.

    Args:
        discriminator: (N, 3, H, W) to logits, any shape after N.
        real: images, (N, 3, H, W).
    """
    x = real.detach().requires_grad_()
    # Eager and in float32: a compiled network has no second derivative, and squares of small gradients need the range.
    with autocast(x.device, torch.float32), ops.second_order():
        logits = discriminator.forward(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / logits[0].numel()
