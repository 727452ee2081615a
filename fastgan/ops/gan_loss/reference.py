"""The adversarial losses in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def _scaled_logits(logits: Tensor, temperature: float) -> Tensor:
    x32 = logits if logits.dtype == torch.float64 else logits.float()
    return x32 if temperature == 1.0 else x32 / temperature


def _bce(logits: Tensor, label: float) -> Tensor:
    # -label log s(l) - (1 - label) log(1 - s(l)); at the ends the form that has no difference of large numbers.
    if label == 1:
        return F.softplus(-logits)
    softplus = F.softplus(logits)
    return softplus if label == 0 else softplus - label * logits


def discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, kind: str, temperature: float, real_label: float, fake_label: float
) -> Tensor:
    real, fake = _scaled_logits(real_logits, temperature), _scaled_logits(fake_logits, temperature)
    if kind == "bce":
        return _bce(real, real_label).mean() + _bce(fake, fake_label).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "lsgan":
        return (real - real_label).square().mean() + (fake - fake_label).square().mean()
    return fake.mean() - real.mean()


def generator_loss(fake_logits: Tensor, kind: str, temperature: float) -> Tensor:
    fake = _scaled_logits(fake_logits, temperature)
    if kind == "bce":
        return F.softplus(-fake).mean()
    if kind == "lsgan":
        return (fake - 1).square().mean()
    return -fake.mean()
