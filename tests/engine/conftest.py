"""Fixtures of the engine's tests."""

import pytest


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the plots of the report, which take longer than the training here."""
    monkeypatch.setattr("fastgan.engine.report._write_plots", lambda *_: [], raising=False)
