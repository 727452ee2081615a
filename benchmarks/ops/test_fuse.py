"""Fusion of content and style features."""

from typing import Any


def test_fuse(run: Any, benchmark: Any) -> None:
    run(benchmark)
