"""Short texts and numbers for output, and names of files in it."""

from __future__ import annotations

import math
import os
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype without its module.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def round_significant(value: float, digits: int = 5) -> float:
    """``value`` rounded to that many significant digits.

    >>> round_significant(1234.56, 4)
    1235.0
    """
    return 0.0 if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))


def printable(text: object) -> str:
    r"""A text or a path on one line that no terminal takes for more: line breaks, control codes and bytes that are no
    text come out as escapes.

    >>> print(printable("a b"), printable("new\nline"), printable("\x1b[31m"))
    a b new\nline \x1b[31m
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def shell_quoted(path: str | os.PathLike[str]) -> str:
    r"""A path as a word of a command line, to be pasted: quoted where a shell takes it for more, and never an option.

    >>> print(shell_quoted("runs/a"), shell_quoted("my run"), shell_quoted("-x"), shell_quoted("new\nline"))
    runs/a 'my run' ./-x $'new\x0aline'
    """
    text = os.fspath(path)
    if text.startswith("-"):
        text = f".{os.sep}{text}"
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"  # as bash, zsh and ksh read it


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
