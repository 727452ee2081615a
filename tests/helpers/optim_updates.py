"""Updates by `ops.optim_step` beside those of torch.optim and of the reference in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from helpers.bounds import rounding, unit
from torch import Tensor

from fastgan import ops

#: What rounds in a state of an update (a product, a square, a sum), and between the gradient and the change of a
#: parameter: in Adam, which is the longest, two states, a root, two divisions, a sum, a product, and four factors.
STATE_ROUNDINGS, ROUNDINGS = 3, 14


def drift(size: Tensor | float, moved: Tensor | float, updates: int) -> Tensor | float:
    """How far two right float32 rules are apart after ``updates`` of the same gradients.

    An update rounds a parameter, of ``size``, once, and its change ``ROUNDINGS`` times; ``moved`` is the sum of the
    changes' sizes.
    """
    return rounding(updates, 2) * size + rounding(updates, 2 * ROUNDINGS) * moved


@dataclass(frozen=True)
class Rule:
    kind: str
    beta1: float
    lr: float = 1e-2
    beta2: float = 0.99

    def __str__(self) -> str:
        return f"{self.kind}-{self.beta1:g}"

    @property
    def states(self) -> int:
        return {"adam": 2, "rmsprop": 1 + (self.beta1 > 0), "sgd": int(self.beta1 > 0)}[self.kind]

    def optimizer(self, param: Tensor) -> torch.optim.Optimizer:
        if self.kind == "adam":
            return torch.optim.Adam([param], lr=self.lr, betas=(self.beta1, self.beta2), foreach=True)
        if self.kind == "rmsprop":
            return torch.optim.RMSprop([param], lr=self.lr, alpha=self.beta2, momentum=self.beta1, foreach=True)
        return torch.optim.SGD([param], lr=self.lr, momentum=self.beta1, foreach=True)

    def options(self, **others: Any) -> dict[str, Any]:
        return {"kind": self.kind, "lr": self.lr, "beta1": self.beta1, "beta2": self.beta2, **others}


#: A beta1 of 0.5 is where torch.lerp changes its form.
RULES = (
    Rule("adam", 0.9),
    Rule("adam", 0.5),
    Rule("adam", 0.0, beta2=0.999),
    Rule("rmsprop", 0.0),
    Rule("rmsprop", 0.5),
    Rule("sgd", 0.0),
    Rule("sgd", 0.9),
)
FEW = (RULES[0], RULES[4], RULES[6])


@dataclass
class Flat:
    """The tensors that an update reads and writes."""

    param: Tensor
    grad: Tensor
    state: tuple[Tensor, ...]
    ema: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.param, *self.state, self.ema

    def wide(self) -> Flat:
        state = tuple(each.double() for each in self.state)
        return Flat(self.param.double(), self.grad.double(), state, self.ema.double())

    def copy(self) -> Flat:
        state = tuple(each.clone() for each in self.state)
        return Flat(self.param.clone(), self.grad.clone(), state, self.ema.clone())


def midway(rule: Rule, length: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Flat:
    """A run some steps in: states that gradients of that size make."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(length, generator=generator)

    grad = normal().to(dtype)
    state = tuple(
        normal().square() + 1e-3 if i == (rule.kind == "adam") and rule.kind != "sgd" else 0.3 * normal()
        for i in range(rule.states)
    )
    return Flat(normal(), grad, state, normal())


def compare_with_float64(rule: Rule, length: int, dtype: torch.dtype, backend: str, **others: Any) -> None:
    """One update; errors at most twice those of the reference in float32, and each operation's rounding once."""
    start = midway(rule, length, dtype)
    others = {"step": 3, **others}

    def run(flat: Flat, backend: str) -> Flat:
        given = {name: value.clone() if isinstance(value, Tensor) else value for name, value in others.items()}
        if "ema_decay" in given:
            given["ema"] = flat.ema
        ops.optim_step(flat.param, flat.grad, flat.state, **rule.options(**given), backend=backend)
        return flat

    # The numbers on the device stay float32 in both; what they are is not the update's error.
    exact = run(start.wide(), "reference").tensors()
    usual = run(start.copy(), "reference").tensors()
    have = run(start.copy(), backend).tensors()
    for i, (old, a, b, c) in enumerate(zip(start.tensors(), exact, usual, have, strict=True)):
        floor = STATE_ROUNDINGS * a.abs().amax() + ROUNDINGS * (a - old).abs().amax()
        allowed = 2 * (b.double() - a).abs().amax() + unit(torch.float32) * floor
        error = (c.double() - a).abs().amax()
        assert error <= allowed, f"tensor {i}: {error:.3g} above {allowed:.3g}"
    assert not torch.equal(have[0], start.param)


def follow_torch(rule: Rule, length: int, backend: str, steps: int = 20, **others: Any) -> None:
    """The trajectory of torch.optim: after every step within ``drift``."""
    generator = torch.Generator().manual_seed(1)
    theirs = torch.nn.Parameter(torch.randn(length, generator=generator))
    ours = theirs.detach().clone()
    state = tuple(torch.zeros(length) for _ in range(rule.states))
    optimizer = rule.optimizer(theirs)
    moved = torch.zeros(())
    for number in range(1, steps + 1):
        grad = torch.randn(length, generator=generator)
        theirs.grad = grad.clone()
        before = theirs.detach().clone()
        optimizer.step()
        moved += (theirs.detach() - before).abs().amax()
        given = {"step": number, **others}
        ops.optim_step(ours, grad, state, **rule.options(**given), backend=backend)
        limit = drift(theirs.detach().abs().amax(), moved, number)
        assert (ours - theirs.detach()).abs().amax() <= limit, f"step {number}"
    kept = optimizer.state[theirs]
    names = {"adam": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg", "momentum_buffer")}
    for name, have in zip(names.get(rule.kind, ("momentum_buffer",)), state, strict=False):
        want = kept[name]
        assert (have - want).abs().amax() <= rounding(steps, 2 * STATE_ROUNDINGS) * want.abs().amax(), name
