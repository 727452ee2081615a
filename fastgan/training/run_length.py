"""The length of a run: a number of steps, or wall time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgan.config.sections import TrainConfig

DEFAULT_STEPS = 2000


@dataclass
class RunLength:
    """``steps`` or ``seconds`` of training, whichever is given.

    With steps everything here is a function of the step alone, so that runs repeat to the bit; with seconds it follows
    the clock, and each line of ``metrics.jsonl`` has the progress.
    """

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def from_config(cls, config: TrainConfig, steps_per_epoch: int | None) -> RunLength:
        """The length that a config sets. Raises ValueError for epochs of data that has no length."""
        if config.minutes is not None:
            return cls(seconds=60 * config.minutes)
        if config.epochs is not None:
            if steps_per_epoch is None:
                raise ValueError("train.epochs needs data of known length; give train.steps or train.minutes")
            return cls(steps=max(1, round(config.epochs * steps_per_epoch)))
        return cls(steps=config.steps or DEFAULT_STEPS)

    def schedule(self, step: int, elapsed: float) -> float:
        """The progress of the run in the middle of the next step, for the schedules: so no step has a rate of 0."""
        if self.steps is None:
            return max(1e-3, self.progress(step, elapsed))
        return min(1.0, (step + 0.5) / self.steps)

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the run that is done after ``step`` steps and ``elapsed`` seconds, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, elapsed / max(self.seconds, 1e-9))

    def reserve(self, minutes: float | None, seconds: float) -> None:
        """Leave ``seconds`` of ``minutes`` of wall time for what is not training; a run of steps stays as it is."""
        if self.seconds is not None and minutes is not None:
            self.seconds = max(1.0, 60 * minutes - seconds)

    def steps_left(self, step: int, elapsed: float, seconds: float) -> float:
        """The number of steps after ``step`` and ``elapsed`` seconds, if each takes ``seconds``."""
        if self.steps is not None:
            return max(0, self.steps - step)
        assert self.seconds is not None
        return max(0.0, self.seconds - elapsed) / max(seconds, 1e-9)

    def done(self, step: int, elapsed: float) -> bool:
        """True once no further step is due."""
        if self.steps is not None:
            return step >= self.steps
        assert self.seconds is not None
        return step > 0 and elapsed >= self.seconds  # always take at least one step
