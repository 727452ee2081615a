"""A whole step as one CUDA graph: captured once, then replayed on new inputs without launches from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.errors import InputError, first_line
from fastgan.models.registry import spec_of
from fastgan.training.optimizer import FlatOptimizer
from fastgan.training.state import TrainState
from fastgan.training.tasks.base import Inputs

if TYPE_CHECKING:
    from fastgan.config.schema import Config

#: Runs on a side stream before the capture, in which libraries initialize themselves.
_WARMUPS = 3
#: Tolerance of a replayed update, relative to its size, beside twice the difference of two eager updates.
_TOLERANCE = 1e-3

Values = dict[str, Tensor]
Compute = Callable[..., Values]


class StepGraph:
    """A function of tensors, on tensors that stay in place. Where there is no GPU a replay calls it again.

    Args:
        compute: takes the inputs; it may change other tensors in place, and makes nothing wait for the GPU.
        inputs: of the shapes, dtypes and layouts of all later ones; copied.
        device: where they lie.
    """

    def __init__(self, compute: Callable[[Inputs], Values], inputs: Inputs, device: torch.device) -> None:
        self.inputs = {name: value.clone() for name, value in inputs.items()}
        self._compute = compute
        self._graph: Any = None
        self._values: Values = {}
        self._record(device)

    def replay(self, inputs: Inputs) -> Values:
        """The results of ``compute`` for ``inputs``; on a GPU in tensors that the next replay overwrites."""
        for name, value in inputs.items():
            self.inputs[name].copy_(value, non_blocking=True)
        if self._graph is None:
            return self._compute(self.inputs)
        self._graph.replay()
        return self._values

    def _record(self, device: torch.device) -> None:
        if device.type != "cuda":
            return
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARMUPS):
                self._compute(self.inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Captures this thread alone: the one that reads photographs may allocate meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._values = self._compute(self.inputs)


class CudaGraphRunner:
    """Replays ``compute`` for steps like the captured one, and calls it for others.

    The first step runs in eager. The second is captured and verified: the replayed update, from the same state and on
    the same inputs, must equal the eager one. If it fails or differs, graphs are dropped with a message.

    Args:
        compute: ``TrainStep.update``.
        device: where it runs.
        log: takes messages, one line each.

    Attributes:
        paused: while True, capture is postponed (torch.compile has not been decided yet).
    """

    def __init__(self, compute: Compute, device: torch.device, log: Callable[[str], None]) -> None:
        self.paused = False
        self._compute = compute
        self._device = device
        self._log = log
        self._warm = False
        self._dropped = False
        self._graph: StepGraph | None = None
        self._recorded: list[Any] = []

    def __call__(self, state: TrainState, inputs: Inputs, *, with_r1: bool = False) -> Values:
        """As ``compute``."""
        if state.decisions.get("graphs", {}).get("replayed") is False:
            self._dropped = True
        if with_r1 or self._dropped or self.paused or not self._warm:
            self._warm = True
            return self._compute(state, inputs, with_r1=with_r1)
        if self._graph is None:
            return self._capture_and_verify(state, inputs)
        if _signature(inputs) != self._recorded:
            return self._compute(state, inputs)
        return self._graph.replay(inputs)

    def _capture_and_verify(self, state: TrainState, inputs: Inputs) -> Values:
        changed = _mutable_tensors(state)
        before = [value.clone() for value in changed]

        def run_and_restore() -> list[Tensor]:
            """Copy the changed state, and restore the state before the step."""
            values = [value.clone() for value in changed]
            _restore(changed, before)
            return values

        self._compute(state, inputs)
        eager = run_and_restore()
        self._compute(state, inputs)
        again = run_and_restore()
        try:
            graph = StepGraph(lambda graph_inputs: self._compute(state, graph_inputs), inputs, self._device)
            _restore(changed, before)
            values = graph.replay(inputs)
            reason = _difference(before, eager, again, changed)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)[:160]}"
        if reason is not None:
            self._dropped = True
            state.decisions["graphs"] = {"replayed": False}
            self._log(f"steps are not replayed as a CUDA graph: {reason}")
            _restore(changed, before)
            return self._compute(state, inputs)
        self._graph, self._recorded = graph, _signature(inputs)
        state.decisions["graphs"] = {"replayed": True}
        return values


def make_graph_runner(
    config: Config, generator: Any, compute: Compute, device: torch.device, log: Callable[[str], None]
) -> CudaGraphRunner | None:
    """Make the runner that replays the steps of a run, or None. Logs the reason if requested graphs are unsupported.

    Raises:
        InputError: ``train.cuda_graphs`` is true and there is no GPU.
    """
    mode = config.train.cuda_graphs
    if mode is True and device.type != "cuda":
        raise InputError("train.cuda_graphs: true needs a GPU; use auto or false")
    if mode is False or device.type != "cuda":
        return None
    reason = unsupported_reason(config, generator)
    if reason is None:
        return CudaGraphRunner(compute, device, log)
    if mode is True:
        log(f"steps are not replayed as a CUDA graph: {reason}")
    return None


def unsupported_reason(config: Config, generator: Any) -> str | None:
    """The reason why the steps of a run cannot be replayed; None if they can."""
    if config.loss.augment:
        return "augmentation draws on the host"
    if config.loss.temperature_end is not None:
        return "an annealed temperature is a constant of the kernels"
    if spec_of(generator).arbitrary_style:
        return "the number of images of full strength changes"
    return None


def _signature(inputs: Inputs) -> list[Any]:
    return [(name, value.shape, value.stride(), value.dtype) for name, value in inputs.items()]


def _mutable_tensors(state: TrainState) -> list[Tensor]:
    """All tensors that a step changes, each in its place for good."""
    tensors: list[Tensor] = []
    for optimizer in (state.optimizer_g, state.optimizer_d):
        assert isinstance(optimizer, FlatOptimizer)
        tensors += optimizer.changed()
    for network in (state.generator, state.discriminator, state.ema):
        tensors += network.buffers()
    for scaler in (state.scaler_g, state.scaler_d):
        if scaler.is_enabled():  # one that is not has no such attributes, one that was not used yet has None
            tensors += [value for value in (scaler._scale, scaler._growth_tracker) if value is not None]
    return tensors


@torch.no_grad()
def _restore(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _difference(before: list[Tensor], eager: list[Tensor], again: list[Tensor], have: list[Tensor]) -> str | None:
    for was, want, repeated, value in zip(before, eager, again, have, strict=True):
        pairs = ((want, was), (repeated, want), (value, want))
        update, noise, deviation = ((one.double() - other.double()).norm().item() for one, other in pairs)
        if not deviation <= 2 * noise + _TOLERANCE * update:
            return f"its update is off by {deviation / max(update, 1e-30):.1e} of its size"
    return None
