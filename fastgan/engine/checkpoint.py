"""Files written whole or not at all, and the checkpoints among them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from fastgan.errors import InputError

_NAME = re.compile(r"step-(\d{8})\.pt")


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill ``path`` so that a crash at any instant leaves the old file or the new one, never a part.

    Raises:
        InputError: the file cannot be written (no space, no permission); nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch's zip writer tells a full disk as a RuntimeError.
        if isinstance(error, OSError | RuntimeError):
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise InputError(f"{path}: cannot be written ({reason})") from error
        raise


def write_text(path: Path, text: str) -> None:
    """``write_whole`` for UTF-8 text; bytes of file names that are no text come out as escapes."""
    write_whole(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, file), oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.pt"))
    return sorted((int(match[1]), path) for match, path in found if match)


def save_checkpoint(folder: Path, step: int, values: dict[str, Any], keep: int) -> Path:
    """Write ``step-00000200.pt``; then remove all but the newest ``keep``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    write_whole(path, lambda file: torch.save(values, file))
    for _, old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, on_bad: Callable[[Path, str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read; ``on_bad(path, reason)`` for each that cannot. None: there is none."""
    for _, path in reversed(list_checkpoints(folder)):
        try:
            return path, torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            on_bad(path, (str(error).strip() or type(error).__name__).splitlines()[0][:200])
    return None
