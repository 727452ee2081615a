"""The gradient penalty of the discriminator, to the second derivative (SPEC S19)."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.observed_step import PLAIN, Make, Seen, close, equal, near, weights
from helpers.tiny_runs import batch, floats
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from fastgan.losses import r1_penalty
from fastgan.models import DCGANDiscriminator, PatchGAN
from fastgan.training import Trainer


def penalty(d: Any, real: Tensor) -> Tensor:
    """E |grad sum D(x)|^2 over the logits of an image, image by image."""
    each = []
    for image in real:
        x = image[None].clone().requires_grad_()
        logits = d(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        each.append(gradient.square().sum() / logits.numel())
    return torch.stack(each).mean()


@pytest.mark.parametrize("fields", [{}, PLAIN], ids=["patch", "dcgan"])
@pytest.mark.parametrize("every", [1, 3])
def test_r1(tiny: Make, fields: dict[str, Any], every: int) -> None:
    """D descends L_D + gamma / 2 E|grad D|^2, in float64 here; taken every third step it weighs three times as much."""
    trainer = Trainer(tiny({**fields, "loss.r1": 400.0, "loss.r1_interval": every}))
    for number in range(4):
        seen = Seen(trainer, batch(number))
        d, real, fake = copy.deepcopy(seen.d).double(), seen.inputs[0].double(), seen.inputs[1].double()
        loss = F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean()
        assert seen.metrics["loss/d"] == near(loss, d)
        plain = torch.autograd.grad(loss, list(d.parameters()), retain_graph=True)
        assert ("loss/r1" in seen.metrics) == (number % every == 0)
        if number % every == 0:
            r1 = penalty(d, real)
            assert seen.metrics["loss/r1"] == near(r1, d, d, scale=0.0)  # forward and back
            whole = torch.autograd.grad(
                loss + 200.0 * every * r1, list(d.parameters()), allow_unused=True, materialize_grads=True
            )
            assert max((a - b).abs().max() / b.abs().max() for a, b in zip(whole, plain, strict=True)) > 0.05
            close(seen.grads["discriminator"], whole, d, d)  # forward and back, twice
        else:
            close(seen.grads["discriminator"], plain, d)


def test_r1_flattens_d_at_real_images(tiny: Make) -> None:
    slopes = []
    for gamma in (0.0, 100.0):
        trainer = Trainer(tiny({**PLAIN, "loss.r1": gamma, "optim.discriminator.lr": 3e-3, "train.steps": 60}))
        for number in range(30):
            trainer.train_step(batch(number % 3, 4))
        slopes.append(penalty(trainer.state.discriminator, floats(0, 4)).item())
    assert slopes[1] < 0.25 * slopes[0]


DISCRIMINATORS: dict[str, Callable[[], nn.Module]] = {
    "patch": lambda: PatchGAN(2, 1),
    "none": lambda: DCGANDiscriminator(2, size=16, norm="none"),
    "batch": lambda: DCGANDiscriminator(2, size=16, norm="batch"),
    "instance": lambda: DCGANDiscriminator(2, size=16, norm="instance"),
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_r1_has_the_right_second_derivatives(name: str) -> None:
    """Its gradient by finite differences over D's parameters, and D's own second derivatives for its input."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        d = DISCRIMINATORS[name]().double()
    for p in d.parameters():
        p.data.mul_(1 if name == "patch" else 8)  # from an initial 0.02 the penalty would hardly be above rounding
    real = floats(1, 3, 16).double()
    names = [key for key, _ in d.named_parameters()]

    def of(*parameters: Tensor) -> Tensor:
        shown: Any = SimpleNamespace(
            forward=lambda x: functional_call(d, dict(zip(names, parameters, strict=True)), (x,))
        )
        return r1_penalty(shown, real)

    parameters = tuple(p.detach().clone().requires_grad_() for p in d.parameters())
    assert of(*parameters).item() > 1e-6
    assert torch.autograd.gradcheck(of, parameters, fast_mode=True)
    assert torch.autograd.gradgradcheck(d, (real[:2].clone().requires_grad_(),), fast_mode=True)


class _Once(torch.autograd.Function):
    """As a compiled network is: no second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()


def test_r1_of_a_compiled_discriminator_is_eager(tiny: Make) -> None:
    eager, compiled = (Trainer(tiny({"loss.r1": 5.0})) for _ in range(2))
    d, calls = compiled.state.discriminator, []

    def call(x: Tensor) -> Tensor:
        calls.append(x)
        return d._call_impl(_Once.apply(x))

    d._compiled_call_impl = call
    for number in range(2):
        assert compiled.train_step(batch(number))["loss/r1"] == eager.train_step(batch(number))["loss/r1"]
    assert len(calls) == 6 and equal(weights(d), weights(eager.state.discriminator))
