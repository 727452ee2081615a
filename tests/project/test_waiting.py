"""Tests end, whatever they wait for."""

import os
import signal
from pathlib import Path

import pytest
from helpers.waiting import time_limit


def test_a_pipe_that_nobody_writes_to_ends_a_test(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(pytest.fail.Exception, match=r"not done in 0\.2 s"), time_limit(0.2):
        (tmp_path / "pipe").read_bytes()


def test_every_test_has_a_limit() -> None:
    remaining = signal.getitimer(signal.ITIMER_REAL)[0]
    with time_limit(5.0):
        pass
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= remaining
