"""The training step."""

from typing import Any


def test_step(run: Any, benchmark: Any) -> None:
    run(benchmark)
