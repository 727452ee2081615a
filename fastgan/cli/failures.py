"""The lines that tell of a failure: of one picture among many, of memory, of standard output."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress

from fastgan.cli.messages import print_line
from fastgan.utils.memory import is_out_of_memory

#: The exit code of a command that is done, but for some items.
SOME_FAILED = 3
#: A place that refuses one file for these refuses the next one, too.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def memory_line(advice: str = "") -> str:
    """The line for too little memory, with what helps against it."""
    return "not enough memory" + (f"; {advice}" if advice else "")


def item_line(item: object, error: Exception, memory_advice: str = "") -> str:
    """The line for one of many items that failed, whatever was raised; it names the item."""
    from fastgan.data import failure_reason

    if is_out_of_memory(error):
        return f"{item}: {memory_line(memory_advice)}"
    line = failure_reason(item, error)
    # The model knows no file; a name that is not printable stands in the line as data shows it.
    return line if str(item) in line or repr(str(item)) in line else f"{item}: {line}"


def has_no_place(error: BaseException | None) -> bool:
    """Whether a disk is full, or takes no files at all: what failed for one result then fails for all that follow."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            return True
        error = error.__cause__
    return False


def tell_skipped(lines: list[str]) -> None:
    """Name what was passed over, a line each, on stderr."""
    for line in lines:
        print_line(f"skipped: {line}")


def lost_output(error: OSError) -> tuple[str, int]:
    """The line, and the exit code, for standard output that cannot be written; nothing goes there any more.

    A reader that is gone, as ``head`` is after ten lines, wanted no more: that is no line, and the code of SIGPIPE.
    """
    # What is left in Python's buffer would fail once more at exit, and make the exit code 120.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    if error.errno == errno.EPIPE:
        return "", 128 + signal.SIGPIPE
    return f"standard output: cannot be written ({error.strerror})", 1
