"""``fastgan bench loader``: images a second of the loader alone, beside torchvision's and WebDataset's pipelines."""

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
from fastgan.bench.loader import pipelines as peers
from fastgan.bench.ops.providers import is_ours
from fastgan.bench.results import Result, Row
from fastgan.data import default_workers
from fastgan.errors import InputError
from fastgan.utils.format import round_significant
from fastgan.utils.system import installed_version

Tell = Callable[[str], None]

SUITE = "loader"
CASE = f"jpeg-{peers.SIZE}-b{peers.BATCH}"


def run(
    device: str = "cpu",
    *,
    only: Sequence[str] = (),
    quick: bool = False,
    compiled: bool | None = None,
    workers: int | None = None,
    tell: Tell = lambda _: None,
    keep: Callable[[Result], None] = lambda _: None,
    result: Result | None = None,
) -> Result:
    """Measure the loaders; the header and rows of ``bench --json``.

    Providers take turns. In each turn one is started anew, and timed once its processes are at work: ``ms_median`` is
    the time between two batches. Then it makes some batches in this process, for the processor's time that an image
    takes, which other processes on the machine hardly touch: ``cpu_ms_per_image``, and from it how many cores would
    make 1,000 images a second. ``fraction_of_limit`` is the share of that time that Pillow takes to decode alone.

    Args:
        only: providers; all of them when empty.
        quick: few pictures and one round: whether it works, not how fast it is.
        compiled: not used.
        workers: processes of each provider; by default what training on a GPU takes, and one at least.

    Raises:
        InputError: an unknown provider, or the demo's photographs are not there.
    """
    check(only)
    workers = workers or max(1, default_workers(torch.device("cuda")))
    result = result or {"header": results.header(device), "rows": []}
    header = result["header"]
    found = {name: installed_version(name) for name in ("pillow", "simplejpeg", "torchvision", "webdataset")}
    header["versions"].update({name: version for name, version in found.items() if version})
    begin = time.monotonic()
    threads = torch.get_num_threads()
    rounds, batches = (1, 2) if quick else (7, 12 * workers)
    with tempfile.TemporaryDirectory(prefix="fastgan-bench-") as temporary:
        folder = Path(temporary)
        count = 32 if quick else 384
        size = peers.write_photographs(folder, count)
        header["photographs"] = {
            "count": count,
            "width": peers.WIDTH,
            "height": peers.HEIGHT,
            "mean_bytes": round(size / count),
        }
        turns = {
            name: _Turns(make, folder, workers) for name, make in peers.PIPELINES.items() if not only or name in only
        }
        decode: list[float] = []
        torch.set_num_threads(1)  # as it is in worker processes
        try:
            for turn in range(rounds):
                decode.append(_decode_seconds(folder))
                names = list(turns)
                for place in range(len(names)):
                    name = names[(place + turn) % len(names)]
                    try:
                        turns[name].take(batches)
                    except ImportError as error:
                        header["skipped"].append(f"{name}: {error}")
                        tell(f"left out: {header['skipped'][-1]}")
                        del turns[name]
                tell(
                    f"[{turn + 1}/{rounds}] " + ", ".join(f"{n} {t.images_per_second():.0f}" for n, t in turns.items())
                )
        finally:
            torch.set_num_threads(threads)
    header["ceilings"]["jpeg_decode_ms"] = round_significant(1e3 * statistics.median(decode))
    rows = [_row(name, turn, device, workers, statistics.median(decode)) for name, turn in turns.items()]
    best = min((row["ms_median"] for row in rows if row["correct"] and not is_ours(row["provider"])), default=None)
    for row in rows:
        if row["correct"] and best is not None:
            row["ratio_to_best_peer"] = round_significant(best / row["ms_median"], 4)
    result["rows"] += rows
    results.finish(result, begin)
    keep(result)
    return result


def check(only: Sequence[str]) -> None:
    """Raises InputError for what cannot be measured."""
    for name in only:
        if name not in peers.PIPELINES:
            raise InputError(f"--only {name}: no such loader; expected some of {', '.join(peers.PIPELINES)}")


class _Turns:
    """What one provider took in its turns."""

    def __init__(self, make: peers.Pipeline, folder: Path, workers: int) -> None:
        self._make = make
        self._folder = folder
        self._workers = workers
        self.batch_seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.right = True

    def take(self, count: int) -> None:
        with contextlib.closing(self._make(self._folder, self._workers)) as stream:
            for batch in islice(stream, 3 * self._workers):  # they start, and what they made ahead is taken
                self.right &= peers.right(batch)
            begin = time.perf_counter()
            for _ in islice(stream, count):
                pass
            self.batch_seconds.append((time.perf_counter() - begin) / count)
        alone = max(2, count // self._workers)
        with contextlib.closing(self._make(self._folder, 0)) as stream:
            next(stream)
            used = time.process_time()
            for _ in islice(stream, alone):
                pass
            self.cpu_seconds.append((time.process_time() - used) / alone / peers.BATCH)

    def images_per_second(self) -> float:
        return peers.BATCH / statistics.median(self.batch_seconds)


def _row(name: str, turn: _Turns, device: str, workers: int, decode: float) -> Row:
    milliseconds = sorted(1e3 * seconds for seconds in turn.batch_seconds)
    median, cpu = 1e3 * statistics.median(turn.batch_seconds), 1e3 * statistics.median(turn.cpu_seconds)
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
        gb_per_s=round_significant(3 * peers.SIZE**2 * peers.BATCH / median / 1e6),
        gflop_per_s=0.0,
        fraction_of_limit=round_significant(1e3 * decode / cpu),
        correct=turn.right,
        img_per_s=round_significant(turn.images_per_second(), 4),
        workers=0 if name == "fastgan-thread" else workers,
        cpu_ms_per_image=round_significant(cpu, 4),
        cores_for_1000_img_per_s=round_significant(cpu, 3),  # the same number: a core has 1,000 ms a second
    )
    return row


def _decode_seconds(folder: Path) -> float:
    """The processor's time for an image that Pillow decodes, and no more."""
    files = [io.BytesIO(path.read_bytes()) for path in islice(sorted((folder / "photographs").iterdir()), 32)]
    used = time.process_time()
    for file in files:
        Image.open(file).load()
    return (time.process_time() - used) / len(files)
