"""The callback interface and its events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from fastgan.data import ImagePath
from fastgan.evaluation import EvalResult
from fastgan.training.run_folder import RunFolder
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.training.tasks import Task

if TYPE_CHECKING:
    from fastgan.config import Config


class Run(Protocol):
    """The parts of a ``Trainer`` that callbacks use."""

    config: Config
    state: TrainState
    task: Task
    photographs: Photographs | None
    folder: RunFolder | None
    device: torch.device
    dtype: torch.dtype
    broken: dict[ImagePath, str]
    baseline: EvalResult | None

    def notify(self, hook: Callable[..., None], event: Any = None) -> None:
        """Call a hook of all callbacks, in order."""

    def log(self, text: str, level: int = logging.WARNING) -> None:
        """Hand one line to ``on_message`` and to ``logging``."""

    def save(self) -> Path | None:
        """Write a checkpoint and the model."""

    def model(self) -> Any:
        """The averaged generator as it is now."""

    def request_stop(self) -> None:
        """Stop after the step under way."""


@dataclass(frozen=True)
class StepEvent:
    """A step is done: ``step`` counts from 1, ``metrics`` is its line of ``metrics.jsonl``, ``progress`` is 0 to 1."""

    step: int
    metrics: dict[str, float]
    progress: float


@dataclass(frozen=True)
class EvaluationEvent:
    """The averaged (EMA) generator was measured during the run: ``val/...`` names of ``metrics.jsonl``."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class SamplesEvent:
    """A sample picture (H, W, 3) uint8 was written; ``name`` is the same for all of its kind."""

    step: int
    name: str
    image: np.ndarray


@dataclass(frozen=True)
class CheckpointEvent:
    """A checkpoint was written."""

    step: int
    path: Path


@dataclass(frozen=True)
class RollbackEvent:
    """Because of ``fault`` the run went back to ``restored_step``, with learning rates times ``lr_scale``."""

    step: int
    restored_step: int
    lr_scale: float
    fault: str

    def __str__(self) -> str:
        return (
            f"{self.fault} at step {self.step}: back to step {self.restored_step}, learning rates x {self.lr_scale:g}"
        )


@dataclass(frozen=True)
class MessageEvent:
    """Something the user should know, in one line: a broken image, a damaged checkpoint, a choice made."""

    text: str


@dataclass(frozen=True)
class EndEvent:
    """The run is over: ``report`` is ``report.json``; ``stopped`` if it was asked to stop before its end."""

    report: dict[str, Any]
    stopped: bool


class RollbackRequest(Exception):
    """Raised by ``after_step``: the step is bad, and the run has to go back to the last good state.

    Args:
        fault: what is wrong, in words.
    """


class Callback:
    """Override what you need; each is called in the thread that trains, in the order of ``Trainer(callbacks=[...])``.

    The trainer's own periodic work is callbacks, too. Training waits for every hook.
    """

    def on_start(self, run: Run) -> None:
        """Before the first step; ``run.state.global_step`` is above 0 when a run is resumed."""

    def after_step(self, run: Run, metrics: dict[str, float]) -> None:
        """After each step, before it is reported: may add to ``metrics``. Raises RollbackRequest for a bad step."""

    def on_step(self, run: Run, event: StepEvent) -> None:
        """After each step, reported with all of its metrics."""

    def on_evaluation(self, run: Run, event: EvaluationEvent) -> None:
        """After each measurement of the averaged generator during the run."""

    def on_samples(self, run: Run, event: SamplesEvent) -> None:
        """After a sample picture was written."""

    def on_checkpoint(self, run: Run, event: CheckpointEvent) -> None:
        """After a checkpoint was written."""

    def on_rollback(self, run: Run, event: RollbackEvent) -> None:
        """After a rollback."""

    def on_message(self, run: Run, event: MessageEvent) -> None:
        """Anything else worth a line."""

    def on_end(self, run: Run, event: EndEvent) -> None:
        """Once, after the last step and the final evaluation."""

    def close(self) -> None:
        """Always called last, also after an error: release files and screens."""
