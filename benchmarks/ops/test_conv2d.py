"""Convolutions with their epilogues."""

from typing import Any


def test_conv2d(run: Any, benchmark: Any) -> None:
    run(benchmark)
