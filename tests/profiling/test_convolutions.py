"""Counting and timing of convolutions, against torch's own counter."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fastgan.models.layers import Conv2d
from fastgan.profiling.convolutions import count_convolutions, floor_seconds, total_operations

NETWORK = nn.Sequential(
    nn.Conv2d(3, 8, 5, stride=2, padding=2, padding_mode="reflect"),
    nn.Conv2d(8, 8, 3, padding="same"),
    nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
    nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1),
)


def test_operations_are_those_that_torch_counts() -> None:
    x = torch.randn(2, 3, 18, 14)
    with count_convolutions({"generator": NETWORK}) as needed, FlopCounterMode(display=False) as counter:
        NETWORK(x).sum().backward()
    assert total_operations(needed["generator"]) == counter.get_total_flops()
    assert sum(needed["generator"].values()) == 4 * 3 - 1  # nobody asks for the gradient of x


def test_only_the_gradients_that_are_taken() -> None:
    frozen, learning = nn.Conv2d(2, 2, 3).requires_grad_(False), nn.Conv2d(2, 3, 3)
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    with count_convolutions({"features": frozen, "discriminator": learning}) as needed:
        frozen(x)
        learning(x.detach())
        with torch.no_grad():
            learning(x)
    counts = {name: {each.kind: count for each, count in of.items()} for name, of in needed.items()}
    assert counts == {"features": {"forward": 1, "input": 1}, "discriminator": {"forward": 2, "weight": 1}}
    with count_convolutions({"features": frozen}) as needed:
        pass
    frozen(x)
    assert not needed["features"]


def test_an_enlarging_convolution_is_that_of_the_enlarged_image() -> None:
    with count_convolutions({"generator": (network := Conv2d(4, 8, 3, upsample=True))}) as needed, torch.no_grad():
        network(torch.randn(1, 4, 6, 5))
    (only,) = needed["generator"]
    assert only.shape == (1, 4, 12, 10) and only.output == (1, 8, 12, 10)
    assert only.operations == 2 * 8 * 4 * 9 * 12 * 10


def test_what_it_cannot_count_is_refused() -> None:
    network = nn.Conv2d(4, 4, 3, groups=2)
    with count_convolutions({"generator": network}), pytest.raises(NotImplementedError, match="2 groups"):
        network(torch.randn(1, 4, 6, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_of_them_can_be_timed(dtype: torch.dtype) -> None:
    with count_convolutions({"generator": NETWORK}) as needed:
        NETWORK(torch.randn(2, 3, 18, 14, requires_grad=True))
    assert {each.kind for each in needed["generator"]} == {"forward", "input", "weight"}
    assert 0 < floor_seconds(needed["generator"], dtype, "cpu", quick=True) < math.inf
