"""One training step under observation, and the fields of tiny runs from noise."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from helpers.bounds import approx, assert_close, rounding
from torch import Tensor, nn

from fastgan.config import Config
from fastgan.training import Trainer

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


#: 10 / ln 10: what a relative error of the mean square error moves, in dB.
DECIBELS = 4.35
#: Pixels of a plane, what a norm adds; and of a batch of four, what the gradient of a weight adds.
PLANE, PIXELS = 32 * 32, 4 * 32 * 32
#: Of a batch of four; a patch has some 4 px a side.
LOGITS = 4 * 8 * 8


def sums(*networks: nn.Module) -> int:
    """The steps of ``helpers.bounds.rounding`` of a pass through networks: the roots of the numbers of terms that each
    layer adds, together. That is C k k for a convolution, a plane for a norm."""
    modules = [module for network in networks for module in network.modules()]
    kernels = [module.weight for module in modules if isinstance(getattr(module, "weight", None), Tensor)]
    kernels = [weight for weight in kernels if weight.ndim > 1]
    norms = sum("Norm" in type(module).__name__ for module in modules)
    return math.ceil(sum(math.sqrt(weight[0].numel()) for weight in kernels) + norms * math.sqrt(PLANE))


def near(value: Tensor | float, *networks: nn.Module, scale: float = 1.0) -> Any:
    """A loss or measure of what ``networks`` make, computed twice in float32: their passes, and a mean over pixels."""
    number = value.item() if isinstance(value, Tensor) else value
    return approx(number, steps=2 * (sums(*networks) + math.ceil(math.sqrt(3 * PIXELS))), scale=scale)


def close(have: Sequence[Tensor], want: Sequence[Tensor], network: nn.Module, *others: nn.Module) -> None:
    """Gradients of ``network``'s parameters for a loss that lies behind ``others``, computed twice in float32.

    Both pass forward and back, and add over pixels. Each is within rounding of the largest gradient of its module: a
    bias before a norm has a gradient of terms that cancel, and they are as large as its weight's. In D's last bias the
    slopes of real and fake images cancel, each at most 1 an image (or a patch, of its share). ``others`` must have no
    kinks (see ``smooth_encoder``); of the some 10^4 units of a tiny network, none is expected within rounding of one.
    """
    steps = 2 * (2 * sums(network, *others) + math.ceil(math.sqrt(PIXELS)))
    modules = [name.rpartition(".")[0] for name, _ in network.named_parameters()]
    scales = dict.fromkeys(modules, 0.0)
    for module, b in zip(modules, want, strict=True):
        scales[module] = max(scales[module], b.abs().max().item())
    last = [name for name, _ in network.named_parameters()].index("to_logit.bias") if "to_logit" in modules else -1
    for i, (module, a, b) in enumerate(zip(modules, have, want, strict=True)):
        slopes = rounding(LOGITS, 2) / rounding(1, steps) if i == last else 0.0
        assert_close(a, b, steps=steps, dtype=torch.float32, scale=scales[module] + slopes)


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
        self.metrics = trainer.train_step(images)
        for hook in hooks:
            hook.remove()
        self.d, self.g = self.before["discriminator"], self.before["generator"]
        self.d_updated = copy.deepcopy(state.discriminator)

    def logits(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of real and fake by D as it was, and of fake by D as it became."""
        real, fake, again = self.inputs
        return self.d(real), self.d(fake), self.d_updated(again)
