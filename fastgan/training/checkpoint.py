"""The checkpoints of a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastgan.errors import InputError, first_line
from fastgan.training.state import TrainState
from fastgan.utils.files import atomic_write, make_folder, open_regular

_NAME = re.compile(r"step-(\d{8})\.pt")


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, file), oldest first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.pt"))
    return sorted((int(match[1]), path) for match, path in matches if match)


def save_checkpoint(folder: Path, step: int, values: dict[str, Any], keep: int) -> Path:
    """Write ``step-00000200.pt``; then remove all but the newest ``keep``.

    Later steps are removed first: they were rolled back, or could not be read.
    """
    make_folder(folder)
    path = folder / f"step-{step:08d}.pt"
    atomic_write(path, lambda file: torch.save(values, file))
    checkpoints = list_checkpoints(folder)
    newest = [old for number, old in checkpoints if number <= step][-keep:]
    for _, old in checkpoints:
        if old not in newest:
            old.unlink(missing_ok=True)
    return path


def restore(state: TrainState, newest: tuple[Path, dict[str, Any]], differences: Callable[[], list[str]]) -> None:
    """Load what ``load_newest`` gave into ``state``.

    Args:
        state: of the networks and optimizers of the config.
        newest: the checkpoint's file and content.
        differences: names the fields of the networks in which the config differs from the run's; called on failure.

    Raises:
        InputError: it is of other networks than those of the config.
    """
    path, values = newest
    if "global_step" not in values and "step" in values:
        raise InputError(
            f"{path}: was written by an older fastgan, which named its contents otherwise; start a new run"
        )
    try:
        state.load_state_dict(values)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = ", ".join(differences()) or " ".join(str(error).split())
        raise InputError(f"{path}: does not fit the networks of this config ({reason})") from None


def load_newest(folder: Path, on_bad: Callable[[Path, str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read; ``on_bad(path, reason)`` for each that cannot. None: there is none."""
    for _, path in reversed(list_checkpoints(folder)):
        try:
            with open_regular(path) as file:
                return path, torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            on_bad(path, first_line(error)[:200])
    return None
