"""The implementations that an op benchmark compares."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fastgan import ops
from fastgan.bench.ops.op_benchmark import OpCase
from fastgan.bench.ops.third_party import third_party
from fastgan.bench.timing import Function

#: fastgan's own rows; all others are baselines.
FASTGAN = "fastgan"


def providers(case: OpCase, *, compiled: bool = True) -> Iterator[tuple[str, Callable[[], Function]]]:
    """Names of providers, each with a maker of its function.

    `fastgan` uses the default backend, `fastgan-NAME` the backend of that name, `eager` plain PyTorch, `compiled`
    torch.compile of the reference; the others are third-party packages. A maker raises ImportError if its package is
    missing; the function's first call raises ValueError if a backend does not support the case.
    """
    yield FASTGAN, lambda: lambda inputs: case.output(inputs)
    for backend in _backends(case):
        yield f"{FASTGAN}-{backend}", lambda name=backend: _on_backend(case, name)  # type: ignore[misc]
    yield "eager", lambda: lambda inputs: case.benchmark.eager(inputs, case)
    if compiled:
        yield "compiled", lambda: _compile_reference(case)
    for name, load in third_party(case).items():
        yield name, lambda make=load: _unpack_inputs(make())  # type: ignore[misc]


def is_fastgan(provider: str) -> bool:
    """Whether a provider is fastgan, in its default or a chosen backend."""
    return provider == FASTGAN or provider.startswith(f"{FASTGAN}-")


def _backends(case: OpCase) -> list[str]:
    rows = ops.report((case.device,))["ops"]
    return [backend["name"] for row in rows if row["op"] == case.benchmark.op for backend in row["backends"]]


def _on_backend(case: OpCase, name: str) -> Function:
    return lambda inputs: case.output(inputs, name)


def _unpack_inputs(function: Callable[..., Tensor]) -> Function:
    return lambda inputs: function(*inputs)


def _compile_reference(case: OpCase) -> Function:
    if importlib.util.find_spec("triton") is None and case.device == "cuda":
        raise ImportError("torch.compile needs triton on a GPU")
    torch.compiler.reset()  # each case is compiled for its own sizes alone
    return torch.compile(lambda inputs: case.output(inputs, "reference"), dynamic=False)
