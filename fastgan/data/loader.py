"""Reading ahead: the batches of one step after the other, made by a thread or by worker processes."""

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

from fastgan.data.folder import Batches
from fastgan.data.shards import Photo
from fastgan.errors import FastganError, InputError, first_line

MAX_WORKERS = 16
#: Each worker makes this many batches at least before it waits for the training to take one.
_AHEAD = 2
_SHARED_MEMORY = Path("/dev/shm")
#: Seconds that workers get to finish a batch.
_PATIENCE = 4.0
_TOLD_TO_STOP = (signal.SIGINT, signal.SIGTERM)


class LoaderError(FastganError):
    """A worker process is gone."""


class HasBatches(Protocol):
    """What is read ahead of: batches by their step."""

    def batch_at(self, step: int) -> torch.Tensor: ...


def default_workers(device: torch.device) -> int:
    """Processes that decode: on a GPU one for each core but one, at most 16; on CPU 0, a thread.

    Training on a CPU takes seconds for what is decoded in milliseconds, and has a better use for its cores.
    """
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores - 1)


def iterate(
    batches: HasBatches, start_step: int = 0, *, prefetch: int = 2, workers: int = 0, pin: bool = False
) -> Generator[torch.Tensor, None, None]:
    """Yield ``batches.batch_at(start_step)``, the next step's batch, and so on without end.

    ``prefetch`` batches are prepared ahead by one background thread, started at the first ``next``; 0 prepares each
    when it is asked for. With ``workers``, that many processes prepare them, each two at least ahead; ``batches``
    must be a ``Batches`` then. The batches are the same. An error met ahead is raised at the step it belongs to.
    Closing the generator (``close()``, or ``with contextlib.closing(...)``) ends thread and processes. With ``pin``
    the batches lie in page-locked memory, from which a GPU copies while it computes.

    Raises:
        LoaderError: later, when a worker process has died.
    """
    if prefetch < 0:
        raise ValueError(f"prefetch must not be negative, got {prefetch}")
    if workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    if workers == 0:
        return _ahead(batches.batch_at, lambda: None, start_step, prefetch, pin)
    if not isinstance(batches, Batches):
        raise ValueError(f"workers need a Batches, got {type(batches).__name__}")
    processes = _Processes(batches, start_step, workers, ahead=max(_AHEAD, -(-prefetch // workers)))
    # A thread takes from the processes, whatever prefetch is: it waits in the training's place.
    return _ahead(processes.batch_at, processes.close, start_step, max(1, prefetch), pin)


def _ahead(
    batch_at: Callable[[int], torch.Tensor], close: Callable[[], None], step: int, prefetch: int, pin: bool
) -> Generator[torch.Tensor, None, None]:
    def fetch(step: int) -> torch.Tensor:
        batch = batch_at(step)
        return batch.pin_memory() if pin else batch

    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastgan-data") if prefetch else None
    waiting: deque[Future[torch.Tensor]] = deque()
    try:
        while True:
            if pool is None:
                yield fetch(step)
                step += 1
                continue
            while len(waiting) < prefetch:
                waiting.append(pool.submit(fetch, step))
                step += 1
            try:
                result = waiting.popleft().result()
            except RuntimeError as problem:
                # A program that has a DataLoader of its own in its main thread has torch's handler of SIGCHLD, which
                # raises wherever that thread is.
                if "DataLoader worker" not in str(problem):
                    raise
                raise _gone(first_line(problem)) from None
            waiting.append(pool.submit(fetch, step))
            step += 1
            yield result
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        close()


def _gone(reason: str) -> LoaderError:
    return LoaderError(
        f"a process that reads photographs failed ({reason}); memory may be short: "
        "try fewer data.workers, or 0 for none"
    )


#: What a worker hands over of a step: the batch or why there is none, and the images that it found broken.
_Made = tuple[torch.Tensor | Any, str | None, list[tuple[Photo, str]]]


class _Processes:
    """The batches of consecutive steps, asked for in order and by one thread, from a ``DataLoader``'s processes.

    They start at the first ``batch_at``, from a thread, while whoever waits for the first batch does
    nothing that a fork could cut in two. In that thread torch also leaves the process's signal handlers alone, and a
    dead worker is found by asking for its batch.
    """

    def __init__(self, batches: Batches, start_step: int, workers: int, *, ahead: int) -> None:
        self._batches = batches
        self._start_step = start_step
        self._workers = workers
        self._per_worker = ahead
        self._made: Iterator[_Made] | None = None
        self._lifeline: int | None = None
        self._refused = ""

    def _try_to_start(self) -> None:
        # What ends a training may reach its whole group of processes; it saves first, and then ends its workers. They
        # are born with both signals blocked, so there is no moment at which they can be hit.
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD_TO_STOP)
        try:
            self._start()
        except Exception as problem:  # OSError, or AssertionError in a process that may have none of its own
            self._refused = first_line(problem) or type(problem).__name__

    def _start(self) -> None:
        ended, self._lifeline = os.pipe()
        most = self._workers * self._per_worker + 2
        shared = _has_room(3 * self._batches.size**2 * self._batches.batch * most)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than cores
                loader = DataLoader(
                    _Steps(self._batches, self._workers, shared=shared),
                    batch_size=None,
                    sampler=_From(self._start_step),
                    num_workers=self._workers,
                    prefetch_factor=self._per_worker,
                    worker_init_fn=functools.partial(_start_worker, ended, self._lifeline),
                    # torch would draw a seed from its global generator; nothing here draws from either.
                    generator=torch.Generator(),
                    multiprocessing_context="fork",
                )
                self._made = iter(loader)
        finally:
            os.close(ended)
            # Before what multiprocessing and torch have at exit: they send SIGTERM and wait.
            atexit.register(self._let_go)

    def batch_at(self, step: int) -> torch.Tensor:
        """The next batch; it is that of ``step`` where steps are asked for in order."""
        if self._made is None and not self._refused:
            # In a thread for this alone: the pool's would wait for itself in the processes that are forked from it.
            starting = threading.Thread(target=self._try_to_start)
            starting.start()
            starting.join()
        if self._made is None:
            raise LoaderError(f"no processes to read photographs ({self._refused}); data.workers=0 takes none")
        reason = ""
        try:
            batch, error, broken = next(self._made)
        except (RuntimeError, OSError, EOFError) as problem:  # it may be gone in the middle of handing over
            reason = first_line(problem)
        if reason:  # raised out here, or the error would keep the other workers alive
            raise _gone(reason)
        for path, why in broken:
            self._batches.folder.note_broken(path, why)
        if broken or error:
            self._batches.folder.stop_if_too_many()
        if error is not None:
            raise InputError(error)
        return batch if isinstance(batch, torch.Tensor) else torch.from_numpy(batch)

    def close(self) -> None:
        """End the processes; they finish the batch that they are at, if that takes less than seconds."""
        if self._lifeline is None:  # never started, or at exit, where no thread can be started
            self._made = None
            return
        # torch would wait 10 s for each that is stuck.
        timer = threading.Timer(_PATIENCE, self._let_go)
        timer.daemon = True
        timer.start()
        self._made = None  # the last reference: torch stops and joins them
        timer.cancel()
        self._let_go()

    def _let_go(self) -> None:
        atexit.unregister(self._let_go)
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            # A byte for each: what has been forked since may hold a copy of this end, so closing it is not enough.
            with contextlib.suppress(OSError):  # all are gone
                os.write(lifeline, bytes(self._workers))
            os.close(lifeline)


class _From(Sampler[int]):
    """Numbers from ``first`` on without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield step
            step += 1


class _Steps(Dataset[_Made]):
    """In a worker: batches by step, and with each the broken images that this worker has met since the last."""

    def __init__(self, batches: Batches, workers: int, *, shared: bool) -> None:
        self.batches = batches
        self.workers = workers
        self.shared = shared
        self._broken: list[tuple[Photo, str]] | None = None

    def __getitem__(self, step: int) -> _Made:
        if self._broken is None:
            self._broken = []
            self.batches.folder.move_to_worker(self.workers, lambda *found: self._broken.append(found))  # type: ignore[union-attr]
        batch, error = None, None
        try:
            batch = self.batches.batch_at(step)
        except InputError as problem:
            error = str(problem)
        told, self._broken[:] = list(self._broken), []
        return batch if batch is None or self.shared else batch.numpy(), error, told


def _start_worker(ended: int, lifeline: int, _: int) -> None:
    for number in _TOLD_TO_STOP:
        signal.signal(number, signal.SIG_IGN)  # in the place of torch's handler, which exits
    os.close(lifeline)  # the trainer alone holds that end
    threading.Thread(target=_live_while, args=(ended,), daemon=True).start()


def _live_while(ended: int) -> None:
    """Exit once the trainer says so by a byte, or is gone, however it went, and nobody holds the pipe's other end."""
    os.read(ended, 1)
    os._exit(0)


def _has_room(size: int) -> bool:
    """Whether shared memory holds batches of ``size`` bytes; in containers it may be small, and using more kills."""
    try:
        free = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize > 2 * size
