"""The tuner of Triton kernels: finds the fastest configuration of each on this GPU (`fastgan bench ops --tune`)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from fastgan.bench.ops.op_benchmark import OpCase
from fastgan.errors import InputError
from fastgan.ops import _triton

_ROUNDS = 15
#: Written between two timings, so that no operands are in the cache of the GPU.
_CACHE_BYTES = 256 << 20

Timer = Callable[[Callable[[], None]], float]


def launches(case: OpCase) -> list[_triton.Launch]:
    """The launches of a case on its Triton backend; none if it has no such backend."""
    inputs = case.inputs(0)
    try:
        with _triton.recorded(run=True) as launches:
            output = case.output(inputs, "triton")
            if case.gradient:
                wrt = [inputs[index] for index in case.benchmark.wrt]
                torch.autograd.grad(output, wrt, torch.randn_like(output))
    except ValueError:  # no Triton backend, or not for this dtype
        return []
    return list(launches)


def fastest(launch: _triton.Launch, timer: Timer) -> tuple[_triton.Config, dict[_triton.Config, float]]:
    """The configuration with the smallest median, and the milliseconds of all, timed in turns."""
    times: dict[_triton.Config, list[float]] = {}
    for config in launch.choices:
        try:
            launch.run(config)
        except Exception as error:  # for example too much shared memory
            if config == launch.choices[0]:
                raise InputError(f"--tune: {launch.name} does not run on this GPU with {config}: {error}") from error
            continue
        times[config] = []
    for _ in range(_ROUNDS):
        for config, samples in times.items():
            samples.append(timer(lambda config=config: launch.run(config)))  # type: ignore[misc]
    medians = {config: statistics.median(samples) for config, samples in times.items()}
    return min(medians, key=lambda config: medians[config]), medians


def tune(
    cases: Iterable[OpCase],
    *,
    timer: Timer | None = None,
    path: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, _triton.Config]:
    """Time every configuration of every kernel that the cases launch, and write the fastest to the GPU's cache file."""
    name = torch.cuda.get_device_name() if path is None else path.stem
    path = path or _triton.cache_file(name)
    timer = timer or gpu_timer()
    fastest_by_key: dict[str, _triton.Config] = {}
    for case in cases:
        for launch in launches(case):
            key = f"{launch.name}:{launch.key}"
            if key in fastest_by_key:
                continue
            fastest_by_key[key], medians = fastest(launch, timer)
            best, default = medians[fastest_by_key[key]], medians[launch.choices[0]]
            log(f"{key}: {fastest_by_key[key]} ({best:.4f} ms; the default {default:.4f} ms)")
            _triton.write_cache(path, {key: fastest_by_key[key]}, {"device": name})
    log(f"{len(fastest_by_key)} choices in {path}")
    return fastest_by_key


def gpu_timer() -> Timer:
    """A timer of one call by events, in milliseconds, with a cold cache."""
    cache_filler = torch.empty(_CACHE_BYTES, dtype=torch.uint8, device="cuda")

    def timed(call: Callable[[], None]) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        cache_filler.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    return timed


def require_gpu(device: str) -> None:
    """Raise InputError where there is nothing to tune."""
    if device != "cuda":
        raise InputError("--tune: configurations are of Triton kernels, which run on a GPU; give --device cuda")
    reason = _triton.unavailable_reason("cuda")
    if reason is not None:
        raise InputError(f"--tune: Triton {reason}")
