"""One training step under observation, and the fields of tiny runs from noise."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.config import Config
from fastgan.engine import Trainer

Make = Callable[..., Config]
NOISE: dict[str, Any] = {
    "model.name": "dcgan",
    "model.discriminator.depth": 1,
    "model.generator.z_dim": 6,
    "data.style": None,
    "data.short_side": 34,
}
PLAIN = {**NOISE, "model.discriminator.norm": "none"}
SIDES = ("generator", "discriminator")


def weights(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def grads(network: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def close(have: list[Tensor], want: Any, tolerance: float = 1e-3) -> None:
    assert len(have) == len(want)
    for a, b in zip(have, want, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance, atol=tolerance * b.abs().max().item() + 1e-8)


class Seen:
    """A step: both networks before it, what D was shown, the gradients that each optimiser took and what it made."""

    def __init__(self, trainer: Trainer, images: Tensor) -> None:
        state = trainer.state
        self.before = {"generator": copy.deepcopy(state.generator), "discriminator": copy.deepcopy(state.discriminator)}
        self.rng = torch.Generator()
        self.rng.set_state(state.rng.get_state())
        self.inputs: list[Tensor] = []
        self.grads: dict[str, list[Tensor]] = {}
        self.stepped: dict[str, list[Tensor]] = {}
        hooks = [state.discriminator.register_forward_pre_hook(lambda _, x: self.inputs.append(x[0].detach().clone()))]
        for side, optimizer in (("generator", state.optimizer_g), ("discriminator", state.optimizer_d)):
            network = getattr(state, side)
            hooks.append(
                optimizer.register_step_pre_hook(lambda *_, s=side, n=network: self.grads.update({s: grads(n)}))
            )
            hooks.append(
                optimizer.register_step_post_hook(lambda *_, s=side, n=network: self.stepped.update({s: weights(n)}))
            )
        self.metrics = trainer.step(images)
        for hook in hooks:
            hook.remove()
        self.d, self.g = self.before["discriminator"], self.before["generator"]
        self.d_updated = copy.deepcopy(state.discriminator)

    def logits(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of real and fake by D as it was, and of fake by D as it became."""
        real, fake, again = self.inputs
        return self.d(real), self.d(fake), self.d_updated(again)
