"""One case of the op benchmarks: an op with a size, a dtype and a layout, and the work that it cannot do without."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastgan.utils.format import dtype_name

LAYOUTS = ("nchw", "channels_last")
SUITES = ("ops-forward", "ops-gradient")

#: The largest error, in units of the largest float64 result (or gradient), with which a row still counts as correct.
TOLERANCES = {torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@dataclass(frozen=True)
class Cost:
    """Operations of one element of the first input, forward and backward; an FMA is two.

    `matrix`: they are a matrix product, whose ceiling at half precision is that precision's and not float32's.
    """

    forward: float
    backward: float = 0.0
    matrix: bool = False


@dataclass(frozen=True)
class Spec:
    """One op, or one way of calling it.

    `call(inputs, backend)` is the public function; `eager(inputs)` what people write without it. `wrt` are the inputs
    that the gradient is taken of; none means that the op has no gradient. `written` are the inputs that it changes in
    place: they are then its result, in place of what `call` returns.
    """

    op: str
    sizes: tuple[tuple[int, ...], ...]
    make: Callable[[Case, torch.Generator], tuple[Tensor, ...]]
    call: Callable[[tuple[Tensor, ...], Case, str | None], Tensor]
    eager: Callable[[tuple[Tensor, ...], Case], Tensor]
    cost: Callable[[tuple[int, ...]], Cost]
    variant: str = ""
    wrt: tuple[int, ...] = (0,)
    written: tuple[int, ...] = ()
    layouts: tuple[str, ...] = LAYOUTS
    quick: tuple[tuple[int, ...], ...] = ((2, 3, 13, 17),)
    gpu_sizes: tuple[tuple[int, ...], ...] = ()  # in place of `sizes`
    tolerances: dict[torch.dtype, float] = field(default_factory=lambda: TOLERANCES)


@dataclass(frozen=True)
class Case:
    """A spec with a size, a dtype and a layout, forward or with its gradient."""

    spec: Spec
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: str
    suite: str
    device: str

    @property
    def gradient(self) -> bool:
        return self.suite == "ops-gradient"

    @property
    def name(self) -> str:
        """`ssim-8x3x256x256-nchw`; a variant stands between size and layout."""
        parts = (self.spec.op, "x".join(map(str, self.shape)), self.spec.variant, self.layout)
        return "-".join(filter(None, parts))

    @property
    def short_dtype(self) -> str:
        return dtype_name(self.dtype)

    @property
    def tolerance(self) -> float:
        return self.spec.tolerances[self.dtype]

    def laid_out(self, x: Tensor) -> Tensor:
        last = self.layout == "channels_last"
        return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def inputs(self, seed: int) -> tuple[Tensor, ...]:
        """A fresh set of inputs on the case's device, the same for the same seed."""
        made = self.spec.make(self, torch.Generator(self.device).manual_seed(seed))
        if self.gradient:
            for index in self.spec.wrt:
                made[index].requires_grad_()
        return made

    def output(self, inputs: tuple[Tensor, ...], backend: str | None = None) -> Tensor:
        return self.spec.call(inputs, self, backend)

    def work(self, inputs: tuple[Tensor, ...], output: Tensor) -> tuple[int, float, bool]:
        """Bytes and operations that the case cannot do without, and whether they are a matrix product.

        Bytes: forward reads each input and writes the output, or what is written in place. Backward reads the inputs
        and the output's gradient and writes the inputs' gradients. Nothing is kept in a cache between them.
        """
        cost = self.spec.cost(self.shape)
        read = sum(_bytes(tensor) for tensor in inputs)
        result = sum(_bytes(inputs[index]) for index in self.spec.written) or _bytes(output)
        moved, operations = read + result, cost.forward
        if self.gradient:
            moved += read + _bytes(output) + sum(_bytes(inputs[index]) for index in self.spec.wrt)
            operations += cost.backward
        return moved, operations * math.prod(self.shape), cost.matrix


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
