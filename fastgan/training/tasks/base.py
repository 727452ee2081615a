"""The interface of a task: what differs between the things that a run can learn, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastgan.data import augment
from fastgan.errors import InputError
from fastgan.evaluation import EvalResult
from fastgan.models import GENERATORS
from fastgan.training.compilation import CallSpec, Network
from fastgan.training.phases import Phases
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.utils.registry import Registry

if TYPE_CHECKING:
    from fastgan.config import Config

#: Tensors of a step by name, one entry an image; ``scalars`` holds ``StepScalars``.
Inputs = dict[str, Tensor]


class StepScalars(NamedTuple):
    """The numbers that change from step to step, float64 scalars on the device."""

    lr_g: Tensor
    lr_d: Tensor
    ema_decay: Tensor
    structure_weight: Tensor


class Task:
    """Definition of what a run learns. A subclass is registered by ``register_task``.

    Args:
        config: of the run.
        photographs: what is trained on; None where data comes as an iterable.
        styles: the style images, (H, W, 3) uint8; none where ``data.style`` is null.
        generator: of the run.
        device, dtype: where, and in which precision, the networks run.

    Attributes:
        name: of ``config.task``.
        takes: the generators that it trains, by what they take (``GeneratorSpec.takes``).
        progress_metrics: shown of each step beside its speed, name in ``metrics.jsonl`` -> short title.
        baseline_label: what ``evaluate_baseline`` measures, in words.
        sample_caption: of the sample pictures.
        evaluates_always: whether ``evaluate_quick`` is called also where nothing depends on it.
        phases: times the phases of a step.
    """

    name: ClassVar[str]
    takes: ClassVar[Literal["images", "noise"]] = "images"
    progress_metrics: ClassVar[dict[str, str]] = {}
    baseline_label: ClassVar[str] = "baseline"
    sample_caption: ClassVar[str] = "Samples"
    evaluates_always: ClassVar[bool] = False

    def __init__(
        self,
        config: Config,
        photographs: Photographs | None,
        styles: Sequence[np.ndarray],
        generator: Any,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config = config
        self.photographs = photographs
        self.device, self.dtype = device, dtype
        self.phases = Phases()

    @property
    def val_images(self) -> list[np.ndarray]:
        """Images held out of training, (H, W, 3) uint8; none where data came as an iterable."""
        return [] if self.photographs is None else self.photographs.val_images

    @property
    def max_side(self) -> int | None:
        """The largest side of a batch, pixels; None for any."""
        return None

    def prepare(self, state: TrainState, images: Tensor) -> None:
        """Initialize what depends on the first batch, (N, 3, H, W) in [-1, 1]."""

    def sample_inputs(self, state: TrainState, images: Tensor) -> Inputs:
        """All random decisions for images (N, 3, H, W) in [-1, 1]: ``images``, ``real`` (what D takes for real) and
        what else the step needs; augmentation alone is sampled later."""
        raise NotImplementedError

    def encode_content(self, inputs: Inputs) -> Inputs:
        """The inputs, with the content features that the losses need."""
        return inputs

    def generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """The images that G makes of the inputs, (N, 3, H, W)."""
        raise NotImplementedError

    def discriminator_inputs(self, inputs: Inputs, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The (real, fake) images given to the discriminator."""
        return inputs["real"], fake

    def generator_losses(
        self, inputs: Inputs, fake: Tensor, adversarial: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Scalars by name, means over images: ``loss/g``, which G minimizes; ``loss/g_adversarial``; and quality.

        Args:
            inputs: as ``encode_content`` gave them.
            fake: the images of ``generate``.
            adversarial: images to the adversarial loss of G.
        """
        raise NotImplementedError

    def model(self, state: TrainState) -> Any:
        """The averaged generator, ready for use; live: it changes with each step."""
        raise NotImplementedError

    def networks(self, state: TrainState) -> dict[str, Network]:
        """Networks that may be compiled, each with the calls that a step makes."""
        raise NotImplementedError

    def discriminator_calls(self, real: Tensor, fake: Tensor) -> list[CallSpec]:
        """The calls of D in the updates of both networks, on images like these."""
        rng = torch.Generator().manual_seed(0)
        real, fake = (augment(images, self.config.loss.augment, rng) for images in (real, fake))
        return [
            CallSpec((real,), param_grad=True),
            CallSpec((fake,), param_grad=True),
            CallSpec((fake,), input_grad=True),
        ]

    def evaluate_baseline(self) -> EvalResult:
        """Measure the photographs themselves, before training."""
        raise NotImplementedError

    def evaluate(self, state: TrainState) -> EvalResult:
        """Measure the averaged generator at the end of the run."""
        raise NotImplementedError

    def evaluate_quick(self, state: TrainState) -> dict[str, float]:
        """Measure the averaged generator during the run, on fewer images: ``val/...`` names of ``metrics.jsonl``."""
        raise NotImplementedError

    def score(self, measured: dict[str, float]) -> float:
        """One number from what ``evaluate_quick`` gave, lower is better (SPEC S10)."""
        raise NotImplementedError

    def samples(self, state: TrainState, result: EvalResult | None = None) -> dict[str, np.ndarray]:
        """Sample pictures (H, W, 3) uint8 by the suffix of their file's name, "" for the main one.

        ``result`` is what ``evaluate`` gave, at the end of a complete run.
        """
        raise NotImplementedError

    def save_files(self, folder: Path) -> None:
        """Write what the model needs beside its weights."""


TASKS: Registry[type[Task]] = Registry("task")


def register_task(task: type[Task]) -> type[Task]:
    """Make a task known by its name, for ``--task``; a class decorator.

    Raises:
        ValueError: it has no name, or one that is taken.
    """
    if not getattr(task, "name", ""):
        raise ValueError(f"the task {task.__name__} has no name")
    return TASKS.register(task.name, task)


def task_of(config: Config) -> type[Task]:
    """The task that a config names, or the first that trains the generator that it names.

    Raises:
        InputError: there is no such task, or it trains other generators.
    """
    spec = GENERATORS[config.model.name]
    fitting = [task for task in TASKS.values() if task.takes == spec.takes]
    if config.task is None:
        if not fitting:
            raise InputError(f"task: none trains generators that take {spec.takes}, as the model {spec.name} does")
        return fitting[0]
    if config.task not in TASKS:
        raise InputError(f"task: must be one of {', '.join(TASKS)}, got {config.task!r}")
    task = TASKS[config.task]
    if task not in fitting:
        names = ", ".join(fit.name for fit in fitting)
        raise InputError(
            f"task: {task.name} trains generators that take {task.takes}, and the model {spec.name} takes "
            f"{spec.takes}; use task={names}"
        )
    return task
