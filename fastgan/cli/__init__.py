"""The ``fastgan`` command."""

from __future__ import annotations

import sys
import time

#: From here ``train --minutes`` counts: before torch is imported, which takes seconds.
STARTED = time.monotonic()


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, or 2 and one line on stderr for bad input."""
    from fastgan.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)
