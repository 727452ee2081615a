"""Reading ahead: the same batches from a thread and from processes, which tell what is broken and leave no orphans."""

import contextlib
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.picture_files import coordinates, noise, save
from helpers.waiting import HANG, wait_until

from fastgan.data import CropBatches, ImageFolder, LoaderError, default_workers, loader, prefetch
from fastgan.errors import InputError

SIZE = 16
COUNT = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        save(coordinates(20 + number, 40 - 3 * number, number), tmp_path / f"{number:012}.png")
    return tmp_path


def batches(folder: Path) -> CropBatches:
    return CropBatches(ImageFolder(folder, size=SIZE), batch=3, seed=5)


def test_bad_arguments(folder: Path) -> None:
    with pytest.raises(ValueError, match="depth"):
        prefetch(batches(folder), depth=-1)
    with pytest.raises(ValueError, match="workers"):
        prefetch(batches(folder), workers=-1)
    with pytest.raises(ValueError, match="need CropBatches"):
        prefetch(Numbered(), workers=1)


# --- a thread


# --- reading ahead


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
@pytest.mark.parametrize("start", [0, 11])
def test_prefetch_gives_the_steps_in_order(folder: Path, depth: int, start: int) -> None:
    with contextlib.closing(prefetch(batches(folder), start, depth=depth)) as stream:
        for step, batch in enumerate(islice(stream, 12), start):
            assert torch.equal(batch, batches(folder).batch_at(step)), step


def data_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastgan-data")]


def test_closing_ends_the_thread(folder: Path) -> None:
    stream = prefetch(batches(folder))
    assert not data_threads()
    next(stream)
    assert len(data_threads()) == 1
    stream.close()
    assert not data_threads()
    assert next(stream, None) is None


class Numbered:
    """CropBatches that tell how far ahead they were asked for, and fail at one step."""

    def __init__(self, bad: int = -1) -> None:
        self.bad = bad
        self.asked: list[int] = []

    def batch_at(self, step: int) -> torch.Tensor:
        self.asked.append(step)
        if step == self.bad:
            raise InputError("step 4 is bad")
        return torch.tensor(step)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_errors_come_at_their_own_step(depth: int) -> None:
    stream = prefetch(Numbered(bad=4), depth=depth)
    assert [int(batch) for batch in islice(stream, 4)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="step 4 is bad"):
        next(stream)
    assert not data_threads()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_further_ahead_than_told(depth: int) -> None:
    source = Numbered()
    stream = prefetch(source, depth=depth)
    for _ in range(5):
        next(stream)
    stream.close()
    assert set(range(5)) <= set(source.asked) <= set(range(5 + depth))


def test_too_many_broken_files_stop_the_reader_ahead(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_text("no picture")
    with pytest.raises(InputError, match="images cannot be read"):
        next(prefetch(CropBatches(ImageFolder(folder, size=SIZE, on_broken=lambda *_: None), batch=2, seed=0)))


# --- processes


def wait_for_no_children() -> None:
    """Closing waits some seconds for them: on a machine that is very busy they may take longer."""
    wait_until(lambda: not multiprocessing.active_children(), "the end of all worker processes")


def with_broken(folder: Path, count: int = 4) -> Path:
    """The folder's seven pictures, and some that are broken."""
    for number in range(count):
        (folder / f"{number:012}-broken.jpg").write_text("no picture")
    return folder


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("start", [0, 11])
@pytest.mark.parametrize("depth", [0, 9])
def test_processes_give_the_same_batches(folder: Path, workers: int, start: int, depth: int) -> None:
    with contextlib.closing(prefetch(batches(folder), start, depth=depth, workers=workers)) as stream:
        for step, batch in enumerate(islice(stream, 14), start):
            assert batch.dtype == torch.uint8
            assert torch.equal(batch, batches(folder).batch_at(step)), step
    wait_for_no_children()
    assert not data_threads()


def test_processes_give_the_same_batches_of_photographs(tmp_path: Path) -> None:
    for number, (height, width) in enumerate([(480, 640), (427, 640), (640, 480), (1700, 2000), (60, 90)]):
        save(noise(height, width, number), tmp_path / f"{number}.jpg", quality=90)

    def source() -> CropBatches:
        return CropBatches(ImageFolder(tmp_path, size=64, short_side=96, cache_bytes=100_000), batch=4, seed=0)

    with contextlib.closing(prefetch(source(), workers=3)) as stream:
        assert all(torch.equal(batch, source().batch_at(step)) for step, batch in enumerate(islice(stream, 9)))


def test_without_room_in_shared_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_SHARED_MEMORY", folder / "nowhere")
    with contextlib.closing(prefetch(batches(folder), workers=2)) as stream:
        assert all(torch.equal(batch, batches(folder).batch_at(step)) for step, batch in enumerate(islice(stream, 5)))


def test_processes_leave_the_global_random_state_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with contextlib.closing(prefetch(batches(folder), workers=2)) as stream:
        next(stream)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_leave_signal_handlers_alone(folder: Path) -> None:
    numbers = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with contextlib.closing(prefetch(batches(folder), workers=1)) as stream:
        next(stream)
        assert [signal.getsignal(number) for number in numbers] == before


def test_processes_end_in_order(folder: Path) -> None:
    with contextlib.closing(prefetch(batches(folder), workers=2)) as stream:
        next(stream)
        processes = multiprocessing.active_children()
    for process in processes:
        process.join(HANG)
    assert len(processes) == 2 and [process.exitcode for process in processes] == [0, 0]


def test_processes_tell_of_broken_files_once(folder: Path) -> None:
    with_broken(folder)
    told: list[tuple[Path, str, int]] = []
    images = ImageFolder(folder, size=SIZE, on_broken=lambda path, reason: told.append((path, reason, os.getpid())))
    alone = CropBatches(ImageFolder(folder, size=SIZE, on_broken=lambda *_: None), batch=3, seed=5)
    with contextlib.closing(prefetch(CropBatches(images, batch=3, seed=5), workers=3)) as stream:
        for step, batch in enumerate(islice(stream, 14)):
            assert torch.equal(batch, alone.batch_at(step)), step
    broken = sorted(folder.glob("*.jpg"))
    assert sorted(path for path, *_ in told) == broken and sorted(map(str, images.broken)) == sorted(map(str, broken))
    assert all(path.name in reason and process == os.getpid() for path, reason, process in told)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_too_many_broken_files_stop_at_the_same_step(folder: Path, workers: int) -> None:
    with_broken(folder)
    images = ImageFolder(folder, size=SIZE, max_broken=0.3, on_broken=lambda *_: None)
    with contextlib.closing(prefetch(CropBatches(images, batch=1, seed=5), workers=workers)) as stream:
        seen = 0
        with pytest.raises(InputError, match=r"^4 of 11 images cannot be read, at most 30%[^\n]*$"):
            for _ in stream:
                seen += 1
    assert seen == 5
    wait_for_no_children()


def test_nothing_but_broken_files_stops_processes(tmp_path: Path) -> None:
    images = ImageFolder(sorted(with_broken(tmp_path).iterdir()), size=SIZE, on_broken=lambda *_: None)
    with pytest.raises(InputError, match=r"of 4 images cannot be read"):
        next(prefetch(CropBatches(images, batch=2, seed=0), workers=2))
    wait_for_no_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_photographs_that_go_away_are_told_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr("fastgan.data.folder.GONE_DELAYS", (0.0,))
    images = ImageFolder(folder, size=SIZE, cache_bytes=0, on_broken=lambda path, _: pytest.fail(f"{path} broken"))
    with contextlib.closing(prefetch(CropBatches(images, batch=1, seed=5), workers=workers)) as stream:
        for _ in range(2):  # each worker has read one
            next(stream)
        folder.rename(folder.with_name(f"{folder.name}-away"))  # at once: workers are reading ahead
        with pytest.raises(LoaderError, match=r"^the photographs are gone: 7 of 7[^\n]*$"):
            for _ in stream:
                pass
    wait_for_no_children()


@pytest.mark.parametrize("problem", [MemoryError(), RuntimeError("two\nlines")])
def test_whatever_a_picture_raises_in_a_worker_it_is_a_broken_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(image: np.ndarray, side: int) -> np.ndarray:
        if image[0, 0, 2] == 3:
            raise problem
        return image

    monkeypatch.setattr("fastgan.data.resize.enlarge_to", fail)
    broken: list[Path] = []
    images = ImageFolder(folder, size=SIZE, on_broken=lambda path, _: broken.append(path))
    with contextlib.closing(prefetch(CropBatches(images, batch=3, seed=5), workers=2)) as stream:
        seen = {int(value) for batch in islice(stream, 8) for value in batch[:, 0, 0, 2]}
    assert seen == set(range(COUNT)) - {3} and broken == [folder / f"{3:012}.png"]
    wait_for_no_children()


def test_whatever_a_batch_raises_in_a_worker_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise MemoryError("no room\nat all")

    source = batches(folder)
    monkeypatch.setattr(source, "batch_at", fail)
    with pytest.raises(LoaderError, match=r"^a process that reads photographs failed \(no room\)[^\n]*$"):
        next(prefetch(source, workers=1))
    wait_for_no_children()


def test_a_dead_worker_is_told_in_one_line(folder: Path) -> None:
    stream = prefetch(batches(folder), workers=2)
    next(stream)
    victim = multiprocessing.active_children()[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(LoaderError, match=r"process that reads photographs failed[^\n]*data.workers[^\n]*$"):
        for _ in stream:
            pass
    wait_for_no_children()
    assert not data_threads()


def test_processes_that_cannot_start_are_not_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipes: list[int] = []
    tried = []

    def pipe() -> tuple[int, int]:
        pipes.extend(ends := REAL_PIPE())
        return ends

    def refuse(*_: object, **__: object) -> None:
        tried.append(True)
        raise OSError("no more processes")

    monkeypatch.setattr(loader.os, "pipe", pipe)
    monkeypatch.setattr(loader, "DataLoader", refuse)
    with pytest.raises(LoaderError, match=r"no processes to read photographs \(no more processes\); data.workers=0"):
        next(prefetch(batches(folder), workers=2, depth=4))
    assert len(tried) == 1 and len(pipes) == 2
    for end in pipes:
        with pytest.raises(OSError):
            os.fstat(end)


def test_closing_ends_stuck_workers_though_others_hold_the_pipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_JOIN_TIMEOUT", 0.0)
    there, here = os.pipe()

    def stick(step: int) -> None:
        os.write(here, b"x")
        threading.Event().wait()

    stuck = batches(folder)
    monkeypatch.setattr(stuck, "batch_at", stick)
    first = loader._WorkerPool(stuck, 0, 2, prefetch_factor=2)
    starting = threading.Thread(target=first._try_to_start)  # it blocks signals in its thread
    starting.start()
    starting.join()
    workers = {child.pid for child in multiprocessing.active_children()}
    assert len(workers) == 2
    for _ in workers:  # each says once that it is stuck
        assert select.select([there], [], [], HANG)[0] and os.read(there, 1)
    with contextlib.closing(prefetch(batches(folder), workers=2)) as second:  # forked with a copy of every end
        next(second)
        first.close()
        wait_until(lambda: not workers & {child.pid for child in multiprocessing.active_children()}, "their end")
        assert torch.equal(next(second), batches(folder).batch_at(1))
    os.close(there)
    os.close(here)


REAL_PIPE = os.pipe
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
from itertools import islice
from multiprocessing import active_children
from fastgan.data import CropBatches, ImageFolder, prefetch
stream = prefetch(CropBatches(ImageFolder(sys.argv[1], size=16), batch=3, seed=5), workers=2)
next(stream)
print(*(child.pid for child in active_children()), flush=True)
{then}
"""
THEN = {
    "error": "raise SystemExit(3)",
    "unclosed": "",
    "killed": "signal.pause()",
    "interrupted": "for _ in stream: pass",
}


@pytest.mark.parametrize("how", THEN)
def test_no_orphans(folder: Path, how: str) -> None:
    command = [sys.executable, "-c", CHILD.format(then=THEN[how]), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as child:
        try:
            assert child.stdout is not None
            workers = [int(number) for number in child.stdout.readline().split()]
            assert len(workers) == 2
            if how == "killed":
                child.kill()
            elif how == "interrupted":
                os.killpg(child.pid, signal.SIGINT)  # as a terminal does
            child.wait(HANG)
        finally:
            child.kill()
    wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers")


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_processes_outlive_signals_to_the_group(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A scheduler's SIGTERM reaches all of them; the trainer wants its next batches until it has saved.
    start = loader._start_worker
    hold, let_go = os.pipe()

    def late(*arguments: int) -> None:  # without handlers of their own until they have been hit
        os.read(hold, 1)
        start(*arguments)

    monkeypatch.setattr(loader, "_start_worker", late)
    with contextlib.closing(prefetch(batches(folder), workers=2)) as stream, ThreadPoolExecutor() as pool:
        first = pool.submit(next, stream)
        try:
            wait_until(lambda: len(multiprocessing.active_children()) == 2, "two worker processes")
            signal_workers()
        finally:
            os.write(let_go, b"xx")
        assert torch.equal(first.result(), batches(folder).batch_at(0))
        signal_workers()
        for step, batch in enumerate(islice(stream, 12), 1):
            assert torch.equal(batch, batches(folder).batch_at(step))
    os.close(hold)
    os.close(let_go)


def signal_workers() -> None:
    for process in multiprocessing.active_children():
        for name in ("TERM", "INT"):  # by another process
            subprocess.run(["sh", "-c", f"kill -{name} {process.pid}"], check=True)


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 0), (2, 1), (16, 15), (17, 16), (128, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_workers(torch.device("cuda")) == workers
        assert default_workers(torch.device("cpu")) == 0


def test_import_is_light() -> None:
    code = "import fastgan.data, sys; print([m for m in ('skimage', 'scipy', 'torchvision') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
