"""2x2 max-pool."""

from typing import Any


def test_max_pool(run: Any, benchmark: Any) -> None:
    run(benchmark)
