"""Bounds of rounding errors of whole networks."""

import torch
import torch.nn.functional as F
from helpers.bounds import unit
from torch import Tensor, nn

from fastgan.models.layers import MomentRecorder

Convolution = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def passes(*networks: nn.Module, plane: int = 1, count: int = 2) -> dict[str, int]:
    """``terms`` and ``steps`` of ``helpers.bounds`` for ``count`` passes through networks: the two that are compared.

    A layer with weights and a norm are a step each. The longest sum is of a layer's inputs to one output or of a norm's
    ``plane`` (H * W, for batch norm N * H * W). Both keep the size of errors beside that of values, but for a norm of a
    plane without deviation, which makes errors larger: no bound holds there.
    """
    layers = [layer for network in networks for layer in _layers(network)]
    norms = [m for network in networks for m in network.modules() if isinstance(m, MomentRecorder | nn.BatchNorm2d)]
    longest = max(_weight(layer)[0].numel() for layer in layers)
    return {"terms": max(longest, plane), "steps": count * (len(layers) + len(norms))}


def assert_close_in_bfloat16(have: Tensor, want: Tensor, *networks: nn.Module, scale: float | None = None) -> None:
    """A pass in bfloat16 against one in float32, by the root of the mean square, over all or of ``scale``.

    A layer's weights and what layers and norms give are each off by at most the unit roundoff of themselves, and sums
    are added in float32: no more than all of these together.
    """
    roundings = passes(*networks, count=1)["steps"] + sum(len(_layers(network)) for network in networks)
    size = want.detach().double().square().mean().sqrt().item() if scale is None else scale
    error = (have.detach().double() - want.detach().double()).square().mean().sqrt().item()
    assert have.shape == want.shape and error <= roundings * unit(torch.bfloat16) * size


def usual_size(layer: nn.Conv2d | nn.Linear, x: Tensor) -> float:
    """The largest output that ``layer`` has for ``x`` where terms have random signs: the root of their squares' sum.

    The ``scale`` of a few outputs, such as logits, all of which may happen to be smaller.
    """
    with torch.no_grad():
        squares, weights = x.double().square(), layer.weight.double().square()
        sums = (
            F.linear(squares, weights)
            if isinstance(layer, nn.Linear)
            else F.conv2d(squares, weights, None, layer.stride, layer.padding)
        )
    return sums.max().sqrt().item()


def _layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, Convolution)]


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.get_parameter("weight")
    return weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
