"""PSNR."""

from typing import Any


def test_psnr(run: Any, benchmark: Any) -> None:
    run(benchmark)
