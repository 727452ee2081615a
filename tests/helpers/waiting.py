"""Waiting for events. What a test waits for has no time of its own: ``HANG`` only ends a test that would never end."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Seconds without what is waited for, after which a test gives up.
HANG = 600.0


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Returns once ``happened()`` is true; fails the test where that never comes."""
    end = time.monotonic() + HANG
    while not happened():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not in {HANG:.0f} s")
        time.sleep(0.01)


@contextmanager
def time_limit(seconds: float = HANG) -> Iterator[None]:
    """Fail a ``with`` block that has not ended by then, as one that waits for the other end of a pipe."""

    def give_up(*_: object) -> None:
        pytest.fail(f"not done in {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, remaining)


@contextmanager
def open_pipe(path: Path) -> Iterator[Callable[[], bytes]]:
    """Make a pipe of up to 1 MiB, open at its other end; gives what reads all that is in it now, without waiting."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)

    def read_now() -> bytes:
        try:
            return os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return b""

    try:
        yield read_now
    finally:
        os.close(descriptor)
