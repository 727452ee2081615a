"""Failures of single pictures: tried again where storage may be back in a moment, named, and counted."""

from __future__ import annotations

import errno
import functools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from typing import Concatenate, ParamSpec, TypeVar

from fastgan.errors import FastganError, InputError, first_line
from fastgan.utils.format import printable
from fastgan.utils.memory import is_out_of_memory

_P = ParamSpec("_P")
_Path = TypeVar("_Path")
_T = TypeVar("_T")

#: Seconds before each further try at a read that failed in one of the ways of ``_TRANSIENT``.
RETRY_DELAYS: tuple[float, ...] = (0.1, 0.4)

#: The errors of a share that is away for a moment, and of a process that has too many files open for a moment.
_TRANSIENT = frozenset(
    number
    for name in [
        "EIO",
        "EREMOTEIO",
        "ESTALE",
        "ETIMEDOUT",
        "EAGAIN",
        "ENOTCONN",
        "ECONNRESET",
        "ECONNABORTED",
        "ECONNREFUSED",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENETRESET",
        "ENOLINK",
        "EMFILE",
        "ENFILE",
    ]
    if (number := getattr(errno, name, None)) is not None
)

#: How many kinds of files are named in one line.
_KINDS_TOLD = 6


class LoaderError(FastganError):
    """No further batch can be made: a worker process has died, or the photographs are gone."""


def failure_reason(path: object, error: BaseException) -> str:
    """One line that names the picture and says why it cannot be used, whatever was raised."""
    if isinstance(error, InputError):
        return str(error)
    name = printable(path)
    if is_out_of_memory(error):
        return f"{name}: not enough memory to read it"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: cannot be read ({error.strerror})"
    return f"{name}: cannot be read ({type(error).__name__}: {first_line(error)})"


def is_transient(error: BaseException) -> bool:
    """Whether the error, or one that it was made of, is of storage that may be back in a moment."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _TRANSIENT:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def retry_transient(
    read: Callable[[], _T], *, delays: tuple[float, ...] | None = None, sleep: Callable[[float], None] = time.sleep
) -> _T:
    """``read()``, tried again after each of ``delays`` (seconds; by default ``RETRY_DELAYS``) while it fails by a
    transient error. What the last try raises is raised.
    """
    for delay in RETRY_DELAYS if delays is None else delays:
        try:
            return read()
        except Exception as error:
            if not is_transient(error):
                raise
        sleep(delay)
    return read()


def named_failures(read: Callable[Concatenate[_Path, _P], _T]) -> Callable[Concatenate[_Path, _P], _T]:
    """Make of a reader of pictures (its first argument is the path) one that raises InputError alone, which names the
    picture, and that tries again as ``retry_transient`` does.
    """

    @functools.wraps(read)
    def read_with_retries(path: _Path, /, *args: _P.args, **options: _P.kwargs) -> _T:
        try:
            return retry_transient(lambda: read(path, *args, **options))
        except FastganError:
            raise
        except Exception as error:
            raise InputError(failure_reason(path, error)) from None

    return read_with_retries


class Omissions:
    """Counts of what is passed over while pictures are looked for, by kind, with the first of each."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._first: dict[str, object] = {}
        self._suffixes: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._kinds or self._suffixes)

    def add(self, kind: str, name: object) -> None:
        """One more of ``kind``, which is a plural."""
        self._kinds[kind] += 1
        self._first.setdefault(kind, name)

    def add_file(self, path: PurePath) -> None:
        """One more file that is not read for its suffix."""
        self._suffixes[path.suffix.lower()[:16]] += 1

    def __str__(self) -> str:
        """One line.

        >>> omitted = Omissions()
        >>> omitted.add("links in a loop", "a")
        >>> omitted.add("links in a loop", "b")
        >>> omitted.add_file(PurePath("photo.HEIC"))
        >>> str(omitted)
        'files of other kinds: 1 (1 .heic); links in a loop: 2 (first a)'
        """
        parts = []
        if self._suffixes:
            kinds = [
                f"{count} {printable(suffix) or 'without suffix'}"
                for suffix, count in sorted(self._suffixes.items(), key=lambda item: (-item[1], item[0]))
            ]
            more = ["..."] if len(kinds) > _KINDS_TOLD else []
            parts.append(f"files of other kinds: {self._suffixes.total()} ({', '.join([*kinds[:_KINDS_TOLD], *more])})")
        parts += [f"{kind}: {count} (first {printable(self._first[kind])})" for kind, count in self._kinds.items()]
        return "; ".join(parts)
