"""Where a training step spends its time, and how much of that is convolution: ``fastgan profile``.

Times come from steps without a profiler. Further steps under ``torch.profiler`` show how each phase divides between the
networks, since a profiler makes small ops look larger than they are.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import secrets
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, record_function, schedule

from fastgan.errors import InputError
from fastgan.profiling import attribution
from fastgan.profiling.convolutions import ConvolutionCounts, count_convolutions, floor_seconds, total_operations
from fastgan.profiling.environment import describe_environment
from fastgan.training import Trainer
from fastgan.training.compilation import Compiler
from fastgan.training.setup import read_ahead
from fastgan.utils.format import dtype_name
from fastgan.utils.statistics import quantile
from fastgan.utils.system import peak_memory_bytes, reset_peak_memory

if TYPE_CHECKING:
    from fastgan.config import Config

#: Initial steps: the first allocates, in the second convolutions are counted.
_INITIAL_STEPS = 2
#: A trace of more bytes than this is compressed; Perfetto opens that too.
_LARGE_TRACE = 16 << 20
_NUM_OPS = 40
#: The phases of work outside of all phases, and of waiting for a batch.
_OUTSIDE, _WAIT = "", "wait"

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ProfileSteps:
    """Numbers of steps that warm up, are measured without a profiler, and are profiled."""

    warmup: int = 2
    measured: int = 10
    profiled: int = 3


@dataclasses.dataclass
class Profile:
    """``report`` is the content of ``profile.json``; ``profiler`` is finished and has the trace."""

    report: dict[str, Any]
    profiler: Any


@dataclasses.dataclass
class _Steps:
    """Steps without a profiler: seconds of each with its wait for data, total seconds by phase, peak memory."""

    seconds: list[float]
    phases: dict[str, float]
    peak_bytes: int


def run(config: Config, counts: ProfileSteps, log: Log = lambda line: None) -> Profile:
    """Profile training by ``config``; ``log`` takes lines about the progress.

    Raises:
        InputError: a config that cannot be trained.
    """
    trainer = Trainer(config)
    assert trainer.photographs is not None
    # A replayed graph has no phases, so the step is profiled without graphs.
    trainer.stepper.graph_runner = None
    source = read_ahead(config, trainer.photographs.batches, 0, trainer.device)
    try:
        warmup = _INITIAL_STEPS + counts.warmup
        log(f"{warmup} steps to warm up, {counts.measured} to measure, {counts.profiled} to profile")
        for _ in range(_INITIAL_STEPS - 1):
            trainer.train_step(next(source))
        with count_convolutions(_networks(trainer)) as convolutions:
            trainer.train_step(next(source))
        if config.train.compile is True:
            networks = partial(trainer.task.networks, trainer.state)
            Compiler(True, trainer.state, networks, trainer.device, trainer.dtype, log).start()
        for _ in range(counts.warmup):
            trainer.train_step(next(source))
        steps = _measure(trainer, source, counts.measured)
        profiler = _profile(trainer, source, counts.profiled)
    finally:
        source.close()
    attributed = attribution.attribute(attribution.events_of(profiler))
    log(f"{sum(map(len, convolutions.values()))} passes of convolutions, one by one")
    floor = {name: floor_seconds(of, trainer.dtype, trainer.device.type) for name, of in convolutions.items()}
    return Profile(_report(trainer, counts, steps, attributed, convolutions, floor), profiler)


def check_out(out: Path) -> None:
    """Raise InputError unless ``out`` does not exist and can be created."""
    try:
        if os.path.lexists(out):
            raise InputError(f"out {out}: already exists; give a new folder")
        parent = out.absolute().parent
        while not parent.exists():
            parent = parent.parent
        probe = parent / f".fastgan-{secrets.token_hex(8)}.tmp"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise InputError(f"out {out}: cannot be created ({error.strerror})") from None


def save(profile: Profile, out: Path) -> list[Path]:
    """Write ``profile.json`` and the trace to the new folder ``out``, all or nothing; the files.

    Raises:
        InputError: ``out`` cannot be written, or exists by now.
    """
    parent = out.absolute().parent
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    temporary = parent / f".fastgan-{secrets.token_hex(8)}.tmp"
    try:
        temporary.mkdir(parents=True)
        trace = _write_trace(profile.profiler, temporary)
        text = json.dumps({**profile.report, "trace": trace}, indent=1, allow_nan=False)
        (temporary / "profile.json").write_text(text + "\n", encoding="utf-8")
        temporary.rename(out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise InputError(f"out {out}: cannot be written ({error.strerror})") from None
        raise
    return [out / "profile.json", out / trace]


def _write_trace(profiler: Any, folder: Path) -> str:
    plain = folder / "trace.json"
    profiler.export_chrome_trace(str(plain))
    if plain.stat().st_size <= _LARGE_TRACE:
        return plain.name
    packed = folder / "trace.json.gz"
    with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target)
    plain.unlink()
    return packed.name


def _networks(trainer: Trainer) -> dict[str, nn.Module]:
    """The networks, by the owner that their work is attributed to."""
    networks = {"generator": trainer.state.generator, "discriminator": trainer.state.discriminator}
    encoder = getattr(trainer.task, "encoder", None)
    return networks if encoder is None else {**networks, "features": encoder}


@contextmanager
def _ranges(trainer: Trainer) -> Iterator[None]:
    """Enclose every call of a network, and of the optimizers' ``zero_grad``, in a range that names the owner."""
    networks = _networks(trainer)
    original = {name: network._compiled_call_impl for name, network in networks.items()}
    optimizers = (trainer.state.optimizer_g, trainer.state.optimizer_d)
    try:
        for name, network in networks.items():
            # A forward hook would be compiled with the network; this calls it, compiled or not.
            network._compiled_call_impl = _in_range(name, original[name] or network._call_impl)  # type: ignore[assignment]
        for optimizer in optimizers:
            optimizer.zero_grad = _in_range("optimizer", optimizer.zero_grad)  # type: ignore[method-assign]
        yield
    finally:
        for name, network in networks.items():
            network._compiled_call_impl = original[name]
        for optimizer in optimizers:
            optimizer.__dict__.pop("zero_grad", None)


def _in_range(owner: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        with record_function(attribution.PART + owner):
            return function(*args, **options)

    return call


def _measure(trainer: Trainer, source: Generator[Tensor, None, None], count: int) -> _Steps:
    steps = _Steps([], {}, 0)
    reset_peak_memory(trainer.device)
    for _ in range(count):
        begin = time.perf_counter()
        batch = next(source)
        waited = time.perf_counter() - begin
        metrics = trainer.train_step(batch)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        spent = time.perf_counter() - begin
        prefix = "time/phase/"
        phases = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        phases[_WAIT] = waited
        phases[_OUTSIDE] = max(0.0, spent - sum(phases.values()))
        for name, seconds in phases.items():
            steps.phases[name] = steps.phases.get(name, 0.0) + seconds
        steps.seconds.append(spent)
    steps.peak_bytes = peak_memory_bytes(trainer.device)
    return steps


def _profile(trainer: Trainer, source: Generator[Tensor, None, None], count: int) -> Any:
    cuda = trainer.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    # The first step under a profiler includes its start.
    plan = schedule(wait=0, warmup=1, active=count, repeat=1)
    with (
        _ranges(trainer),
        torch.profiler.profile(
            activities=activities, schedule=plan, record_shapes=True, profile_memory=True
        ) as profiler,
    ):
        for _ in range(1 + count):
            with record_function(f"fastgan/{_WAIT}"):
                batch = next(source)
            with record_function(attribution.STEP):
                trainer.train_step(batch)
                if cuda:
                    torch.cuda.synchronize(trainer.device)
            profiler.step()
    return profiler


def _report(
    trainer: Trainer,
    counts: ProfileSteps,
    steps: _Steps,
    attributed: attribution.Attribution,
    convolutions: Mapping[str, ConvolutionCounts],
    floor: Mapping[str, float],
) -> dict[str, Any]:
    median = statistics.median(steps.seconds)
    # The shares of all steps, scaled to the median, so that the phases add up to it exactly.
    scale = median / sum(steps.phases.values())
    unprofiled = {name: seconds * scale for name, seconds in steps.phases.items()}
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        parts = _gpu_parts(median, unprofiled[_WAIT], attributed)
    else:
        parts = attribution.scale_to_unprofiled(unprofiled, attributed)
    flop = {name: total_operations(convolutions.get(name, Counter())) for name in parts}
    work = attributed.kernel_ops if on_gpu else attributed.ops
    total = attributed.seconds or 1.0
    return {
        "header": {
            **describe_environment(trainer.device),
            "dtype": dtype_name(trainer.dtype),
        },
        "config": trainer.config.model_dump(mode="json"),
        "step": {
            "seconds_median": median,
            "seconds_p20": quantile(steps.seconds, 0.2),
            "seconds_p80": quantile(steps.seconds, 0.8),
            "img_per_s": trainer.config.data.batch / median,
            "steps_measured": counts.measured,
            "steps_profiled": attributed.steps,
            "profiled_seconds": attributed.seconds / max(1, attributed.steps),
        },
        "phases": _phases(parts, flop, floor, median),
        "ranges": {name or "outside": seconds for name, seconds in unprofiled.items()},
        "ops": [
            {
                "name": name,
                "self_seconds": entry.seconds / attributed.steps,
                "share": entry.seconds / total,
                "calls": entry.calls / attributed.steps,
            }
            for name, entry in attribution.top(work, _NUM_OPS)
        ],
        "memory": {"peak_bytes": steps.peak_bytes},
        "floor": {
            "seconds": sum(floor.values()),
            "fraction": sum(floor.values()) / median,
            "gflop": sum(flop.values()) / 1e9,
            "passes": sum(sum(of.values()) for of in convolutions.values()),
        },
    }


def _phases(
    parts: Mapping[str, Mapping[str, float]], flop: Mapping[str, float], floor: Mapping[str, float], median: float
) -> dict[str, dict[str, float]]:
    phases = {}
    for name, directions in parts.items():
        seconds = sum(directions.values())
        phases[name] = {
            "seconds": seconds,
            "share": seconds / median,
            **{f"{direction}_seconds": value for direction, value in directions.items()},
            "conv_gflop": flop[name] / 1e9,
            "conv_gflop_per_s": flop[name] / seconds / 1e9 if seconds else 0.0,
            "floor_seconds": floor.get(name, 0.0),
        }
    return phases


def _gpu_parts(median: float, waited: float, attributed: attribution.Attribution) -> dict[str, dict[str, float]]:
    """Kernel time by owner and direction; the rest of the step, in which the GPU waits, goes to ``other``."""
    parts = {owner: dict.fromkeys(attribution.DIRECTIONS, 0.0) for owner in attribution.OWNERS}
    for (owner, direction), seconds in attributed.kernels.items():
        parts[owner][direction] += seconds / attributed.steps
    busy = sum(sum(directions.values()) for directions in parts.values())
    if busy > median - waited > 0:  # streams in parallel
        for directions in parts.values():
            for direction in directions:
                directions[direction] *= (median - waited) / busy
        busy = median - waited
    parts["data"]["forward"] += waited
    parts["other"]["forward"] += max(0.0, median - waited - busy)
    return parts
