"""Results as JSON, to a file or to standard output: what ``--json`` means on every command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgan.errors import InputError
from fastgan.utils.files import own_descriptor, write_text

#: Stands for standard output in place of a file; ``--json`` without a value means it, too.
STDOUT = "-"
_STDOUT_DESCRIPTOR = 1
JSON_HELP = "Write it as JSON to this file; - or nothing: to standard output, and nothing else there."


def fill_in_stdout(arguments: Sequence[str]) -> list[str]:
    """A command line in which ``--json`` without a value has ``-``."""
    filled: list[str] = []
    for index, argument in enumerate(arguments):
        filled.append(argument)
        following = arguments[index + 1] if index + 1 < len(arguments) else "--"
        if argument == "--json" and following.startswith("-") and following != STDOUT:
            filled.append(STDOUT)
    return filled


def is_stdout(target: Path | None) -> bool:
    """Whether results go to standard output, by ``-`` or as ``/dev/stdout``; nothing else may be printed there then."""
    return target is not None and (str(target) == STDOUT or own_descriptor(target) == _STDOUT_DESCRIPTOR)


def check_json_target(target: Path | None) -> None:
    """Raise InputError where no file can be written; nothing is touched."""
    if target is not None and not is_stdout(target) and (target.is_dir() or not target.parent.is_dir()):
        raise InputError(f"--json {target}: cannot be written; give a file in a folder that exists, or -")


def write_json(target: Path, value: Any, *, indent: int = 2) -> None:
    """Write ``value`` as JSON to a file, whole or not at all, or to standard output.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(value, indent=indent, allow_nan=False)
    if is_stdout(target):
        print(text, flush=True)
    else:
        write_text(target, f"{text}\n")
