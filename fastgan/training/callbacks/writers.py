"""The callbacks that write what each step gave."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from fastgan.training.callbacks.base import Callback
from fastgan.training.callbacks.metrics_file import MetricsFile
from fastgan.training.callbacks.tensorboard import TensorBoard
from fastgan.training.run_folder import RunFolder

if TYPE_CHECKING:
    from fastgan.config.sections import LogConfig


def open_writers(folder: RunFolder, step: int, log: LogConfig, closing: ExitStack) -> tuple[Callback, ...]:
    """The metrics file and, where ``log`` asks for it, TensorBoard's, from ``step`` on; ``closing`` closes them."""
    writers: tuple[Callback, ...] = (MetricsFile(folder.metrics, step),)
    closing.callback(writers[0].close)
    if log.tensorboard:
        writers += (TensorBoard(folder.path / "tb", step),)
        closing.callback(writers[1].close)
    return writers
