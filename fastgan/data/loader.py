"""Prefetching: batches of consecutive steps, prepared by a thread or by worker processes."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fastgan.data.failures import LoaderError
from fastgan.data.folder import CropBatches
from fastgan.data.shards import ImagePath
from fastgan.errors import FastganError, InputError, first_line

MAX_WORKERS = 16
#: Minimum number of batches that each worker prepares ahead of the training.
_MIN_DEPTH = 2
_SHARED_MEMORY = Path("/dev/shm")
#: Seconds that workers have to finish a batch.
_JOIN_TIMEOUT = 4.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BatchSource(Protocol):
    """Source of batches, addressed by step."""

    def batch_at(self, step: int) -> torch.Tensor: ...


def default_workers(device: torch.device) -> int:
    """Default number of decoding processes: for a GPU the cores less one, at most 16; for a CPU 0, that is a thread.

    A training step on a CPU takes seconds and decoding its batch milliseconds, so all cores are left to training.
    """
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores - 1)


def prefetch(
    batches: BatchSource, start_step: int = 0, *, depth: int = 2, workers: int = 0, pin: bool = False
) -> Generator[torch.Tensor, None, None]:
    """Yield ``batches.batch_at(start_step)``, the next step's batch, and so on without end.

    One background thread, started by the first ``next``, prepares ``depth`` batches ahead; 0 prepares each on demand.
    With ``workers``, that many processes prepare them, each at least two ahead; ``batches`` must then be
    ``CropBatches``. The batches are the same either way. An error is raised at the step of its batch. Closing the
    generator (``close()``, or ``with contextlib.closing(...)``) ends thread and processes. With ``pin`` the batches are
    in page-locked memory, which a GPU copies while it computes.

    Raises:
        LoaderError: later, when a worker process has died or the photographs are gone.
    """
    if depth < 0:
        raise ValueError(f"depth must not be negative, got {depth}")
    if workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    if workers == 0:
        return _prefetch_with_thread(batches.batch_at, lambda: None, start_step, depth, pin)
    if not isinstance(batches, CropBatches):
        raise ValueError(f"workers need CropBatches, got {type(batches).__name__}")
    processes = _WorkerPool(batches, start_step, workers, prefetch_factor=max(_MIN_DEPTH, -(-depth // workers)))
    # A thread receives from the processes even for depth 0, so that the training does not wait for them.
    return _prefetch_with_thread(processes.batch_at, processes.close, start_step, max(1, depth), pin)


def _prefetch_with_thread(
    batch_at: Callable[[int], torch.Tensor], close: Callable[[], None], step: int, depth: int, pin: bool
) -> Generator[torch.Tensor, None, None]:
    def fetch(step: int) -> torch.Tensor:
        batch = batch_at(step)
        return batch.pin_memory() if pin else batch

    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastgan-data") if depth else None
    pending: deque[Future[torch.Tensor]] = deque()
    try:
        while True:
            if pool is None:
                yield fetch(step)
                step += 1
                continue
            while len(pending) < depth:
                pending.append(pool.submit(fetch, step))
                step += 1
            try:
                result = pending.popleft().result()
            except RuntimeError as problem:
                # If the program itself uses a DataLoader, torch's SIGCHLD handler raises wherever the main thread is.
                if "DataLoader worker" not in str(problem):
                    raise
                raise _worker_error(first_line(problem)) from None
            pending.append(pool.submit(fetch, step))
            step += 1
            yield result
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        close()


def _worker_error(reason: str) -> LoaderError:
    return LoaderError(
        f"a process that reads photographs failed ({reason}); memory may be short: "
        "try fewer data.workers, or 0 for none"
    )


#: The result of a worker for a step: the batch or the error, and the broken images found.
_WorkerResult = tuple[torch.Tensor | Any, FastganError | None, list[tuple[ImagePath, str]]]


class _WorkerPool:
    """Batches of consecutive steps, requested in order by one thread, from the processes of a ``DataLoader``.

    The processes are forked at the first ``batch_at``, from a thread, while the caller waits: nothing else is in
    progress that a fork could interrupt. In that thread torch does not touch the signal handlers of the process; a
    dead worker is detected when its batch is requested.
    """

    def __init__(self, batches: CropBatches, start_step: int, workers: int, *, prefetch_factor: int) -> None:
        self._batches = batches
        self._start_step = start_step
        self._workers = workers
        self._prefetch_factor = prefetch_factor
        self._results: Iterator[_WorkerResult] | None = None
        self._lifeline: int | None = None
        self._start_error = ""

    def _try_to_start(self) -> None:
        # A signal may reach the whole process group; the trainer saves first and then ends its workers. Workers are
        # forked with all of them blocked, so that these can never kill them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            self._start()
        except Exception as problem:  # OSError, or AssertionError in a daemonic process, which may not have children
            self._start_error = first_line(problem) or type(problem).__name__

    def _start(self) -> None:
        hangup, self._lifeline = os.pipe()
        buffered = self._workers * self._prefetch_factor + 2
        shared = _fits_shared_memory(3 * self._batches.size**2 * self._batches.batch * buffered)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than cores
                loader = DataLoader(
                    _StepDataset(self._batches, self._workers, shared=shared),
                    batch_size=None,
                    sampler=_CountFrom(self._start_step),
                    num_workers=self._workers,
                    prefetch_factor=self._prefetch_factor,
                    worker_init_fn=functools.partial(_start_worker, hangup, self._lifeline),
                    # torch would draw a seed from its global generator; nothing here draws from either.
                    generator=torch.Generator(),
                    multiprocessing_context="fork",
                )
                self._results = iter(loader)
        finally:
            os.close(hangup)
            # Runs before the exit handlers of multiprocessing and torch, which send SIGTERM and wait.
            atexit.register(self._release_workers)

    def batch_at(self, step: int) -> torch.Tensor:
        """The next batch, which is that of ``step`` if steps are requested in order."""
        if self._results is None and not self._start_error:
            # In a separate thread: forked from the pool's thread, the processes would wait for that thread at exit.
            starter = threading.Thread(target=self._try_to_start)
            starter.start()
            starter.join()
        if self._results is None:
            raise LoaderError(f"no processes to read photographs ({self._start_error}); data.workers=0 takes none")
        reason = ""
        try:
            batch, error, broken = next(self._results)
        except (RuntimeError, OSError, EOFError) as problem:  # the worker may die while it sends
            reason = first_line(problem)
        if reason:  # raised out here, or the error would keep the other workers alive
            raise _worker_error(reason)
        for path, why in broken:
            self._batches.folder.note_broken(path, why)
        if broken or isinstance(error, InputError):
            self._batches.folder.stop_if_too_many()
        if error is not None:
            raise error
        return batch if isinstance(batch, torch.Tensor) else torch.from_numpy(batch)

    def close(self) -> None:
        """End the processes, which may finish their current batch within ``_JOIN_TIMEOUT`` seconds."""
        if self._lifeline is None:  # never started, or at exit, where no thread can be started
            self._results = None
            return
        # torch would wait 10 s for each stuck process.
        timer = threading.Timer(_JOIN_TIMEOUT, self._release_workers)
        timer.daemon = True
        timer.start()
        self._results = None  # the last reference: torch stops and joins them
        timer.cancel()
        self._release_workers()

    def _release_workers(self) -> None:
        atexit.unregister(self._release_workers)
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            # One byte for each: processes forked since may hold a copy of this end, so closing it is not enough.
            with contextlib.suppress(OSError):  # all are gone
                os.write(lifeline, bytes(self._workers))
            os.close(lifeline)


class _CountFrom(Sampler[int]):
    """Numbers from ``start`` on without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        step = self.start
        while True:
            yield step
            step += 1


class _StepDataset(Dataset[_WorkerResult]):
    """In a worker: batches by step, each with the broken images found since the last one."""

    def __init__(self, batches: CropBatches, workers: int, *, shared: bool) -> None:
        self.batches = batches
        self.workers = workers
        self.shared = shared
        self._broken: list[tuple[ImagePath, str]] | None = None

    def __getitem__(self, step: int) -> _WorkerResult:
        if self._broken is None:
            self._broken = []
            self.batches.folder.move_to_worker(self.workers, lambda *image: self._broken.append(image))  # type: ignore[union-attr]
        batch: torch.Tensor | None = None
        error: FastganError | None = None
        try:
            batch = self.batches.batch_at(step)
        except FastganError as problem:
            error = type(problem)(str(problem))  # without its causes, which need not be such as can be sent
        except Exception as problem:
            error = _worker_error(first_line(problem))
        broken, self._broken[:] = list(self._broken), []
        return batch if batch is None or self.shared else batch.numpy(), error, broken


def _start_worker(hangup: int, lifeline: int, _: int) -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # in the place of torch's handler, which exits
    os.close(lifeline)  # the trainer alone holds that end
    threading.Thread(target=_exit_on_hangup, args=(hangup,), daemon=True).start()


def _exit_on_hangup(hangup: int) -> None:
    """Exit when the trainer sends a byte, or when it is gone and the other end of the pipe is closed."""
    os.read(hangup, 1)
    os._exit(0)


def _fits_shared_memory(size: int) -> bool:
    """Whether shared memory holds batches of ``size`` bytes; in containers it may be small, and using more kills."""
    try:
        free = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize > 2 * size
