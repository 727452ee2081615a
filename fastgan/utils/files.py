"""Atomic file writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fastgan.errors import InputError, first_line


def atomic_write(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Write ``path`` by ``write`` such that a crash at any time leaves the old file or the new one, never a part.

    ``durable`` waits until the disk has it, so that this holds for a power cut too.

    Raises:
        InputError: the file cannot be written (no space, no permission, no such folder); nothing is left behind.
    """
    # Not tempfile: its files are private to their owner, and these must get the user's usual permissions.
    temporary = path.with_name(f".fastgan-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch's zip writer reports a full disk as a RuntimeError.
        if isinstance(error, OSError | RuntimeError):
            raise InputError(f"{path}: cannot be written ({_reason(error)})") from error
        raise


def write_text(path: Path, text: str) -> None:
    """``atomic_write`` for UTF-8 text; bytes of file names that are no text come out as escapes."""
    atomic_write(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def remove_temp_files(folder: Path) -> None:
    """Remove temporary files that an interrupted ``atomic_write`` left anywhere below ``folder``."""
    for path in folder.rglob(".fastgan-*.tmp"):
        path.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no such folder"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return getattr(error, "strerror", None) or first_line(error)
