"""What a training run tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


@dataclass(frozen=True)
class StepEvent:
    """A step is done: ``step`` counts from 1, ``metrics`` is its line of ``metrics.jsonl``, ``progress`` is 0 to 1."""

    step: int
    metrics: dict[str, float]
    progress: float


@dataclass(frozen=True)
class QualityEvent:
    """Quality of the averaged (EMA) generator, measured on the way: ``val/...`` names of ``metrics.jsonl``."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class CheckpointEvent:
    """A checkpoint was written."""

    step: int
    path: Path


@dataclass(frozen=True)
class RollbackEvent:
    """Because of ``fault`` the run went back to ``restored_step``, with learning rates times ``damping``."""

    step: int
    restored_step: int
    damping: float
    fault: str


@dataclass(frozen=True)
class MessageEvent:
    """Something the user should know, in one line: a broken image, a damaged checkpoint, a choice made."""

    text: str


@dataclass(frozen=True)
class EndEvent:
    """The run is over: ``report`` is ``report.json``; ``stopped`` if it was asked to stop before its end."""

    report: dict[str, Any]
    stopped: bool


class Callback:
    """Override what you need; each is called in the thread that trains, in the order of ``Trainer(callbacks=[...])``.

    ``on_step`` is called every step: what it takes, training waits for.
    """

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step; ``trainer.state.step`` is above 0 when a run is resumed."""

    def on_step(self, trainer: Trainer, event: StepEvent) -> None:
        """After each step."""

    def on_quality(self, trainer: Trainer, event: QualityEvent) -> None:
        """After each measurement on the photographs held out."""

    def on_checkpoint(self, trainer: Trainer, event: CheckpointEvent) -> None:
        """After a checkpoint was written."""

    def on_rollback(self, trainer: Trainer, event: RollbackEvent) -> None:
        """After a rollback."""

    def on_message(self, trainer: Trainer, event: MessageEvent) -> None:
        """Anything else worth a line."""

    def on_end(self, trainer: Trainer, event: EndEvent) -> None:
        """Once, after the last step and the final evaluation."""

    def close(self) -> None:
        """Always called last, also after an error: release files and screens."""
