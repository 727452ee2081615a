"""Bounds of rounding errors of whole networks."""

import math

import torch
import torch.nn.functional as F
from helpers.bounds import unit
from torch import Tensor, nn

from fastgan.models.layers import MomentRecorder

Convolution = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
Norm = MomentRecorder | nn.BatchNorm2d


def sums(*networks: nn.Module, plane: int = 32 * 32) -> int:
    """The ``steps`` of ``helpers.bounds.rounding`` of a pass through networks; comparing two passes takes both's.

    Those are the roots of the numbers of terms that each layer with weights and each norm adds, together: a layer's
    inputs to one output, a norm's ``plane`` (H * W, for batch norm N * H * W). Both keep the size of errors beside that
    of values, but for a norm of a plane without deviation, which makes errors larger: no bound holds there.
    """
    layers = [layer for network in networks for layer in _layers(network)]
    norms = [m for network in networks for m in network.modules() if isinstance(m, Norm)]
    return math.ceil(sum(math.sqrt(_weight(layer)[0].numel()) for layer in layers) + len(norms) * math.sqrt(plane))


def assert_close_in_bfloat16(have: Tensor, want: Tensor, *networks: nn.Module, scale: float | None = None) -> None:
    """A pass in bfloat16 against one in float32, by the root of the mean square, over all or of ``scale``.

    A layer's weights and what layers and norms give are each off by at most the unit roundoff of themselves, and sums
    are added in float32: no more than all of these together.
    """
    modules = [module for network in networks for module in network.modules()]
    roundings = sum(2 * isinstance(module, Convolution) + isinstance(module, Norm) for module in modules)
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
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
