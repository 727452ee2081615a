"""The adversarial losses against the article's formulas in float64."""

from typing import Any

import pytest
import torch

from fastgan import ops


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_bce_is_the_article_s_formula(temperature: float, rng: torch.Generator) -> None:
    real, fake = 5 * torch.randn(2, 3, 1, 6, 6, generator=rng, dtype=torch.float64)
    d_real, d_fake = torch.sigmoid(real / temperature), torch.sigmoid(fake / temperature)
    discriminator = -torch.log(d_real).mean() - torch.log(1 - d_fake).mean()
    generator = -torch.log(d_fake).mean()
    assert ops.discriminator_loss(real, fake, temperature=temperature).item() == pytest.approx(
        discriminator.item(), abs=1e-6
    )
    assert ops.generator_loss(fake, temperature=temperature).item() == pytest.approx(generator.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "discriminator", "generator"),
    [
        # real logits 2, 0; fake logits -3, 1, 0.5
        ("hinge", (0 + 1) / 2 + (0 + 2 + 1.5) / 3, 0.5),
        ("lsgan", (1 + 1) / 2 + (9 + 1 + 0.25) / 3, (16 + 0 + 0.25) / 3),
        ("wgan", -0.5 - 1, 0.5),
    ],
)
def test_other_kinds_by_hand(kind: str, discriminator: float, generator: float) -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0, 0.5])
    for half in (1, 4):
        # Logits scaled up and a temperature that takes it back.
        options: dict[str, Any] = {"kind": kind, "temperature": float(half)}
        assert ops.discriminator_loss(real * half, fake * half, **options).item() == pytest.approx(discriminator)
        assert ops.generator_loss(fake * half, **options).item() == pytest.approx(generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["bce", "hinge", "lsgan", "wgan"])
def test_extreme_logits_stay_finite(kind: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([-1e4, 1e4, 0.0], dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ops.discriminator_loss(logits, logits, kind=kind) + ops.generator_loss(logits, kind=kind)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    if kind == "bce":
        # The generator's loss on a surely detected fake keeps its slope: that is what non-saturating means.
        (slope,) = torch.autograd.grad(ops.generator_loss(logits), logits)
        assert slope[0].item() == pytest.approx(-1 / 3, rel=0.01)


@pytest.mark.parametrize("kind", ["bce", "hinge", "lsgan", "wgan"])
def test_derivatives_and_compile(kind: str, rng: torch.Generator) -> None:
    real, fake = (torch.randn(4, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(2))

    def both(r: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return ops.discriminator_loss(r, f, kind=kind) + ops.generator_loss(f, kind=kind)

    assert torch.autograd.gradcheck(both, (real, fake))
    assert torch.autograd.gradgradcheck(both, (real, fake))
    torch.testing.assert_close(torch.compile(both, fullgraph=True, backend="eager")(real, fake), both(real, fake))


def test_bad_arguments() -> None:
    logits = torch.zeros(2)
    with pytest.raises(ValueError, match="kind must be one of 'bce', 'hinge', 'lsgan', 'wgan', got 'gan'"):
        ops.generator_loss(logits, kind="gan")
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got 0"):
        ops.discriminator_loss(logits, logits, temperature=0)
    with pytest.raises(ValueError, match="real_logits must not be empty"):
        ops.discriminator_loss(logits[:0], logits)
    with pytest.raises(TypeError, match="fake_logits must be a floating-point tensor"):
        ops.discriminator_loss(logits, logits.int())
