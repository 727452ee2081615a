"""SSIM."""

from typing import Any


def test_ssim(run: Any, benchmark: Any) -> None:
    run(benchmark)
