"""The convolution's epilogue."""

from typing import Any


def test_bias_act(run: Any, benchmark: Any) -> None:
    run(benchmark)
