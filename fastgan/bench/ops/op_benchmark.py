"""Op benchmarks, their cases (size, dtype, layout), and the minimum work of a case."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.utils.format import dtype_name

LAYOUTS = ("nchw", "channels_last")
SUITES = ("ops-forward", "ops-gradient")

#: The largest error of a correct row, in units of the largest float64 result (or gradient).
TOLERANCES = {torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@dataclass(frozen=True)
class Cost:
    """Operations per element of the first input, forward and backward; an FMA is two.

    `matrix`: they are a matrix product, whose ceiling in half precision is that of the dtype, not of float32.
    """

    forward: float
    backward: float = 0.0
    matrix: bool = False


class Workload(NamedTuple):
    """Bytes and operations of a call, and whether the operations are a matrix product."""

    bytes_moved: int
    operations: float
    matrix: bool


@dataclass(frozen=True)
class OpBenchmark:
    """One op, or one way of calling it.

    `call(inputs, case, backend)` is the public function, `eager(inputs, case)` the same in plain PyTorch. `wrt` are the
    inputs whose gradients are taken; none if the op has no gradient. `mutated` are the inputs that the op changes in
    place, which then are its result instead of what `call` returns.
    """

    op: str
    sizes: tuple[tuple[int, ...], ...]
    make_inputs: Callable[[OpCase, torch.Generator], tuple[Tensor, ...]]
    call: Callable[[tuple[Tensor, ...], OpCase, str | None], Tensor]
    eager: Callable[[tuple[Tensor, ...], OpCase], Tensor]
    cost: Callable[[tuple[int, ...]], Cost]
    variant: str = ""
    wrt: tuple[int, ...] = (0,)
    mutated: tuple[int, ...] = ()
    layouts: tuple[str, ...] = LAYOUTS
    quick_sizes: tuple[tuple[int, ...], ...] = ((2, 3, 13, 17),)
    gpu_sizes: tuple[tuple[int, ...], ...] = ()  # instead of `sizes`
    tolerances: dict[torch.dtype, float] = field(default_factory=lambda: TOLERANCES)


@dataclass(frozen=True)
class OpCase:
    """An op benchmark with a size, a dtype and a layout, forward or with its gradient."""

    benchmark: OpBenchmark
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
        parts = (self.benchmark.op, "x".join(map(str, self.shape)), self.benchmark.variant, self.layout)
        return "-".join(filter(None, parts))

    @property
    def short_dtype(self) -> str:
        return dtype_name(self.dtype)

    @property
    def tolerance(self) -> float:
        return self.benchmark.tolerances[self.dtype]

    def to_layout(self, x: Tensor) -> Tensor:
        last = self.layout == "channels_last"
        return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def inputs(self, seed: int) -> tuple[Tensor, ...]:
        """A fresh set of inputs on the case's device, the same for the same seed."""
        inputs = self.benchmark.make_inputs(self, torch.Generator(self.device).manual_seed(seed))
        if self.gradient:
            for index in self.benchmark.wrt:
                inputs[index].requires_grad_()
        return inputs

    def output(self, inputs: tuple[Tensor, ...], backend: str | None = None) -> Tensor:
        return self.benchmark.call(inputs, self, backend)

    def workload(self, inputs: tuple[Tensor, ...], output: Tensor) -> Workload:
        """The minimum work of the case.

        Bytes: forward reads each input and writes the output, or the inputs changed in place. Backward reads the inputs
        and the output's gradient and writes the inputs' gradients. Nothing is kept in a cache between them.
        """
        cost = self.benchmark.cost(self.shape)
        read = sum(_bytes(tensor) for tensor in inputs)
        result = sum(_bytes(inputs[index]) for index in self.benchmark.mutated) or _bytes(output)
        bytes_moved, operations = read + result, cost.forward
        if self.gradient:
            bytes_moved += read + _bytes(output) + sum(_bytes(inputs[index]) for index in self.benchmark.wrt)
            operations += cost.backward
        return Workload(bytes_moved, operations * math.prod(self.shape), cost.matrix)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
