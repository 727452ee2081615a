"""``torch.compile`` is kept only where it computes what eager does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_runs import Recorder, batch
from torch import Tensor, nn

from fastgan.config import Config
from fastgan.engine import Trainer
from fastgan.engine.compile import compile_verified
from fastgan.models import FastGenerator, VGGEncoder

CPU = torch.device("cpu")


@pytest.fixture
def example(rng: torch.Generator) -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1


def compiles_to(monkeypatch: pytest.MonkeyPatch, make: Callable[[nn.Module], Callable[..., Any]]) -> None:
    """``module.compile()`` calls what ``make`` gives instead of a compiled forward."""
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", make(self)))


def test_kept_where_it_agrees(example: Tensor) -> None:
    """Traced and differentiated for real, by the compiler's front half; its code generator takes too long here."""
    for network in (FastGenerator(4, 1), VGGEncoder(("relu1_1", "relu2_1"), "random")):
        names = list(network.state_dict())
        compile_with = network.compile
        network.compile = lambda compile_with=compile_with: compile_with(backend="aot_eager")  # type: ignore
        want = network(example)
        assert compile_verified(network, example, CPU, torch.float32) is None
        assert network._compiled_call_impl is not None
        assert list(network.state_dict()) == names  # a checkpoint fits with and without
        have = network(example)
        if isinstance(have, dict):
            have, want = have["relu2_1"], want["relu2_1"]
        torch.testing.assert_close(have, want, rtol=1e-3, atol=1e-4)


def wrong_output(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network.forward(x) + 0.01


def wrong_gradient(network: nn.Module) -> Callable[[Tensor], Tensor]:
    class Lying(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return 1.05 * gradient

    return lambda x: network.forward(Lying.apply(x))


def not_a_number(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network.forward(x) * float("nan")


def failing(network: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        raise RuntimeError("no compiler was found\nlong trace")

    return call


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (wrong_output, "its output differs from eager's"),
        (wrong_gradient, "its gradient differs from eager's"),
        (not_a_number, "its output differs"),
        (failing, "RuntimeError: no compiler was found"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_dropped_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch, example: Tensor, make: Callable[..., Any], reason: str
) -> None:
    compiles_to(monkeypatch, make)
    network = FastGenerator(4, 1)
    want, names = network(example), list(network.state_dict())
    told = compile_verified(network, example, CPU, torch.float32)
    assert told is not None and told.startswith(reason) and "\n" not in told
    assert torch.equal(network(example), want) and list(network.state_dict()) == names


def test_a_run_says_what_is_not_compiled_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Config]
) -> None:
    compiles_to(monkeypatch, failing)
    watch = Recorder()
    trainer = Trainer(tiny({"train.compile": True, "train.steps": 1}), data=[batch(0)], callbacks=[watch])
    assert trainer.fit()["steps"] == 1
    told = [event.text.split(" is not compiled: ")[0] for event in watch.of("on_message")]
    assert told == ["the generator", "the discriminator", "the encoder"]


def test_not_compiled_unless_asked(monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Config]) -> None:
    compiles_to(monkeypatch, failing)
    watch = Recorder()
    Trainer(tiny({"train.steps": 1}), data=[batch(0)], callbacks=[watch]).fit()
    assert watch.of("on_message") == []
