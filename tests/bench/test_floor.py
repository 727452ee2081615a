"""The convolutions of a step: which run, what they cost, with torch's own counter as the judge."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fastgan.bench.floor import least_seconds, recorded
from fastgan.models.layers import Conv3x3

NETWORK = nn.Sequential(
    nn.Conv2d(3, 8, 5, stride=2, padding=2, padding_mode="reflect"),
    nn.Conv2d(8, 8, 3, padding="same", dilation=2),
    nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
    nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1),
)
#: torch's counter passes over the groups in the gradient of the weight.
GROUPED = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 3, groups=2))


def test_operations_are_those_that_torch_counts() -> None:
    x = torch.randn(2, 3, 18, 14)
    with recorded({"generator": NETWORK}) as found, FlopCounterMode(display=False) as counter:
        NETWORK(x).sum().backward()
    assert sum(each.flop * len(each.passes) for each in found) == counter.get_total_flops()
    assert [each.passes for each in found] == [("forward", "weight"), *[("forward", "input", "weight")] * 3]
    with recorded({"generator": GROUPED}) as found, FlopCounterMode(display=False) as counter, torch.no_grad():
        GROUPED(torch.randn(2, 4, 9, 9))
    assert sum(each.flop for each in found) == counter.get_total_flops()


def test_only_the_gradients_that_are_taken() -> None:
    frozen, learning = nn.Conv2d(2, 2, 3).requires_grad_(False), nn.Conv2d(2, 2, 3)
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    with recorded({"features": frozen, "discriminator": learning}) as found:
        frozen(x)
        learning(x.detach())
        with torch.no_grad():
            learning(x)
    assert [(each.network, each.passes) for each in found] == [
        ("features", ("forward", "input")),
        ("discriminator", ("forward", "weight")),
        ("discriminator", ("forward",)),
    ]
    with recorded({"features": frozen}) as found:
        pass
    frozen(x)
    assert found == []


def test_an_enlarging_convolution_is_that_of_the_enlarged_image() -> None:
    conv = Conv3x3(4, 8, upsample=True)
    x = torch.randn(1, 4, 6, 5)
    with recorded({"generator": conv}) as found:
        conv(x)
    (only,) = found
    assert only.input == (1, 4, 12, 10) and only.output == (1, 8, 12, 10)
    assert only.flop == 2 * 8 * 4 * 9 * 12 * 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_seconds(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 18, 14)
    with recorded({"generator": NETWORK, "discriminator": GROUPED}) as found:
        NETWORK(x)
        GROUPED(torch.randn(2, 4, 9, 9))
    least = least_seconds(found, torch.device("cpu"), dtype, repeats=2)
    assert set(least) == {"generator", "discriminator"} and all(0 < seconds < 10 for seconds in least.values())
