"""Who takes part in a case."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fastgan import ops
from fastgan.bench.ops.op_benchmark import Case
from fastgan.bench.ops.third_party import peers
from fastgan.bench.timing import Function

#: Not a peer: these are what is measured against the peers.
OURS = "fastgan"


def providers(case: Case, *, compiled: bool = True) -> Iterator[tuple[str, Callable[[], Function]]]:
    """Names, each with what makes its function.

    `fastgan` takes the backend that a call gets by default, `fastgan-NAME` the one of that name, `eager` plain torch,
    `compiled` torch.compile of the reference, and the rest are packages. A maker raises ImportError where a package is
    missing; the function's first call raises ValueError where a backend cannot serve the case.
    """
    yield OURS, lambda: lambda inputs: case.output(inputs)
    for backend in _backends(case):
        yield f"{OURS}-{backend}", lambda name=backend: _on_backend(case, name)  # type: ignore[misc]
    yield "eager", lambda: lambda inputs: case.spec.eager(inputs, case)
    if compiled:
        yield "compiled", lambda: _compiled(case)
    for name, load in peers(case).items():
        yield name, lambda make=load: _unpacked(make())  # type: ignore[misc]


def is_ours(provider: str) -> bool:
    return provider == OURS or provider.startswith(f"{OURS}-")


def _backends(case: Case) -> list[str]:
    rows = ops.report((case.device,))["ops"]
    return [backend["name"] for row in rows if row["op"] == case.spec.op for backend in row["backends"]]


def _on_backend(case: Case, name: str) -> Function:
    return lambda inputs: case.output(inputs, name)


def _unpacked(function: Callable[..., Tensor]) -> Function:
    return lambda inputs: function(*inputs)


def _compiled(case: Case) -> Function:
    if importlib.util.find_spec("triton") is None and case.device == "cuda":
        raise ImportError("torch.compile needs triton on a GPU")
    torch.compiler.reset()  # each case is compiled for its own sizes alone
    return torch.compile(lambda inputs: case.output(inputs, "reference"), dynamic=False)
