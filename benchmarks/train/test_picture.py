"""A picture through the network."""

from typing import Any


def test_picture(run: Any, benchmark: Any) -> None:
    run(benchmark)
