"""The ``fastgan`` command."""

from __future__ import annotations

import os
import sys

from fastgan.cli.start_time import STARTED

__all__ = ["STARTED", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, or 2 and one line on stderr for bad input."""
    # Read by libgomp when torch loads it. Threads that spin at a barrier starve one another on a shared machine: with
    # one of two cores taken by another process, a step took 3.5 to 6.3 s spinning and 1.5 s so (docs/performance).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from fastgan.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)
