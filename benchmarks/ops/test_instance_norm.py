"""Instance norm with parameters, activation and residual."""

from typing import Any


def test_instance_norm(run: Any, benchmark: Any) -> None:
    run(benchmark)
