"""The first signal asks a run to stop, a second one ends the process."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from fastgan.cli import stop_signals
from fastgan.cli.stop_signals import StopOnSignal

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, to be set."""
    clock = [100.0]
    monkeypatch.setattr(stop_signals, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


@pytest.mark.parametrize("number", NUMBERS)
def test_a_second_signal_ends_the_process_at_once(
    number: signal.Signals, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    killed: list[tuple[int, int]] = []
    stop = StopOnSignal()
    stop.trainer = SimpleNamespace(request_stop=lambda: asked.append(1))  # type: ignore[assignment]
    os.kill(os.getpid(), number)
    assert stop.number == number and asked == [1]
    monkeypatch.setattr(stop_signals.os, "kill", lambda *arguments: killed.append(arguments))
    now[0] += 0.5  # what sends each signal twice means one
    signal.raise_signal(number)
    assert killed == [] and asked == [1]
    now[0] += 1
    signal.raise_signal(number)
    assert killed == [(os.getpid(), number)] and signal.getsignal(number) == signal.SIG_DFL


def test_a_run_under_nohup_does_not_end_with_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    StopOnSignal()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
