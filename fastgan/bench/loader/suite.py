"""``fastgan bench loader``: images a second of the loader alone, beside the pipelines of torchvision and WebDataset."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from fastgan.bench import results
from fastgan.bench.loader import pipelines
from fastgan.bench.results import Log, Result, Row
from fastgan.data import default_workers
from fastgan.errors import InputError
from fastgan.utils.format import round_significant
from fastgan.utils.system import installed_version

SUITE = "loader"
CASE = f"jpeg-{pipelines.SIZE}-b{pipelines.BATCH}"


def run(
    device: str = "cpu",
    *,
    only: Sequence[str] = (),
    quick: bool = False,
    workers: int | None = None,
    log: Log = lambda _: None,
    keep: Callable[[Result], None] = lambda _: None,
    result: Result | None = None,
) -> Result:
    """Measure the loaders; the header and rows of ``bench --json``.

    Providers take turns. In each turn a provider is started anew, and timed once its processes are running:
    ``ms_median`` is the time between two batches. Then it loads some batches in this process to measure the CPU time of
    an image, which other processes on the machine hardly affect: ``cpu_ms_per_image``, and from it the number of cores
    for 1,000 images a second. ``fraction_of_limit`` is the share of that time that Pillow's decoding takes alone.

    Args:
        only: providers; all of them when empty.
        quick: few pictures and one round: whether it works, not how fast it is.
        workers: processes of each provider; by default as many as training on a GPU uses, at least one.

    Raises:
        InputError: an unknown provider, or the demo photographs are missing.
    """
    validate(only)
    workers = workers or max(1, default_workers(torch.device("cuda")))
    result = result or {"header": results.header(device), "rows": []}
    header = result["header"]
    versions = {name: installed_version(name) for name in ("pillow", "simplejpeg", "torchvision", "webdataset")}
    header["versions"].update({name: version for name, version in versions.items() if version})
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastgan-bench-") as temporary:
        folder = Path(temporary)
        count = 32 if quick else 384
        size = pipelines.write_photographs(folder, count)
        header["photographs"] = {
            "count": count,
            "width": pipelines.WIDTH,
            "height": pipelines.HEIGHT,
            "mean_bytes": round(size / count),
        }
        loaders = {
            name: _LoaderTurns(make, folder, workers)
            for name, make in pipelines.PIPELINES.items()
            if not only or name in only
        }
        rounds, batches = (1, 2) if quick else (7, 12 * workers)
        decode_seconds = _run_rounds(loaders, folder, rounds, batches, header["skipped"], log)
    header["ceilings"]["jpeg_decode_ms"] = round_significant(1e3 * decode_seconds)
    rows = [_row(name, turns, device, workers, decode_seconds) for name, turns in loaders.items()]
    results.add_ratios(rows)
    result["rows"] += rows
    results.finish(result, begin)
    keep(result)
    return result


def _run_rounds(
    loaders: dict[str, _LoaderTurns], folder: Path, rounds: int, batches: int, skipped: list[str], log: Log
) -> float:
    """Measure the loaders in turns, leaving out those whose packages are missing; median seconds of a decode."""
    threads = torch.get_num_threads()
    decode: list[float] = []
    torch.set_num_threads(1)  # as in worker processes
    try:
        for turn in range(rounds):
            decode.append(_decode_seconds(folder))
            names = list(loaders)
            for index in range(len(names)):
                name = names[(index + turn) % len(names)]
                try:
                    loaders[name].measure(batches)
                except ImportError as error:
                    skipped.append(f"{name}: {error}")
                    log(f"left out: {skipped[-1]}")
                    del loaders[name]
            log(f"[{turn + 1}/{rounds}] " + ", ".join(f"{n} {t.images_per_second():.0f}" for n, t in loaders.items()))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(decode)


def validate(only: Sequence[str]) -> None:
    """Raise InputError for a loader that cannot be measured."""
    for name in only:
        if name not in pipelines.PIPELINES:
            raise InputError(f"--only {name}: no such loader; expected some of {', '.join(pipelines.PIPELINES)}")


class _LoaderTurns:
    """The measurements of one provider."""

    def __init__(self, make: pipelines.Pipeline, folder: Path, workers: int) -> None:
        self._make = make
        self._folder = folder
        self._workers = workers
        self.batch_seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.valid = True

    def measure(self, count: int) -> None:
        with contextlib.closing(self._make(self._folder, self._workers)) as stream:
            # Until the processes have started and the batches prefetched meanwhile are used up.
            for batch in islice(stream, 3 * self._workers):
                self.valid &= pipelines.looks_valid(batch)
            begin = time.perf_counter()
            for _ in islice(stream, count):
                pass
            self.batch_seconds.append((time.perf_counter() - begin) / count)
        cpu_count = max(2, count // self._workers)
        with contextlib.closing(self._make(self._folder, 0)) as stream:
            next(stream)
            used = time.process_time()
            for _ in islice(stream, cpu_count):
                pass
            self.cpu_seconds.append((time.process_time() - used) / cpu_count / pipelines.BATCH)

    def images_per_second(self) -> float:
        return pipelines.BATCH / statistics.median(self.batch_seconds)


def _row(name: str, turns: _LoaderTurns, device: str, workers: int, decode: float) -> Row:
    milliseconds = sorted(1e3 * seconds for seconds in turns.batch_seconds)
    median, cpu = 1e3 * statistics.median(turns.batch_seconds), 1e3 * statistics.median(turns.cpu_seconds)
    row: Row = dict.fromkeys(results.ROW_KEYS)
    row.update(
        suite=SUITE,
        case=CASE,
        provider=name,
        device=device,
        dtype="uint8",
        ms_median=round_significant(median),
        ms_p20=round_significant(milliseconds[len(milliseconds) // 5]),
        ms_p80=round_significant(milliseconds[-1 - len(milliseconds) // 5]),
        gb_per_s=round_significant(3 * pipelines.SIZE**2 * pipelines.BATCH / median / 1e6),
        gflop_per_s=0.0,
        fraction_of_limit=round_significant(1e3 * decode / cpu),
        correct=turns.valid,
        img_per_s=round_significant(turns.images_per_second(), 4),
        workers=0 if name == "fastgan-thread" else workers,
        cpu_ms_per_image=round_significant(cpu, 4),
        cores_for_1000_img_per_s=round_significant(cpu, 3),  # numerically the same: a core has 1,000 ms a second
    )
    return row


def _decode_seconds(folder: Path) -> float:
    """CPU time in which Pillow decodes an image."""
    files = [io.BytesIO(path.read_bytes()) for path in islice(sorted((folder / "photographs").iterdir()), 32)]
    used = time.process_time()
    for file in files:
        Image.open(file).load()
    return (time.process_time() - used) / len(files)
