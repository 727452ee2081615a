"""The memory budget: one limit, in bytes, for what a picture takes while it is read and for all that is made of it.

And the one rule for what an error says of memory.
"""

from __future__ import annotations

import errno
import os
import re

from fastgan.errors import InputError

#: The environment variable that sets the budget.
BUDGET_VARIABLE = "FASTGAN_MEMORY_BUDGET"
#: A fixed number, not a share of the machine's memory: which pictures a run trains on must not depend on the machine.
DEFAULT_BUDGET = 2 << 30

#: Matches the RuntimeErrors of torch's allocators, on CPU and on GPU, and of the libraries below it.
_OUT_OF_MEMORY = re.compile(r"allocate memory|(out of|not enough) memory|bad_alloc|_ALLOC_FAILED", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def memory_budget() -> int:
    """Bytes that one picture may take: ``FASTGAN_MEMORY_BUDGET``, such as ``500M`` or ``4G``, by default 2 GiB.

    Raises:
        InputError: the variable holds no such size.
    """
    text = os.environ.get(BUDGET_VARIABLE, "").strip()
    if not text:
        return DEFAULT_BUDGET
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([kmgt]?)(?:i?b)?", text, re.IGNORECASE | re.ASCII)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size < 1:
        raise InputError(f"{BUDGET_VARIABLE}={text!r}: expected a size in bytes, such as 500M or 4G")
    return size


def check_budget(needed: int, what: str) -> None:
    """Raise InputError where ``what``, for which ``needed`` bytes are to be taken, is over the budget."""
    budget = memory_budget()
    if needed > budget:
        raise InputError(
            f"{what} takes {format_bytes(needed)} of memory, and at most {format_bytes(budget)} are allowed; "
            f"{BUDGET_VARIABLE} sets that limit"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing: to Python, to the system, or to one of torch's allocators."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_torch = isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    return is_torch or isinstance(error, MemoryError)


def format_bytes(count: int) -> str:
    """A number of bytes for people.

    >>> format_bytes(2 << 30)
    '2.0 GiB'
    >>> format_bytes(512)
    '512 bytes'
    """
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
