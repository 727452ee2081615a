"""The convolution floor: how long torch takes for nothing but the convolutions that a step or a picture needs.

The shapes are those of the plain networks. A forward convolution, the gradient of its input and that of its weight are
one each, where they are needed: VGG-19 is frozen, nobody asks for the gradient of a photograph, and the generator's
update needs no gradient of the discriminator's weights. What takes less than the floor does fewer operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastgan.bench.baselines.networks import PlainDiscriminator, PlainEncoder, PlainGenerator
from fastgan.bench.roofline import best_seconds

Pass = Literal["forward", "input", "weight"]


@dataclass(frozen=True)
class Convolution:
    """One pass of one convolution; the shape is of what it reads, reflected border included."""

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    kind: Pass

    @property
    def output(self) -> tuple[int, ...]:
        """(N, C, H, W) of the forward pass."""
        sides = zip(self.shape[2:], self.weight[2:], self.stride, self.padding, strict=True)
        return self.shape[0], self.weight[0], *((n + 2 * p - k) // s + 1 for n, k, s, p in sides)

    @property
    def operations(self) -> float:
        """A multiply-add is two; each pass has as many."""
        n, c, h, w = self.output
        return 2.0 * n * c * h * w * self.weight[1] * self.weight[2] * self.weight[3]


def of_step(size: int, batch: int) -> Counter[Convolution]:
    """What one training step needs (DESIGN: the step), with how often."""
    with torch.device("meta"):
        images = torch.empty(batch, 3, size, size)
        generator, discriminator, encoder = PlainGenerator(), PlainDiscriminator(), PlainEncoder()
    needed: Counter[Convolution] = Counter()
    needed += _of(encoder, images, ("forward",))
    needed += _of(generator, images, ("forward", "weight", "input"), from_photograph=True)
    for _ in ("real", "fake"):
        needed += _of(discriminator, images, ("forward", "weight", "input"), from_photograph=True)
    needed += _of(discriminator, images, ("forward", "input"))
    needed += _of(encoder, images, ("forward", "input"))
    return needed


def of_picture(size: int) -> Counter[Convolution]:
    """What stylising one picture needs."""
    with torch.device("meta"):
        return _of(PlainGenerator(), torch.empty(1, 3, size, size), ("forward",))


def operations(needed: Counter[Convolution]) -> float:
    """Of all of them."""
    return sum(convolution.operations * count for convolution, count in needed.items())


def seconds(needed: Counter[Convolution], dtype: torch.dtype, device: str, *, quick: bool = False) -> float:
    """The time of all of them by torch in channels_last, each the best of some, one after another."""
    times = 1 if quick else 20 if device == "cuda" else 4
    return sum(
        best_seconds(_call(convolution, dtype, device), device, times) * count for convolution, count in needed.items()
    )


def _call(convolution: Convolution, dtype: torch.dtype, device: str) -> Callable[[], Any]:
    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), device=device).to(dtype).contiguous(memory_format=torch.channels_last)

    x, weight = random(convolution.shape), random(convolution.weight)
    stride, padding = list(convolution.stride), list(convolution.padding)
    if convolution.kind == "forward":
        return lambda: torch.ops.aten.convolution(x, weight, None, stride, padding, [1, 1], False, [0, 0], 1)
    gradient = random(convolution.output)
    mask = [convolution.kind == "input", convolution.kind == "weight", False]
    return lambda: torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask
    )


def _of(
    network: nn.Module, images: Tensor, passes: Sequence[Pass], *, from_photograph: bool = False
) -> Counter[Convolution]:
    """The passes of every convolution that a forward meets; the first one's input may need no gradient."""
    found: Counter[Convolution] = Counter()
    met = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal met
        assert isinstance(module, nn.Conv2d)
        border = tuple(int(side) for side in module.padding)
        n, c, h, w = inputs[0].shape
        if module.padding_mode == "reflect":
            h, w, border = h + 2 * border[0], w + 2 * border[1], (0, 0)
        for kind in passes:
            if not (kind == "input" and from_photograph and met == 0):
                found[Convolution((n, c, h, w), tuple(module.weight.shape), module.stride, border, kind)] += 1
        met += 1

    hooks = [module.register_forward_pre_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return found
