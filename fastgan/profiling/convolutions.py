"""Counts the convolutions that run in networks, forward and backward, and times each by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastgan.profiling.timer import best_seconds

Pass = Literal["forward", "input", "weight"]


@dataclass(frozen=True)
class Convolution:
    """One pass of one convolution; ``shape`` is of the padded input where the padding is reflected."""

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
        """Operations of the direct convolution, two for a multiply-add; the same for each pass."""
        n, c, h, w = self.output
        return 2.0 * n * c * h * w * self.weight[1] * self.weight[2] * self.weight[3]


ConvolutionCounts = Counter[Convolution]


@contextmanager
def count_convolutions(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, ConvolutionCounts]]:
    """Count, by the name of the network, the convolutions that run meanwhile and the gradients they will be asked for.

    Only eager networks are seen, not compiled ones; gradients of gradients (R1) are not counted.
    """
    counts: dict[str, ConvolutionCounts] = {name: Counter() for name in networks}

    def make_hook(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            counts[name].update(_passes(module, inputs[0], output))

        return hook

    handles = []
    try:
        for name, network in networks.items():
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    handles.append(module.register_forward_hook(make_hook(name)))
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def total_operations(counts: ConvolutionCounts) -> float:
    """Operations of all of them."""
    return sum(convolution.operations * count for convolution, count in counts.items())


def floor_seconds(counts: ConvolutionCounts, dtype: torch.dtype, device: str, *, quick: bool = False) -> float:
    """Seconds that torch takes for all of them in channels_last, one after another, each the best of some runs."""
    repeats = 1 if quick else 20 if device == "cuda" else 4
    return sum(
        best_seconds(_make_call(convolution, dtype, device), device, repeats) * count
        for convolution, count in counts.items()
    )


def _make_call(convolution: Convolution, dtype: torch.dtype, device: str) -> Callable[[], Any]:
    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), device=device).to(dtype).contiguous(memory_format=torch.channels_last)

    x, weight = random(convolution.shape), random(convolution.weight)
    stride, padding = list(convolution.stride), list(convolution.padding)
    if convolution.kind == "forward":
        return lambda: torch.ops.aten.convolution(x, weight, None, stride, padding, [1, 1], False, [0, 0], 1)
    grad_output = random(convolution.output)
    mask = [convolution.kind == "input", convolution.kind == "weight", False]
    return lambda: torch.ops.aten.convolution_backward(
        grad_output, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask
    )


def _passes(module: Any, x: Tensor, output: Tensor) -> list[Convolution]:
    if module.groups != 1 or set(module.dilation) != {1}:
        raise NotImplementedError(f"a convolution of {module.groups} groups, dilation {module.dilation}")
    needs_grad = torch.is_grad_enabled()
    kinds: list[Pass] = ["forward"]
    kinds += ["input"] if needs_grad and x.requires_grad else []
    kinds += ["weight"] if needs_grad and module.weight.requires_grad else []
    n, c, h, w = x.shape
    padding = module.padding
    if isinstance(padding, str):
        padding = tuple(side // 2 if padding == "same" else 0 for side in module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        # It is the input gradient of a convolution, and its own input gradient is that convolution.
        transposed: dict[Pass, Pass] = {"forward": "input", "input": "forward", "weight": "weight"}
        shape, kinds = tuple(output.shape), [transposed[kind] for kind in kinds]
    else:
        scale = 2 if getattr(module, "upsample", False) else 1  # counted as the convolution of the enlarged image
        h, w = scale * h, scale * w
        if module.padding_mode != "zeros":
            h, w, padding = h + 2 * padding[0], w + 2 * padding[1], (0, 0)
        shape = (n, c, h, w)
    return [
        Convolution(shape, tuple(module.weight.shape), tuple(module.stride), tuple(padding), kind) for kind in kinds
    ]
