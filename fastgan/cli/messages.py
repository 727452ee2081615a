"""Lines on stderr: complaints, and the warnings of the library."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fastgan.utils.format import printable


def print_line(message: object) -> None:
    """Print one printable line to stderr; nothing where that is gone, which is no reason to end."""
    with suppress(OSError, ValueError):
        print(f"fastgan: {printable(message)}", file=sys.stderr)


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Print the warnings of the ``fastgan`` logger to stderr, each as one printable line.

    Those of a logger below it that has a handler of its own are left to that one.
    """
    handler = _Lines(logging.WARNING)
    logger = logging.getLogger("fastgan")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        while logger.name != "fastgan" and logger.parent is not None:
            if logger.handlers:
                return
            logger = logger.parent
        print_line(record.getMessage())
