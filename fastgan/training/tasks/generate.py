"""Learning to make images from noise (SPEC S1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastgan import ops
from fastgan.evaluation.evaluator import MEASURED, Measures, NoiseEvaluator
from fastgan.evaluation.image_grid import grid
from fastgan.inference.sampler import Sampler
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.training.compilation import Network, Use, output_of, random_images
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.training.steps import NoiseStep
from fastgan.training.tasks.base import Task

if TYPE_CHECKING:
    from fastgan.config import Config

#: Images measured on the way.
_OBSERVED = 128
_SHOWN, _STRIPS, _WAYS = 48, 3, 12


class NoiseTask(Task):
    """A GAN from noise: what it makes is measured as a set, against crops of the photographs."""

    watched: ClassVar = {"loss/g": "G", "loss/d": "D", "train/diversity": "spread"}
    baseline = "photographs, against others"
    caption = "Images from noise"
    always_observed = True

    def __init__(
        self, config: Config, photographs: Photographs | None, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config, photographs)
        self.device, self.dtype = device, dtype
        self.step = NoiseStep(config, device, dtype)
        self._evaluator: NoiseEvaluator | None = None
        if photographs is not None:  # here, so that photographs it cannot use are told before anything is written
            encoder = VGGEncoder(STYLE_LAYERS, config.model.features).to(device)
            encoder.to_compute(dtype, torch.channels_last)
            self._evaluator = NoiseEvaluator(encoder, self._crops(MEASURED))

    def model(self, state: TrainState) -> Sampler:
        """See ``Task``; live: it changes with each step."""
        return Sampler(state.result, self.device, self.dtype)  # type: ignore[arg-type]

    def networks(self, state: TrainState) -> dict[str, Network]:
        """See ``Task``."""
        count = self.config.data.batch
        z = torch.randn(count, state.generator.z_dim, generator=torch.Generator().manual_seed(0)).to(self.device)
        images = random_images(count, self.config.data.size).to(self.device)
        fake = output_of(state.generator, z, self.device, self.dtype)
        return {
            "generator": (state.generator, [Use((z,), of_parameters=True)]),
            "discriminator": (state.discriminator, self.step.uses_of_discriminator(images, fake)),
        }

    def start(self) -> Measures:
        """See ``Task``: other crops of the photographs, against those that the images will be measured by."""
        if self._evaluator is None:
            return Measures()
        return self._evaluator.measure(ops.from_pixels(self._crops(MEASURED, offset=MEASURED)))

    def finish(self, state: TrainState) -> Measures:
        """See ``Task``."""
        return self._measure(state, MEASURED)

    def observe(self, state: TrainState) -> dict[str, float]:
        """See ``Task``: distance and spread of 128 images."""
        measured = self._measure(state, _OBSERVED)
        return {f"val/{name}": float(np.mean(values)) for name, values in measured.values.items()}

    def score(self, measured: dict[str, float]) -> float:
        """See ``Task``: the feature distance."""
        return measured["val/kid_vgg"]

    def samples(self, state: TrainState) -> dict[str, np.ndarray]:
        """See ``Task``: images of fixed noise; ways from one image to another."""
        sampler = self.model(state)
        ways = np.concatenate([sampler.interpolate(_WAYS, seed=seed) for seed in range(_STRIPS)])
        return {"": grid(sampler.generate(_SHOWN), _WAYS), "-interpolation": grid(ways, _WAYS)}

    def _measure(self, state: TrainState, count: int) -> Measures:
        if self._evaluator is None:
            return Measures()
        sampler = self.model(state)
        return self._evaluator.measure(sampler.run(sampler.noise(count, seed=1)))

    def _crops(self, count: int, *, offset: int = 0) -> Tensor:
        """Crops of the photographs trained on, ``count`` from ``offset`` on in the order of a run's batches."""
        assert self.photographs is not None
        batches = self.photographs.batches
        first, last = offset // batches.batch, -(-(offset + count) // batches.batch)
        crops = torch.cat([batches.batch_at(step) for step in range(first, last)])
        return crops[offset - first * batches.batch :][:count]
