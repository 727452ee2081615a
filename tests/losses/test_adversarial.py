"""The article's losses (SPEC S2, S3), from their formulas on probabilities."""

import math
from typing import Any

import pytest
import torch
from helpers.bounds import approx, assert_close
from torch import Tensor

from fastgan.losses import AdversarialLoss

#: A mean of 4 * 5 * 6 logarithms, each of a few operations; all in float64, twice.
BOUND: dict[str, Any] = {"terms": 4 * 5 * 6, "steps": 10, "dtype": torch.float64}


def log_of_the_rest(logits: Tensor) -> Tensor:
    """log(1 - D). 1 - D is the sigmoid of the negative logit; subtracted, it would have lost digits."""
    return (1 / (1 + logits.exp())).log()


@pytest.fixture
def logits(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    real, fake = (3 * torch.randn(4, 1, 5, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    return real.requires_grad_(), fake.requires_grad_()


@pytest.mark.parametrize(("y_real", "y_fake"), [(1.0, 0.0), (0.9, 0.0), (0.7, 0.2)])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_the_articles_formulas(logits: tuple[Tensor, Tensor], temperature: float, y_real: float, y_fake: float) -> None:
    """L_D = -E[log D(x)] - E[log(1 - D(G(z)))], L_G = -E[log D(G(z))], D the sigmoid of the logit over T.

    With labels y, -E[y log D + (1 - y) log(1 - D)] of each in L_D (Salimans et al. 2016), and L_G as it is.
    """
    real, fake = logits
    loss = AdversarialLoss(temperature=temperature, real_label=y_real, fake_label=y_fake)
    d_real, d_fake = (1 / (1 + (-value / temperature).exp()) for value in (real, fake))
    rest_real, rest_fake = (log_of_the_rest(value / temperature) for value in (real, fake))
    want_d = -(y_real * d_real.log() + (1 - y_real) * rest_real).mean()
    want_d = want_d - (y_fake * d_fake.log() + (1 - y_fake) * rest_fake).mean()
    want_g = -d_fake.log().mean()
    have_d, have_g = loss.discriminator(real, fake), loss.generator(fake)
    largest = max(value.abs().max().item() for value in logits) / temperature
    assert largest < 20  # above that torch's softplus is the identity
    # softplus - y x cancels: terms are as large as the logits.
    assert have_d.item() == approx(want_d.item(), **BOUND, scale=largest)
    assert have_g.item() == approx(want_g.item(), **BOUND, scale=largest)
    for have, want in ((have_d, want_d), (have_g, want_g)):
        inputs = (real, fake) if have is have_d else (fake,)
        got = torch.autograd.grad(have, inputs, retain_graph=True)
        expected = torch.autograd.grad(want, inputs, retain_graph=True)
        for a, b in zip(got, expected, strict=True):
            # The scale is the largest gradient that a mean can have.
            assert_close(a, b, **BOUND, scale=1 / (temperature * a.numel()))


def test_by_hand() -> None:
    loss = AdversarialLoss()
    zero, three = (
        torch.zeros(1, dtype=torch.float64),
        torch.full((1,), math.log(3), dtype=torch.float64),
    )  # D = 1/2, 3/4
    assert loss.generator(zero).item() == pytest.approx(math.log(2))
    assert loss.generator(three).item() == pytest.approx(math.log(4 / 3))
    assert loss.discriminator(three, zero).item() == pytest.approx(math.log(4 / 3) + math.log(2))
    assert loss.discriminator(zero, three).item() == pytest.approx(math.log(2) + math.log(4))


def test_certain_logits_do_not_overflow() -> None:
    """Probabilities would be 0 and 1 and their logarithms infinite."""
    sure = torch.full((2, 1), 1000.0)
    loss = AdversarialLoss()
    assert loss.discriminator(sure, -sure).item() == 0 and loss.generator(sure).item() == 0
    assert loss.discriminator(-sure, sure).item() == 2000 and loss.generator(-sure).item() == 1000


@pytest.mark.parametrize("kind", ["hinge", "lsgan", "wgan"])
def test_other_kinds(kind: str, logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    want = {
        "hinge": ((1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean(), -fake.mean()),
        "wgan": (fake.mean() - real.mean(), -fake.mean()),
    }
    loss = AdversarialLoss(kind)
    have = loss.discriminator(real, fake), loss.generator(fake)
    if kind == "lsgan":  # Mao et al. 2017 with a = 0, b = c = 1; with or without their factor of one half
        pairs = ((real - 1).square().mean() + fake.square().mean(), (fake - 1).square().mean())
        assert any(
            all(a.item() == pytest.approx(half * b.item()) for a, b in zip(have, pairs, strict=True))
            for half in (1, 0.5)
        )
    else:
        assert [value.item() for value in have] == pytest.approx([value.item() for value in want[kind]])


def test_temperature_may_be_set_between_steps(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    annealed = AdversarialLoss()
    for temperature in (4.0, 2.0, 1.0):
        annealed.temperature = temperature
        fixed = AdversarialLoss(temperature=temperature)
        assert annealed.discriminator(real, fake).item() == fixed.discriminator(real, fake).item()
        assert annealed.generator(fake).item() == fixed.generator(fake).item()
    assert not annealed.state_dict() and not list(annealed.parameters())


def test_labels_of_lsgan_and_of_those_that_have_none(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    loss = AdversarialLoss("lsgan", real_label=0.9, fake_label=0.1)
    want = (real - 0.9).square().mean() + (fake - 0.1).square().mean()
    assert loss.discriminator(real, fake).item() == pytest.approx(want.item())
    assert loss.generator(fake).item() == pytest.approx((fake - 1).square().mean().item())
    for kind in ("hinge", "wgan"):
        with pytest.raises(ValueError, match=f"{kind} has no labels"):
            AdversarialLoss(kind, real_label=0.9).discriminator(real, fake)


@pytest.mark.parametrize("lambda_d", [0.0, 1.0, 0.25])
def test_total(lambda_d: float) -> None:
    g, d = torch.tensor(0.7), torch.tensor(1.2)
    assert AdversarialLoss(lambda_d=lambda_d).total(g, d).item() == approx(0.7 + lambda_d * 1.2, steps=3)


def test_total_of_the_articles_losses(logits: tuple[Tensor, Tensor]) -> None:
    """L = L_G + lambda L_D (SPEC S3), from probabilities."""
    real, fake = logits
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    want = -torch.log(d_fake).mean() + 0.3 * (-torch.log(d_real).mean() - log_of_the_rest(fake).mean())
    loss = AdversarialLoss(lambda_d=0.3)
    have = loss.total(loss.generator(fake), loss.discriminator(real, fake))
    assert have.item() == approx(want.item(), **BOUND)
