"""``torch.compile`` of networks, where results equal eager and the saving in the run exceeds the compile time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fastgan.errors import first_line
from fastgan.precision import autocast

if TYPE_CHECKING:
    from fastgan.training.state import TrainState

#: Tolerance beside twice eager's own error, of the root mean square: rounding in another order flips a few ReLUs more
#: or fewer. In float32 there is no other: at 256 px a float64 reference takes nine times as long as the network.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-3, torch.float16: 5e-4}
#: Gradients this much smaller than the network's largest are sums that cancel, and consist of rounding.
_MIN_GRAD_SCALE = 1e-3
#: The share of a network's time that compiling is expected to save, before it is measured. On CPU the kernels of
#: fastgan.ops leave little to save: D and VGG-19 were slower compiled (docs/tuning.md has the figures). No GPU was
#: measured.
_EXPECTED_SPEEDUP = {
    "cpu": {"generator": 0.04},
    "cuda": {"generator": 0.3, "discriminator": 0.3, "encoder": 0.3},
}
#: Seconds that compiling one network is expected to take, before one was compiled.
_COMPILE_SECONDS = 30.0
#: A smaller share than this is noise, not a gain.
_MIN_SPEEDUP = 0.03
#: Steps that log how long one takes; the first of all allocates.
_TIMED_STEPS = 3


@dataclass(frozen=True)
class CallSpec:
    """A call of a network in a step: its inputs, the gradients that are needed, under autocast or not."""

    inputs: tuple[Any, ...]
    input_grad: bool = False
    param_grad: bool = False
    autocast: bool = True


#: A network and its calls in a step.
Network = tuple[nn.Module, Sequence[CallSpec]]


def random_images(count: int, size: int) -> Tensor:
    """Images to verify networks on: (N, 3, size, size) in [-1, 1], channels_last, always the same."""
    images = torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.float32) * 2 - 1
    return images.contiguous(memory_format=torch.channels_last)


def output_of(network: nn.Module, example: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The network's output in the layout that a step has it in; nothing is left behind."""
    return _results(network, CallSpec((example,)), device, dtype)["output"]


class Compiler:
    """Decides which networks of a run are compiled, once, and does it.

    ``True`` compiles all that pass verification. ``"auto"`` times the first steps and compiles only if the expected
    saving in the rest of the run exceeds the compile time; networks that are not faster are reverted to eager. The
    decisions are in ``state.decisions["compile"]``, and a resumed run repeats them without timing.

    Args:
        mode: ``train.compile``.
        state: the run's; its decisions are read and written.
        networks: gives the networks that may be compiled, by name.
        device, dtype: where, and in what arithmetic, the networks run.
        log: takes messages, one line each.
    """

    def __init__(
        self,
        mode: Literal["auto"] | bool,
        state: TrainState,
        networks: Callable[[], Mapping[str, Network]],
        device: torch.device,
        dtype: torch.dtype,
        log: Callable[[str], None],
    ) -> None:
        self.mode = mode
        self.decided = mode is False
        self._state = state
        self._networks = networks
        self._device, self._dtype = device, dtype
        self._log = log
        self._steps: list[float] = []
        self._cost = _COMPILE_SECONDS

    def start(self) -> None:
        """Before the first step: compile all networks if requested, or those that an interrupted run had compiled."""
        recorded = self._state.decisions.get("compile")
        if self.mode == "auto" and recorded is not None:
            names = [name for name, decision in recorded.items() if decision["compiled"]]
            for name, network in self._networks().items() if names else ():
                if name in names:
                    self._compile(name, network)
            self.decided = True
        elif self.mode is True:
            self._record({name: self._compile(name, network) for name, network in self._networks().items()})

    def on_step_end(self, seconds: float, steps_left: Callable[[float], float]) -> None:
        """After a step of ``seconds``; ``steps_left`` gives the number of steps to come if each takes so long."""
        if self.decided:
            return
        self._steps.append(seconds)
        if len(self._steps) < _TIMED_STEPS:
            return
        step = min(self._steps[1:])
        left = steps_left(step)
        if max(_EXPECTED_SPEEDUP[self._device.type].values()) * step * left < self._cost:
            self.finish()
            return
        self._record({name: self._decide(name, network, left) for name, network in self._networks().items()})

    def finish(self) -> None:
        """At the end of a run too short to decide: nothing is compiled, on resume neither."""
        if not self.decided:
            self._record({})

    def _record(self, decisions: dict[str, dict[str, Any]]) -> None:
        self.decided = True
        self._state.decisions["compile"] = decisions

    def _decide(self, name: str, network: Network, left: float) -> dict[str, Any]:
        hope = _EXPECTED_SPEEDUP[self._device.type].get(name, 0.0)
        if not hope:
            return {"compiled": False}
        eager = self._seconds(network)
        if hope * eager * left < self._cost:
            return {"compiled": False, "time/eager": eager}
        decision = self._compile(name, network, eager=eager)
        self._cost = decision.get("time/compile", self._cost)
        return decision

    def _compile(self, name: str, network: Network, *, eager: float | None = None) -> dict[str, Any]:
        """Compile and verify a network; with ``eager``, its seconds, revert to eager unless compiled is faster."""
        module, calls = network
        begin = time.perf_counter()
        reason = compile_verified(module, calls, self._device, self._dtype)
        spent = time.perf_counter() - begin
        decision: dict[str, Any] = {"compiled": reason is None, "time/compile": spent}
        if reason is None and eager is not None:
            compiled = self._seconds(network)
            decision |= {"time/eager": eager, "time/compiled": compiled}
            if compiled > (1 - _MIN_SPEEDUP) * eager:
                _revert_to_eager(module)
                decision["compiled"] = False
                reason = f"{1e3 * compiled:.1f} ms a step, eager {1e3 * eager:.1f}; that took {spent:.0f} s"
        if reason is not None:
            self._log(f"the {name} is not compiled: {reason}")
        else:
            gain = (
                "" if eager is None else f": {1e3 * decision['time/compiled']:.1f} ms a step, eager {1e3 * eager:.1f}"
            )
            self._log(f"the {name} is compiled, in {spent:.0f} s{gain}")
        return decision

    def _seconds(self, network: Network) -> float:
        """The fastest of three calls, after one that allocates."""
        module, calls = network
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            for call in calls:
                _results(module, call, self._device, self._dtype)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            times.append(time.perf_counter() - begin)
        return min(times[1:])


def compile_verified(
    network: nn.Module, calls: Sequence[CallSpec], device: torch.device, dtype: torch.dtype
) -> str | None:
    """Compile ``network`` in place; compare outputs and gradients, of input and parameters, with eager in every call.

    The reference is the same network in float32: the compiled network may have twice the error of eager.

    Returns:
        None if the network stays compiled; otherwise the reason why it was reverted to eager.
    """
    eager = [_results(network, call, device, dtype) for call in calls]
    expected = eager
    if dtype != torch.float32:
        reference = copy.deepcopy(network).float()
        expected = [_results(reference, call, device, torch.float32) for call in calls]
        del reference
    try:
        network.compile()
        got = [_results(network, call, device, dtype) for call in calls]
    except Exception as error:
        _revert_to_eager(network)
        return f"{type(error).__name__}: {first_line(error)[:160]}"
    for want, before, have in zip(expected, eager, got, strict=True):
        largest = max((_rms(value) for name, value in want.items() if name.startswith("gradient of ")), default=0.0)
        for name, value in want.items():
            scale = max(_rms(value), _MIN_GRAD_SCALE * largest, 1e-30)
            own, deviation = (_rms(result[name].to(value.dtype) - value) / scale for result in (before, have))
            if not deviation <= 2 * own + _TOLERANCE[dtype]:
                _revert_to_eager(network)
                return f"its {name} is off by {deviation:.1e} of its size, eager's by {own:.1e}"
    return None


def _revert_to_eager(network: nn.Module) -> None:
    network._compiled_call_impl = None


def _rms(value: Tensor) -> float:
    return value.double().square().mean().sqrt().item()


def _results(network: nn.Module, call: CallSpec, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Outputs and gradients by name, under random cotangents; leaves no trace in the network."""
    image, *others = call.inputs
    x = image.detach().requires_grad_(call.input_grad)
    parameters = dict(network.named_parameters()) if call.param_grad else {}
    arithmetic = dtype if call.autocast else torch.float32
    with _as_called(network, call), autocast(device, arithmetic):
        result = network(x, *others)
        outputs = result if isinstance(result, dict) else {"output": result}
        wrt = ([x] if call.input_grad else []) + list(parameters.values())
        if wrt:
            cotangents = [_cotangent(value) for value in outputs.values()]
            gradients = torch.autograd.grad(list(outputs.values()), wrt, cotangents, allow_unused=True)
    results = {name: value.detach() for name, value in outputs.items()}
    names = [*(["gradient"] if call.input_grad else []), *(f"gradient of {name}" for name in parameters)]
    for name, gradient in zip(names, gradients if wrt else (), strict=True):
        if gradient is not None:
            results[name] = gradient
    return results


def _cotangent(value: Tensor) -> Tensor:
    drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return torch.empty_like(value).copy_(drawn)


@contextmanager
def _as_called(network: nn.Module, call: CallSpec) -> Iterator[None]:
    # Batch norm and spectral norm keep what they see: the check must leave no trace in the run.
    buffers = [buffer.clone() for buffer in network.buffers()]
    required = [parameter.requires_grad for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.requires_grad_(call.param_grad)
    try:
        with torch.set_grad_enabled(call.input_grad or call.param_grad):
            yield
    finally:
        for parameter, was in zip(network.parameters(), required, strict=True):
            parameter.requires_grad_(was)
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(value)
