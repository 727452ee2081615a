"""The registry of commands of ``fastgan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastgan.utils.registry import Registry

#: A function as typer takes it, with annotated parameters and a docstring; it returns the exit code or None.
Command = Callable[..., Any]
COMMANDS: Registry[Command] = Registry("command")


def register_command(command: Command) -> Command:
    """Add a command to ``fastgan``, under the name of its function; a decorator."""
    return COMMANDS.register(command.__name__, command)
