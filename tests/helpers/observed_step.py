"""One training step under observation, and the fields of tiny runs from noise."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from helpers.bounds import approx, assert_close, rounding
from helpers.networks import sums
from torch import Tensor, nn

from fastgan.config import Config
from fastgan.training import Trainer

Make = Callable[..., Config]
NOISE: dict[str, Any] = {
    "model.name": "dcgan",
    "model.discriminator.depth": 1,
    "loss.adversarial": 1.0,
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
#: Of a batch of four: what the gradient of a weight adds.
PIXELS = 4 * 32 * 32
#: Of a batch of four; a patch has some 4 px a side.
LOGITS = 4 * 8 * 8


def near(value: Tensor | float, *networks: nn.Module, scale: float | None = None) -> Any:
    """A loss or measure of what ``networks`` make, computed twice in float32: their passes, and a mean over pixels.

    ``scale`` is the size of the terms that the value sums, 0.0 where they are of one sign and as large as their sum.
    Without one it is 1, as of logarithms of D's probabilities, and the value must be large enough beside that for the
    bound to say something.
    """
    number = value.item() if isinstance(value, Tensor) else value
    steps = 2 * (sums(*networks) + math.ceil(math.sqrt(3 * PIXELS)))
    if scale is None:
        scale = 1.0
        assert rounding(1, steps) * scale < 0.05 * abs(number), f"{number} is too small for a scale of 1: name its own"
    return approx(number, steps=steps, scale=scale)


def close(have: Sequence[Tensor], want: Sequence[Tensor], network: nn.Module, *others: nn.Module) -> None:
    """Gradients of ``network``'s parameters for a loss that lies behind ``others``, computed twice in float32.

    Both pass forward and back, and add over pixels. Each is within rounding of the largest gradient of its module: a
    bias before a norm has a gradient of terms that cancel, and they are as large as its weight's. In D's last bias the
    slopes of real and fake images cancel, each at most 2 an image (or a patch, of its share), and nothing else adds to
    it: R1's gradient has no part in it. ``others`` must have no kinks (see ``smooth_encoder``); of the some 10^4 units
    of a tiny network, none is expected within rounding of one.
    """
    steps = 2 * (2 * sums(network, *others) + math.ceil(math.sqrt(PIXELS)))
    names = [name for name, _ in network.named_parameters()]
    modules = [name.rpartition(".")[0] for name in names]
    scales = dict.fromkeys(modules, 0.0)
    for module, b in zip(modules, want, strict=True):
        scales[module] = max(scales[module], b.abs().max().item())
    for name, module, a, b in zip(names, modules, have, want, strict=True):
        if name == "to_logit.bias":
            assert_close(a, b, terms=LOGITS, steps=2, dtype=torch.float32, scale=2.0)
        else:
            assert_close(a, b, steps=steps, dtype=torch.float32, scale=scales[module])


class Seen:
    """A step: both networks before it, what D was shown, the gradients that each optimizer took and what it made."""

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
        """Logits of real and fake by D as it was, and of fake by D as it became."""
        real, fake, again = self.inputs
        return self.d(real), self.d(fake), self.d_updated(again)


def luminance_difference(result: Tensor, content: Tensor) -> Tensor:
    """``LuminanceLoss`` as an oracle, cell by cell of images whose sides are multiples of 8: one value an image."""
    values = []
    for pair in zip(result, content, strict=True):
        cells = []
        for red, green, blue in pair:
            luma = (0.299 * red + 0.587 * green + 0.114 * blue) / 2
            rows = [row.unflatten(1, (-1, 8)).mean((0, 2)) for row in luma.split(8)]
            cells.append(torch.cat(rows) - torch.cat(rows).mean())
        one, other = cells
        slope = min(max((one.detach() @ other / (other @ other)).item(), 0.5), 2.0)
        values.append((one - slope * other).square().mean() / 0.25**2)
    return torch.stack(values)
