"""Between pictures and tensors."""

from typing import Any


def test_from_pixels(run: Any, benchmark: Any) -> None:
    run(benchmark)


def test_to_pixels(run: Any, benchmark: Any) -> None:
    run(benchmark)
