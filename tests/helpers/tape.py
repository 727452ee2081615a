"""A stand-in for a CUDA graph on CPU: the operators of one call, run again on the same memory without Python."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastgan.training.cuda_graphs import StepGraph

aten = torch.ops.aten
#: What would wait for a GPU, or copy from the host: a CUDA graph cannot hold it.
REFUSED = {aten._local_scalar_dense.default, aten.nonzero.default, aten.lift_fresh.default, aten.equal.default}


class Tape(TorchDispatchMode):
    """Records within ``with``; ``replay`` leaves each result where the recording put it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, [x for x in tree_leaves(made) if isinstance(x, Tensor)]))
        return made

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, places in self.calls:
            made = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            for place, value in zip(places, made, strict=True):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def record_on_tape(graph: StepGraph, device: torch.device) -> None:
    """In place of ``StepGraph._record``."""
    graph._graph = Tape()
    with graph._graph:
        graph._values = graph._compute(graph.inputs)
