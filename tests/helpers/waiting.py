"""Waiting for events. What a test waits for has no time of its own: ``HANG`` only ends a test that would never end."""

import time
from collections.abc import Callable

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
