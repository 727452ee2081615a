"""A small generator, the rules that train it, and how far two of them may differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.optim_updates import drift
from torch import nn

from fastgan.config.sections import OptimizerConfig
from fastgan.models import FastGenerator

CONFIGS = [
    OptimizerConfig(name="adam", lr=1e-3, beta1=0.9),
    OptimizerConfig(name="adam", lr=1e-3, beta1=0.5, beta2=0.999),
    OptimizerConfig(name="rmsprop", lr=1e-3, beta1=0.0),
    OptimizerConfig(name="rmsprop", lr=1e-3, beta1=0.5),
    OptimizerConfig(name="sgd", lr=1e-2, beta1=0.0),
    OptimizerConfig(name="sgd", lr=1e-2, beta1=0.9),
]


def told(config: OptimizerConfig) -> str:
    return f"{config.name}-{config.beta1:g}"


every_rule = pytest.mark.parametrize("config", CONFIGS, ids=told)


def generator() -> nn.Module:
    """A small one, with weights in channels_last as the engine has them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = FastGenerator(4, 1)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def backward(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> float:
    seeds = torch.Generator().manual_seed(number)
    x, y = (torch.rand(2, 3, 16, 16, generator=seeds) for _ in range(2))
    optimizer.zero_grad()
    loss = (network(x) - y).square().mean()
    loss.backward()
    return loss.item()


def learn(network: nn.Module, optimizer: torch.optim.Optimizer, number: int, **options: Any) -> float:
    loss = backward(network, optimizer, number)
    optimizer.step(**options)
    return loss


class Watched:
    """A network that updates change, and how far each of its parameters went in all, as ``drift`` needs it."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.updates = network, 0
        self.last = [p.detach().clone() for p in network.parameters()]
        self.moved = [torch.zeros(()) for _ in self.last]

    def updated(self) -> None:
        self.updates += 1
        for i, p in enumerate(self.network.parameters()):
            self.moved[i] += (p.detach() - self.last[i]).abs().max()
            self.last[i] = p.detach().clone()

    def assert_same(self, have: nn.Module) -> None:
        """Another rule's, from the same gradients."""
        for (name, a), b, moved in zip(have.named_parameters(), self.network.parameters(), self.moved, strict=True):
            assert (a - b).abs().max() <= drift(b.abs().max(), moved, self.updates), name


def assert_equal(have: nn.Module, want: nn.Module) -> None:
    for (name, a), b in zip(have.named_parameters(), want.parameters(), strict=True):
        assert torch.equal(a, b), name
