"""Clocks for one piece of work."""

from types import SimpleNamespace

import pytest

from fastgan.profiling import timer


def test_the_best_of_some_runs_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = 0.0, iter([1.0, 5.0, 3.0, 4.0])
    monkeypatch.setattr(timer, "time", SimpleNamespace(perf_counter=lambda: now))

    def work() -> None:
        nonlocal now
        now += next(durations)

    assert timer.best_seconds(work, "cpu", 3) == 3.0  # not the warm-up's 1
    assert next(durations, None) is None
