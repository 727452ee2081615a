"""The floor of a training step: its convolutions alone, each pass of each timed by itself in plain torch.

A step has to compute these; all else in it (norms, losses, copies, Python) comes on top. It is no bound to an engine
that computes convolutions in fewer operations than torch does: a fraction above 1 says so.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.bench.measure import _cuda_clock, _wall_clock

_KINDS = (nn.Conv2d, nn.ConvTranspose2d)
#: What a convolution is made to do: the pass, and which of (input, weight) it gives the gradient of.
_GRADIENTS = {"input": [True, False, False], "weight": [False, True, False]}


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One call of a convolution in a step, and which gradients of it the step takes.

    A convolution that enlarges its input before (``upsample``) stands for the one on the enlarged input.

    Attributes:
        network: whose it is.
        input: (N, C, H, W).
        output: (N, K, H', W').
        weight: (K, C / groups, kh, kw); transposed: (C, K / groups, kh, kw).
    """

    network: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    transposed: bool
    of_input: bool
    of_weight: bool

    @property
    def passes(self) -> tuple[str, ...]:
        """``forward``, and ``input`` and ``weight`` for the gradients taken."""
        return ("forward", *(["input"] if self.of_input else []), *(["weight"] if self.of_weight else []))

    @property
    def flop(self) -> float:
        """Operations of one pass, all have as many: 2 a product of the direct convolution."""
        n, c = self.input[:2]
        kernel = self.weight[2] * self.weight[3]
        if self.transposed:
            return 2.0 * n * c * self.weight[1] * kernel * self.input[2] * self.input[3]
        return 2.0 * n * self.weight[0] * self.weight[1] * kernel * self.output[2] * self.output[3]


@contextmanager
def recorded(networks: Mapping[str, nn.Module]) -> Iterator[list[Convolution]]:
    """Lists the convolutions that run meanwhile in ``networks``, eager ones: a compiled network shows none.

    The gradient of a gradient (R1) is not seen.
    """
    found: list[Convolution] = []

    def hook(network: str) -> Any:
        def note(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found.append(_of(network, module, inputs[0], output))

        return note

    handles = []
    try:
        for name, network in networks.items():
            for module in network.modules():
                if isinstance(module, _KINDS):
                    handles.append(module.register_forward_hook(hook(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def least_seconds(
    convolutions: list[Convolution], device: torch.device, dtype: torch.dtype, *, repeats: int = 5
) -> dict[str, float]:
    """Seconds of all passes of ``convolutions`` by network: of each the best of ``repeats`` after one that warms up."""
    totals = dict.fromkeys((each.network for each in convolutions), 0.0)
    alike = Counter(dataclasses.replace(each, network="", of_input=False, of_weight=False) for each in convolutions)
    for kind in alike:
        times: dict[str, float] = {}
        for each in convolutions:
            if dataclasses.replace(each, network="", of_input=False, of_weight=False) != kind:
                continue
            for name in each.passes:
                if name not in times:
                    times[name] = _seconds(each, name, device, dtype, repeats)
                totals[each.network] += times[name]
    return totals


def _of(network: str, module: Any, x: Tensor, output: Tensor) -> Convolution:
    n, c, h, w = x.shape
    scale = 2 if getattr(module, "upsample", False) else 1
    padding = module.padding
    if isinstance(padding, str):
        same = tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))
        padding = same if padding == "same" else (0, 0)
    learning = torch.is_grad_enabled()
    return Convolution(
        network=network,
        input=(n, c, scale * h, scale * w),
        output=tuple(output.shape),
        weight=tuple(module.weight.shape),
        stride=tuple(module.stride),
        padding=tuple(padding),
        dilation=tuple(module.dilation),
        output_padding=tuple(module.output_padding),
        groups=module.groups,
        transposed=isinstance(module, nn.ConvTranspose2d),
        of_input=learning and x.requires_grad,
        of_weight=learning and module.weight.requires_grad,
    )


def _seconds(each: Convolution, name: str, device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    def drawn(shape: tuple[int, ...]) -> Tensor:
        rng = torch.Generator(device).manual_seed(0)
        made = torch.randn(shape, generator=rng, device=device).to(dtype)
        return made.contiguous(memory_format=torch.channels_last)

    x, weight = drawn(each.input), drawn(each.weight)
    options = (each.stride, each.padding, each.dilation, each.transposed, each.output_padding, each.groups)

    def forward() -> Any:
        return torch.ops.aten.convolution(x, weight, None, *options)

    work = forward
    if name != "forward":
        grad = drawn(tuple(forward().shape))

        def backward() -> Any:
            return torch.ops.aten.convolution_backward(grad, x, weight, None, *options, _GRADIENTS[name])

        work = backward
    clock = _cuda_clock if device.type == "cuda" else _wall_clock
    with torch.no_grad():
        work()
        return min(clock(work) for _ in range(repeats))
