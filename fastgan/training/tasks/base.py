"""The interface between the trainer, which runs steps, and what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from fastgan.evaluation.evaluator import Measures
from fastgan.training.compilation import Network
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.training.steps import AdversarialStep

if TYPE_CHECKING:
    from fastgan.config import Config


class Task:
    """What a run learns.

    Attributes:
        step: what one batch does.
        watched: what is shown of each step beside its speed, name in ``metrics.jsonl`` -> short title.
        baseline: what ``start`` measures, in words.
        caption: of the sample pictures.
        always_observed: ``observe`` is asked for also where nothing is steered by it.
    """

    step: AdversarialStep
    watched: ClassVar[dict[str, str]]
    baseline: str
    caption: str
    always_observed: ClassVar[bool] = False

    def __init__(self, config: Config, photographs: Photographs | None) -> None:
        self.config = config
        self.photographs = photographs

    @property
    def val_images(self) -> list[np.ndarray]:
        """Photographs held out of training, (H, W, 3) uint8; none where data came as an iterable."""
        return [] if self.photographs is None else self.photographs.val_images

    def model(self, state: TrainState) -> Any:
        """The averaged generator, ready for use."""
        raise NotImplementedError

    def networks(self, state: TrainState) -> dict[str, Network]:
        """Networks that may be compiled, each with what a step does with it."""
        raise NotImplementedError

    def prepare(self, state: TrainState, batch: Tensor) -> None:
        """Whatever the networks take from the first batch, before anything is learnt."""

    def start(self) -> Measures:
        """Measure what there is before training: the photographs."""
        raise NotImplementedError

    def finish(self, state: TrainState) -> Measures:
        """Measure what was learnt."""
        raise NotImplementedError

    def observe(self, state: TrainState) -> dict[str, float]:
        """Measure on the way, more cheaply: names for ``metrics.jsonl``."""
        raise NotImplementedError

    def score(self, measured: dict[str, float]) -> float:
        """One number of what ``observe`` gave, lower is better (SPEC S10)."""
        raise NotImplementedError

    def samples(self, state: TrainState) -> dict[str, np.ndarray]:
        """Sheets (H, W, 3) uint8 by the ending of their file's name, "" for the main one."""
        raise NotImplementedError

    def save_files(self, folder: Path) -> None:
        """Write what the model needs beside its weights."""
