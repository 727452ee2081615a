"""The names of devices and precisions, as fields of the config and options of the commands take them."""

from __future__ import annotations

from typing import Literal, get_args

from fastgan.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
DEVICES: tuple[str, ...] = get_args(DeviceName)
PRECISIONS: tuple[str, ...] = get_args(PrecisionName)


def listed(names: tuple[str, ...]) -> str:
    """Names as a sentence lists them.

    >>> listed(("auto", "cpu", "cuda"))
    'auto, cpu or cuda'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError, which begins with ``what`` and ``value``, unless that is ``allowed``."""
    if value not in allowed:
        raise InputError(f"{what} {value}: expected one of {', '.join(allowed)}")
