"""Records which convolutions run in networks, forward and backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.bench.networks.conv_floor import Convolution, Pass

Needed = dict[str, Counter[Convolution]]


@contextmanager
def recorded(networks: Mapping[str, nn.Module]) -> Iterator[Needed]:
    """Counts, by the name of the network, the convolutions that run meanwhile and the gradients that they will be asked
    for. Eager ones: a compiled network shows none. Gradients of gradients (R1) are not seen.
    """
    found: Needed = {name: Counter() for name in networks}

    def hook(network: str) -> Any:
        def note(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[network].update(_passes(module, inputs[0], output))

        return note

    handles = []
    try:
        for name, network in networks.items():
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    handles.append(module.register_forward_hook(hook(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _passes(module: Any, x: Tensor, output: Tensor) -> list[Convolution]:
    if module.groups != 1 or set(module.dilation) != {1}:
        raise NotImplementedError(f"a convolution of {module.groups} groups, dilation {module.dilation}")
    learning = torch.is_grad_enabled()
    kinds: list[Pass] = ["forward"]
    kinds += ["input"] if learning and x.requires_grad else []
    kinds += ["weight"] if learning and module.weight.requires_grad else []
    n, c, h, w = x.shape
    border = module.padding
    if isinstance(border, str):
        border = tuple(side // 2 if border == "same" else 0 for side in module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        # The gradient of a convolution's input, and the other way round.
        turned: dict[Pass, Pass] = {"forward": "input", "input": "forward", "weight": "weight"}
        shape, kinds = tuple(output.shape), [turned[kind] for kind in kinds]
    else:
        scale = 2 if getattr(module, "upsample", False) else 1  # it stands for that of the enlarged image
        h, w = scale * h, scale * w
        if module.padding_mode != "zeros":
            h, w, border = h + 2 * border[0], w + 2 * border[1], (0, 0)
        shape = (n, c, h, w)
    return [Convolution(shape, tuple(module.weight.shape), tuple(module.stride), tuple(border), kind) for kind in kinds]
