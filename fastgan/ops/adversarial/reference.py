"""The adversarial losses in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(logits: Tensor, temperature: float) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide if temperature == 1.0 else wide / temperature


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: str, temperature: float) -> Tensor:
    real, fake = _wide(real_logits, temperature), _wide(fake_logits, temperature)
    if kind == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "lsgan":
        return (real - 1).square().mean() + fake.square().mean()
    return fake.mean() - real.mean()


def generator_loss(fake_logits: Tensor, kind: str, temperature: float) -> Tensor:
    fake = _wide(fake_logits, temperature)
    if kind == "bce":
        return F.softplus(-fake).mean()
    if kind == "lsgan":
        return (fake - 1).square().mean()
    return -fake.mean()
