"""Files written whole or not at all, and files of strangers read within bounds."""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from fastgan.errors import InputError, first_line

#: Bytes of a JSON file at most. Those that fastgan writes have some thousand.
MAX_JSON_BYTES = 64 << 20

_TEMPORARY = ".fastgan-*.tmp"
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
)


def atomic_write(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Write ``path`` by ``write`` such that a crash at any time leaves the old file or the new one, never a part.

    A symbolic link stays, and the file that it leads to is written so. A pipe (whose reader is waited for), a character
    device and an open file such as ``/dev/stdout`` are written into, once all of the content is there.

    Args:
        path: the file.
        write: writes its content to the open file that it gets.
        durable: wait until the disk has it, so that this holds for a power cut too.

    Raises:
        InputError: it cannot be written (no space, no permission, no such folder, a socket or a block device);
            nothing is left behind.
    """
    try:
        descriptor = own_descriptor(path)
        if descriptor is not None or _is_stream(path):
            _write_into(path if descriptor is None else descriptor, write)
        else:
            _replace(Path(os.path.realpath(path)) if path.is_symlink() else path, write, durable)
    # torch's zip writer reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise write_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """``atomic_write`` for UTF-8 text; bytes of file names that are no text come out as escapes."""
    atomic_write(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_error(path: str | os.PathLike[str], error: BaseException) -> InputError:
    """The one line for a file that cannot be written, by what the operating system said, if only in passing."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None or (isinstance(cause, OSError) and cause.errno is not None):
            break
        cause = cause.__cause__ or cause.__context__
    return InputError(f"{os.fspath(path)}: cannot be written ({_reason(error if cause is None else cause)})")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing. Raises InputError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file lies there" if isinstance(error, FileExistsError) else error.strerror
        raise InputError(f"{path}: cannot be created ({reason})") from error


def is_temp_file(path: Path) -> bool:
    """Whether the name is that of a temporary file of ``atomic_write``."""
    return path.match(_TEMPORARY)


def remove_temp_files(folder: Path) -> None:
    """Remove temporary files that an interrupted ``atomic_write`` left anywhere below ``folder``."""
    for path in folder.rglob(_TEMPORARY):
        path.unlink(missing_ok=True)


def own_descriptor(path: Path) -> int | None:
    """The number of the open file of this process that ``path`` is another name of, as ``/dev/stdout`` is of 1."""
    for _ in range(40):  # links, as many as Linux follows
        folder = os.path.realpath(path.parent)
        if path.name.isdecimal() and folder in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))
    return None


def open_regular(path: str | os.PathLike[str], name: str | None = None) -> BinaryIO:
    """Open a regular file, or a link to one, for reading: a pipe would be waited for, and a device has no end.

    Args:
        path: the file.
        name: what messages call it; by default its path.

    Raises:
        InputError: it is another thing, missing, or cannot be read.
    """
    name = os.fspath(path) if name is None else name
    try:
        # Looked at first, since opening a device may do something to it, and again, since it may have been exchanged.
        _check_regular(name, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        file = os.fdopen(descriptor, "rb")
        try:
            _check_regular(name, os.fstat(descriptor).st_mode)
        except InputError:
            file.close()
            raise
        return file
    except (OSError, ValueError) as error:  # a ValueError: the path has a NUL
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot be read ({_reason(error, 'no such file')})") from None


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """All of a regular file of at most ``max_bytes``. Raises InputError as ``open_regular``, and for a larger one."""
    with open_regular(path) as file:
        try:
            content = file.read(max_bytes + 1) if os.fstat(file.fileno()).st_size <= max_bytes else None
        except OSError as error:
            raise InputError(f"{os.fspath(path)}: cannot be read ({_reason(error)})") from None
    if content is None or len(content) > max_bytes:
        raise InputError(f"{os.fspath(path)}: too large; at most {max_bytes:,} bytes are read")
    return content


def read_json(path: str | os.PathLike[str], max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file in UTF-8, of at most ``max_bytes``.

    Raises:
        InputError: as ``read_bytes``; or it is no JSON, with ``NaN`` and ``Infinity`` none, or nested too deep.
    """
    content = read_bytes(path, max_bytes)
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{os.fspath(path)}: not readable as JSON (nested too deep)") from None
    except ValueError as error:
        raise InputError(f"{os.fspath(path)}: not readable as JSON ({first_line(error)[:200]})") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_regular(name: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: is {_kind(mode)}, not a regular file")


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "of an unknown kind")


def _is_stream(path: Path) -> bool:
    """Whether something lies there that is written into and cannot be replaced; OSError for what can be neither."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(mode):
        return False
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    raise OSError(errno.EINVAL, f"it is {_kind(mode)}")


def _write_into(target: Path | int, write: Callable[[BinaryIO], object]) -> None:
    content = io.BytesIO()
    write(content)
    if isinstance(target, Path):
        descriptor = os.open(target, os.O_WRONLY | os.O_NOCTTY)
    else:
        for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
            if stream is not None:
                stream.flush()
        descriptor = os.dup(target)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.getbuffer())


def _replace(path: Path, write: Callable[[BinaryIO], object], durable: bool) -> None:
    # Not tempfile: its files are private to their owner, and these must get the user's usual permissions.
    temporary = path.with_name(f".fastgan-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _reason(error: BaseException, missing: str = "no such folder") -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return missing
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return getattr(error, "strerror", None) or first_line(error)
