"""The lines that tell of a failure, and which failures end a command."""

import errno

import pytest

from fastgan.cli.failures import has_no_place, item_line
from fastgan.errors import InputError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "a.png: not enough memory; give less"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "a.png: not enough memory; give less"),
        (InputError("a.png: too small"), "a.png: too small"),
        (OSError(errno.EIO, "Input/output error"), "a.png: cannot be read (Input/output error)"),
        (ZeroDivisionError("whatever\nand more"), "a.png: cannot be read (ZeroDivisionError: whatever)"),
    ],
)
def test_item_line(error: Exception, line: str) -> None:
    assert item_line("a.png", error, "give less") == line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG])
def test_a_place_that_takes_no_file(number: int) -> None:
    """A full disk refuses what follows, too; a name that is too long is that of one picture."""
    error = InputError("a.png: cannot be written")
    error.__cause__ = OSError(number, "")
    assert has_no_place(error) == (number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
    assert not has_no_place(InputError("a.png: cannot be written"))
