"""Which configuration of each Triton kernel is the fastest on the GPU at hand: `fastgan bench ops --tune`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from fastgan.bench.ops.op_benchmark import Case
from fastgan.errors import InputError
from fastgan.ops import _triton

_ROUNDS = 15
#: Written between two timings, so that none finds its operands in the cache of the GPU.
_CACHE_BYTES = 256 << 20

Timer = Callable[[Callable[[], None]], float]


def launches(case: Case) -> list[_triton.Launch]:
    """What a case launches on its Triton backend; none where it has no such backend."""
    inputs = case.inputs(0)
    try:
        with _triton.recorded(run=True) as found:
            output = case.output(inputs, "triton")
            if case.gradient:
                wrt = [inputs[index] for index in case.spec.wrt]
                torch.autograd.grad(output, wrt, torch.randn_like(output))
    except ValueError:  # no Triton backend, or not for this dtype
        return []
    return list(found)


def fastest(launch: _triton.Launch, timer: Timer) -> tuple[_triton.Config, dict[_triton.Config, float]]:
    """The configuration whose median is the smallest, and the milliseconds of all; configurations take turns."""
    times: dict[_triton.Config, list[float]] = {}
    for chosen in launch.choices:
        try:
            launch.run(chosen)
        except Exception as error:  # what a GPU refuses (too much shared memory, say) is no choice there
            if chosen == launch.choices[0]:
                raise InputError(f"--tune: {launch.name} does not run on this GPU with {chosen}: {error}") from error
            continue
        times[chosen] = []
    for _ in range(_ROUNDS):
        for chosen, taken in times.items():
            taken.append(timer(lambda chosen=chosen: launch.run(chosen)))  # type: ignore[misc]
    medians = {chosen: statistics.median(taken) for chosen, taken in times.items()}
    return min(medians, key=lambda chosen: medians[chosen]), medians


def tune(
    cases: Iterable[Case],
    *,
    timer: Timer | None = None,
    path: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, _triton.Config]:
    """Times every configuration of every kernel that the cases launch; keeps the choices in the GPU's cache file."""
    name = torch.cuda.get_device_name() if path is None else path.stem
    path = path or _triton.cache_file(name)
    timer = timer or gpu_timer()
    chosen: dict[str, _triton.Config] = {}
    for case in cases:
        for launch in launches(case):
            key = f"{launch.name}:{launch.key}"
            if key in chosen:
                continue
            chosen[key], medians = fastest(launch, timer)
            best, default = medians[chosen[key]], medians[launch.choices[0]]
            tell(f"{key}: {chosen[key]} ({best:.4f} ms; the default {default:.4f} ms)")
            _triton.write_cache(path, {key: chosen[key]}, {"device": name})
    tell(f"{len(chosen)} choices in {path}")
    return chosen


def gpu_timer() -> Timer:
    """Milliseconds of one call by events, from a cold cache."""
    flushed = torch.empty(_CACHE_BYTES, dtype=torch.uint8, device="cuda")

    def timed(call: Callable[[], None]) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flushed.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    return timed


def refuse_without_gpu(device: str) -> None:
    """Raises InputError where there is nothing to tune."""
    if device != "cuda":
        raise InputError("--tune: configurations are of Triton kernels, which run on a GPU; give --device cuda")
    reason = _triton.unavailable_reason("cuda")
    if reason is not None:
        raise InputError(f"--tune: Triton {reason}")
