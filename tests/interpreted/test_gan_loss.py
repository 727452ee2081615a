"""The adversarial losses in Triton beside the reference in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import STORED, assert_close, rounding, unit
from torch import Tensor

from fastgan import ops
from fastgan.ops import _triton
from fastgan.ops.gan_loss import triton as kernels

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
#: kind, temperature, labels of real and fake
OPTIONS: list[tuple[str, float, tuple[float, float]]] = [
    *((kind, 1.0, (1.0, 0.0)) for kind in ("bce", "hinge", "lsgan", "wgan")),
    *((kind, 2.5, (1.0, 0.0)) for kind in ("hinge", "wgan")),
    ("bce", 0.7, (0.9, 0.05)),
    ("bce", 1.3, (1.0, 0.1)),
    ("lsgan", 0.7, (0.8, 0.25)),
]
KINDS = ("bce", "hinge", "lsgan", "wgan")
#: Roundings in a row: a quotient, an exponential, a logarithm, products and sums with labels, and a mean.
STEPS = 8


def logits(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def discriminator(real: Tensor, fake: Tensor, backend: str, option: tuple[str, float, tuple[float, float]]) -> Tensor:
    kind, temperature, (real_label, fake_label) = option
    labels: dict[str, float] = {"real_label": real_label, "fake_label": fake_label}
    return ops.discriminator_loss(real, fake, kind=kind, temperature=temperature, **labels, backend=backend)


def generator(fake: Tensor, backend: str, option: tuple[str, float, tuple[float, float]]) -> Tensor:
    return ops.generator_loss(fake, kind=option[0], temperature=option[1], backend=backend)


def value_and_gradients(loss: Callable[..., Tensor], *inputs: Tensor, backend: str, option: Any) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in inputs]
    value = loss(*leaves, backend, option)
    return [value.detach(), *torch.autograd.grad(value, leaves, torch.tensor(-1.75, dtype=value.dtype))]


def compare(loss: Callable[..., Tensor], *inputs: Tensor, option: Any) -> None:
    exact = value_and_gradients(loss, *(each.double() for each in inputs), backend="reference", option=option)
    same_dtype = value_and_gradients(loss, *inputs, backend="reference", option=option)
    with _triton.recorded(run=True) as launches:
        have = value_and_gradients(loss, *inputs, backend="triton", option=option)
    name = f"{loss.__name__}_loss"
    assert [launch.name for launch in launches] == [f"{name}_fwd_kernel", f"{name}_bwd_kernel"]
    for want, plain, made in zip(exact, same_dtype, have, strict=True):
        assert (made.dtype, made.shape) == (plain.dtype, plain.shape)
        terms, size = 1, want.abs().max().item()
        if want is exact[0]:  # a sum of all, which cancel in some kinds
            terms = max(each.numel() for each in inputs)
            size += sum(each.double().abs().mean().item() for each in inputs)
        floor = rounding(terms, STEPS) * size + STORED[made.dtype] * size
        allowed = 2 * (plain.double() - want).abs().max().item() + floor
        error = (made.double() - want).abs().max().item()
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1), (1, 257), (1023, 1025), (3001, 2), (40000, 1500)], ids=str)
def test_values_and_gradients(sizes: tuple[int, int], option: Any) -> None:
    """The last of them by several programs."""
    real, fake = logits(sizes[0]), logits(sizes[1], seed=1)
    compare(discriminator, real, fake, option=option)
    compare(generator, real, option=option)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_dtypes(option: Any, dtype: torch.dtype) -> None:
    real, fake = logits(4, 1, 7, 9).to(dtype), logits(4, 1, 7, 9, seed=1).to(dtype)
    compare(discriminator, real, fake, option=option)
    compare(discriminator, real, fake.float(), option=option)
    compare(generator, fake, option=option)


@pytest.mark.parametrize("option", OPTIONS[::3], ids=str)
def test_layouts(layout: Callable[[Tensor], Tensor], option: Any) -> None:
    real, fake = layout(logits(2, 3, 5, 7)), layout(logits(3, 1, 6, 4, seed=1))
    compare(discriminator, real, fake, option=option)
    compare(discriminator, fake[:, :, :1].expand(fake.shape), real[..., 1], option=option)
    compare(generator, fake[0, 0, 0, 0], option=option)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(len(kernels.CHOICES)))
def test_every_configuration(kind: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CHOICES", kernels.CHOICES[number : number + 1])
    real, fake = logits(33000), logits(17, seed=1)
    compare(discriminator, real, fake, option=(kind, 1.5, (1.0, 0.0)))
    compare(generator, real, option=(kind, 1.5, (1.0, 0.0)))


@pytest.mark.parametrize("kind", ["bce", "hinge", "lsgan"])
def test_what_is_all_but_nothing_keeps_its_digits(kind: str) -> None:
    """The loss and the gradient of a discriminator that is sure: no digit is lost to a 1 that they are added to."""
    for far in (2.0, 8.0, 15.0, 30.0, 80.0):
        real = torch.tensor([far]) if kind != "lsgan" else torch.tensor([1 + 2.0**-far])
        have = value_and_gradients(generator, real, backend="triton", option=(kind, 1.0, None))
        want = value_and_gradients(generator, real.double(), backend="reference", option=(kind, 1.0, None))
        for made, exact in zip(have, want, strict=True):
            # An exponent is rounded, and a power is off by that.
            near = rounding(steps=STEPS) + far * unit(torch.float32)
            assert made.item() == pytest.approx(exact.item(), rel=near, abs=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_stay_finite_and_nan_shows(kind: str, dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, 1e4, 0.0, 1.0, -1.0], dtype=dtype)
    option = (kind, 1.0, (1.0, 0.0))
    compare(discriminator, x, x.flip(0), option=option)
    compare(generator, x, option=option)
    x[1] = math.nan
    for have in (discriminator(x, x[:1], "triton", option), discriminator(x[:1], x, "triton", option)):
        assert have.isnan()
    want = value_and_gradients(generator, x, backend="reference", option=option)
    for made, expected in zip(value_and_gradients(generator, x, backend="triton", option=option), want, strict=True):
        assert torch.equal(made.isnan(), expected.isnan())


def test_infinite_logits_of_a_sure_discriminator() -> None:
    sure = torch.tensor([math.inf]), torch.tensor([-math.inf])
    value, *gradients = value_and_gradients(discriminator, *sure, backend="triton", option=OPTIONS[0])
    assert value == 0 and all(gradient == 0 for gradient in gradients)


def test_a_loss_scaler_s_factor_lifts_gradients_that_float16_has_not() -> None:
    real = torch.full((1, 1, 100, 100), 4.0, dtype=torch.float16, requires_grad=True)
    loss = ops.generator_loss(real, backend="triton")
    (gradient,) = torch.autograd.grad(loss, real, torch.tensor(65536.0))
    want = -65536 / 10000 / (1 + math.exp(4))
    near = unit(torch.float16) + rounding(steps=STEPS)
    torch.testing.assert_close(gradient.double(), torch.full(real.shape, want).double(), rtol=near, atol=0)


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)], ids=str)
def test_every_subset_of_gradients(wanted: tuple[bool, bool]) -> None:
    real, fake = logits(2, 1, 5, 5).requires_grad_(wanted[0]), logits(3, seed=1).requires_grad_(wanted[1])
    loss = ops.discriminator_loss(real, fake, backend="triton")
    assert loss.requires_grad == any(wanted)
    leaves = [each for each in (real, fake) if each.requires_grad]
    if not leaves:
        return
    want = torch.autograd.grad(ops.discriminator_loss(real, fake, backend="reference"), leaves)
    for have, expected in zip(torch.autograd.grad(loss, leaves), want, strict=True):
        assert_close(have, expected, steps=2 * STEPS)


def test_the_same_bits_every_time() -> None:
    real, fake = logits(50000), logits(40000, seed=1)
    first, *again = (
        value_and_gradients(discriminator, real, fake, backend="triton", option=OPTIONS[6]) for _ in range(3)
    )
    assert all(torch.equal(a, b) for each in again for a, b in zip(each, first, strict=True))


def test_a_second_differentiation_raises_or_goes_by_the_reference() -> None:
    fake, real = logits(5), logits(5, seed=1)

    def penalty(backend: str | None, loss: Callable[..., Tensor]) -> Tensor:
        leaf = fake.detach().requires_grad_()
        value = loss(leaf, backend)
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        return torch.autograd.grad(gradient.square().sum() + value, leaf)[0]

    losses: list[Callable[..., Tensor]] = [
        lambda leaf, backend: ops.generator_loss(leaf, backend=backend).square(),
        lambda leaf, backend: ops.generator_loss(leaf, backend=backend),
        lambda leaf, backend: ops.discriminator_loss(real, leaf, backend=backend).square(),
        lambda leaf, backend: ops.discriminator_loss(leaf, leaf * 2, backend=backend),
    ]
    for loss in losses:
        with pytest.raises(RuntimeError, match="second_order"):
            penalty("triton", loss)
        with ops.second_order():
            assert_close(penalty(None, loss), penalty("reference", loss), terms=5, steps=4 * STEPS)
            with pytest.raises(ValueError, match=r"no ops\.second_order\(\)"):
                penalty("triton", loss)


def test_the_gradients_beside_the_loss_cannot_be_differentiated() -> None:
    registered, labels, leaf = torch.ops.fastgan, (1.0, 0.0), logits(5).requires_grad_()
    for gradient in (
        registered.triton_discriminator_loss(leaf, logits(3), "bce", 1.0, *labels, True, False)[1],
        registered.triton_generator_loss(leaf, "bce", 1.0, True)[1],
    ):
        with pytest.raises(RuntimeError, match="second_order"):
            gradient.sum().backward()


def test_annealing_under_compile() -> None:
    real, fake = logits(2, 1, 3, 3), logits(2, 1, 3, 3, seed=1)

    def both(r: Tensor, f: Tensor, temperature: float, label: float, backend: str) -> Tensor:
        loss = ops.discriminator_loss(r, f, temperature=temperature, real_label=label, backend=backend)
        return loss + ops.generator_loss(f, temperature=temperature, backend=backend)

    torch.compiler.reset()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for temperature, label in ((4.0, 0.9), (3.1, 0.9), (2.3, 0.8), (1.2, 0.7), (1.0, 1.0)):
        leaves = real.detach().requires_grad_(), fake.detach().requires_grad_()
        have = compiled(*leaves, temperature, label, "triton")
        want = both(*leaves, temperature, label, "reference")
        assert_close(have, want, terms=18, steps=2 * STEPS)
        for ours, theirs in zip(*(torch.autograd.grad(each, leaves) for each in (have, want)), strict=True):
            assert_close(ours, theirs, steps=2 * STEPS)


def test_opcheck() -> None:
    registered = torch.ops.fastgan
    real, fake = logits(2, 1, 3, 3), logits(5, seed=1).bfloat16()
    forwards: list[tuple[Any, tuple[Any, ...]]] = [
        (registered.triton_discriminator_loss.default, (real, fake, "bce", 1.5, 0.9, 0.1, True, True)),
        (registered.triton_discriminator_loss.default, (real, fake, "hinge", 1.0, 1.0, 0.0, False, True)),
        (registered.triton_generator_loss.default, (fake, "lsgan", 1.5, True)),
    ]
    for op, given in forwards:
        torch.library.opcheck(op, given)
        # The rest would differentiate every output, and the gradients beside the loss refuse that.
        some = ("test_schema", "test_autograd_registration", "test_faketensor")
        leaves = tuple(each.detach().requires_grad_() if isinstance(each, Tensor) else each for each in given)
        torch.library.opcheck(op, leaves, test_utils=some)
    grad = torch.tensor(2.0)
    given = (grad, real, fake.float(), torch.float16, torch.bfloat16)
    torch.library.opcheck(registered.triton_discriminator_loss_backward.default, given)
    torch.library.opcheck(registered.triton_generator_loss_backward.default, (grad, real, torch.float32))


def test_direct_calls_are_guarded() -> None:
    real = logits(5)
    op = torch.ops.fastgan.triton_generator_loss
    for wrong in (real.double(), real[:0], real.int()):
        with pytest.raises(ValueError, match="expected logits"):
            op(wrong, "bce", 1.0, True)
    with pytest.raises(ValueError, match="kind must be one of bce, hinge, lsgan, wgan, got 'gan'"):
        op(real, "gan", 1.0, True)
    with pytest.raises(ValueError, match="grad must be"):
        torch.ops.fastgan.triton_generator_loss_backward(real, real, torch.float32)
