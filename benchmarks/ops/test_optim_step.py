"""An optimizer's update, and the check of its gradient."""

from typing import Any


def test_optim_step(run: Any, benchmark: Any) -> None:
    run(benchmark)


def test_check_finite(run: Any, benchmark: Any) -> None:
    run(benchmark)
