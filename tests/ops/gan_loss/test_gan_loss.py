"""The adversarial losses against the article's formulas in float64."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding, unit

from fastgan import ops

#: Of logits in float64: a few operations on numbers of their size, and torch's softplus is its argument from 20 on.
EXACT: dict[str, float] = {"rel": rounding(steps=8, dtype=torch.float64), "abs": math.exp(-20)}

SMOOTHED = {"real_label": 0.9, "fake_label": 0.05}
ALL = [*((kind, {}) for kind in ("bce", "hinge", "lsgan", "wgan")), ("bce", SMOOTHED), ("lsgan", SMOOTHED)]
LABELS = [(1.0, 0.0), (0.9, 0.0), (1.0, 0.1), (0.8, 0.25)]


@pytest.mark.parametrize("temperature", [1.0, 2.5, 0.7])
@pytest.mark.parametrize(("real_label", "fake_label"), LABELS)
def test_bce_is_the_article_s_formula(real_label: float, fake_label: float, temperature: float) -> None:
    """Each logit by itself, from -15 to 15, so that no mean hides an error."""
    for logit in torch.linspace(-15, 15, 121, dtype=torch.float64):
        d = torch.sigmoid(logit / temperature)
        # log(1 - D), by the D of the opposite logit: no difference from 1 loses digits.
        log_d, log_not_d = torch.log(d), torch.log(torch.sigmoid(-logit / temperature))
        real, fake = (-y * log_d - (1 - y) * log_not_d for y in (real_label, fake_label))
        labels: dict[str, Any] = {"real_label": real_label, "fake_label": fake_label, "temperature": temperature}
        none = torch.zeros(1, dtype=torch.float64)  # D = 1/2 costs log 2, whatever the label
        as_real = ops.discriminator_loss(logit[None], none, **labels) - math.log(2)
        as_fake = ops.discriminator_loss(none, logit[None], **labels) - math.log(2)
        assert as_real.item() == pytest.approx(real.item(), **EXACT)
        assert as_fake.item() == pytest.approx(fake.item(), **EXACT)
        have = ops.generator_loss(logit[None], temperature=temperature)
        assert have.item() == pytest.approx(-log_d.item(), **EXACT)


@pytest.mark.parametrize(("real_label", "fake_label"), LABELS)
def test_lsgan_labels(real_label: float, fake_label: float) -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0, 0.5])
    want = ((2 - real_label) ** 2 + real_label**2) / 2
    want += ((-3 - fake_label) ** 2 + (1 - fake_label) ** 2 + (0.5 - fake_label) ** 2) / 3
    have = ops.discriminator_loss(
        real * 4, fake * 4, kind="lsgan", temperature=4, real_label=real_label, fake_label=fake_label
    )
    assert have.item() == approx(want, terms=3, steps=3)


@pytest.mark.parametrize("label", [0.6, 0.9])
def test_a_smoothed_label_is_where_the_discriminator_rests(label: float) -> None:
    """The loss on real images is least at D = label, for `bce` at the entropy of the label."""
    logit = torch.tensor([math.log(label / (1 - label))], dtype=torch.float64, requires_grad=True)
    loss = ops.discriminator_loss(logit, torch.full((1,), -50.0, dtype=torch.float64), real_label=label)
    assert loss.item() == pytest.approx(-label * math.log(label) - (1 - label) * math.log(1 - label))
    assert torch.autograd.grad(loss, logit)[0].item() == approx(0, steps=4, dtype=torch.float64, scale=1.0)
    score = torch.tensor([label], dtype=torch.float64, requires_grad=True)
    loss = ops.discriminator_loss(score, torch.zeros(1, dtype=torch.float64), kind="lsgan", real_label=label)
    assert loss.item() == torch.autograd.grad(loss, score)[0].item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_labels_of_one_and_zero_keep_the_bits(kind: str, dtype: torch.dtype, rng: torch.Generator) -> None:
    """The forms without labels, value and gradient: far out, where the general form would round."""
    real, fake = (20 * torch.randn(501, generator=rng, dtype=dtype) for _ in range(2))

    def plain(r: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        if kind == "bce":
            return F.softplus(-r).mean() + F.softplus(f).mean()
        return (r - 1).square().mean() + f.square().mean()

    results = []
    for loss in (
        plain,
        lambda r, f: ops.discriminator_loss(r, f, kind=kind),
        lambda r, f: ops.discriminator_loss(r, f, kind=kind, real_label=1, fake_label=0),
    ):
        inputs = real.clone().requires_grad_(), fake.clone().requires_grad_()
        value = loss(*inputs)
        results.append((value, *torch.autograd.grad(value, inputs)))
    for result in results[1:]:
        assert all(torch.equal(have, want) for have, want in zip(result, results[0], strict=True))


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
        assert ops.discriminator_loss(real * half, fake * half, **options).item() == approx(
            discriminator, terms=3, steps=3
        )
        assert ops.generator_loss(fake * half, **options).item() == approx(generator, terms=3, steps=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "labels"), ALL)
def test_extreme_logits_stay_finite(kind: str, labels: dict[str, float], dtype: torch.dtype) -> None:
    logits = torch.tensor([-1e4, 1e4, 0.0], dtype=dtype, requires_grad=True)
    options: dict[str, Any] = {"kind": kind, **labels}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ops.discriminator_loss(logits, logits, **options) + ops.generator_loss(logits, kind=kind)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    if kind == "bce":
        # The generator's loss on a surely detected fake keeps its slope: that is what non-saturating means.
        (slope,) = torch.autograd.grad(ops.generator_loss(logits), logits)
        assert slope[0].item() == pytest.approx(-1 / 3, rel=unit(dtype) + rounding(3, 2))


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize(("kind", "labels"), ALL)
def test_derivatives_and_compile(kind: str, labels: dict[str, float], temperature: float, rng: torch.Generator) -> None:
    options: dict[str, Any] = {"kind": kind, "temperature": temperature}
    discriminator: dict[str, Any] = {**options, **labels}
    real, fake = (torch.randn(4, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(2))

    def both(r: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return ops.discriminator_loss(r, f, **discriminator) + ops.generator_loss(f, **options)

    assert torch.autograd.gradcheck(both, (real, fake))
    assert torch.autograd.gradgradcheck(both, (real, fake))
    torch.compiler.reset()  # one function for all these cases would meet the limit of recompilations
    compiled = torch.compile(both, fullgraph=True, backend="eager")
    assert_close(compiled(real, fake), both(real, fake), terms=4, steps=8, scale=20.0)  # no term is larger


def test_annealing_under_compile(rng: torch.Generator) -> None:
    """A temperature and labels that change from call to call are traced as symbols."""
    real, fake = torch.randn(2, 7, generator=rng)

    def loss(r: torch.Tensor, f: torch.Tensor, temperature: float, label: float) -> torch.Tensor:
        return ops.discriminator_loss(r, f, temperature=temperature, real_label=label)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for temperature, label in ((4.0, 0.9), (3.1, 0.9), (2.3, 0.8), (1.2, 0.7), (1.0, 1.0)):
        want = loss(real, fake, temperature, label)
        assert_close(compiled(real, fake, temperature, label), want, terms=7, steps=8)


def test_bad_arguments() -> None:
    logits = torch.zeros(2)
    with pytest.raises(ValueError, match="kind must be one of 'bce', 'hinge', 'lsgan', 'wgan', got 'gan'"):
        ops.generator_loss(logits, kind="gan")
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got 0"):
        ops.discriminator_loss(logits, logits, temperature=0)
    for temperature in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0, got"):
            ops.generator_loss(logits, temperature=temperature)
    with pytest.raises(ValueError, match="real_logits must not be empty"):
        ops.discriminator_loss(logits[:0], logits)
    with pytest.raises(TypeError, match="fake_logits must be a floating-point tensor"):
        ops.discriminator_loss(logits, logits.int())


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
@pytest.mark.parametrize("labels", [(1.1, 0.0), (1.0, -0.1), (0.5, 0.5), (0.2, 0.8), (math.nan, 0.0), (1.0, math.nan)])
def test_bad_labels(kind: str, labels: tuple[float, float]) -> None:
    logits = torch.zeros(2)
    with pytest.raises(ValueError, match="labels must be 0 <= fake_label < real_label <= 1, got"):
        ops.discriminator_loss(logits, logits, kind=kind, real_label=labels[0], fake_label=labels[1])


@pytest.mark.parametrize("kind", ["hinge", "wgan"])
def test_kinds_without_labels_refuse_them(kind: str) -> None:
    logits = torch.zeros(2)
    for labels in ({"real_label": 0.9}, {"fake_label": 0.1}):
        with pytest.raises(ValueError, match=f"{kind} has no labels: .* must be 1 and 0, got"):
            ops.discriminator_loss(logits, logits, kind=kind, **labels)  # type: ignore[arg-type]
    assert ops.discriminator_loss(logits, logits, kind=kind, real_label=1, fake_label=0).isfinite()
