"""The task of generating images from noise (SPEC S1, S9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastgan import ops
from fastgan.evaluation.evaluator import NUM_EVAL_IMAGES, EvalResult, NoiseEvaluator
from fastgan.evaluation.image_grid import grid
from fastgan.inference.sampler import Sampler
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.precision import autocast
from fastgan.training.compilation import CallSpec, Network, output_of, random_images
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.training.tasks.base import Inputs, Task, register_task

if TYPE_CHECKING:
    from fastgan.config import Config

#: Images measured during the run.
_NUM_QUICK_EVAL_IMAGES = 128
_NUM_SAMPLES, _NUM_INTERPOLATIONS, _INTERPOLATION_STEPS = 48, 3, 12


@register_task
class GenerateTask(Task):
    """Noise in, images out: z ~ N(0, I) of the generator's ``z_dim``; a batch of photographs is what is real.

    The images are measured as a set, against crops of the photographs.
    """

    name: ClassVar = "generate"
    takes: ClassVar = "noise"
    progress_metrics: ClassVar = {"loss/g": "G", "loss/d": "D", "train/diversity": "diversity"}
    baseline_label: ClassVar = "photographs, against others"
    sample_caption: ClassVar = "Images from noise"
    evaluates_always: ClassVar = True

    def __init__(
        self,
        config: Config,
        photographs: Photographs | None,
        styles: Sequence[np.ndarray],
        generator: Any,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(config, photographs, styles, generator, device, dtype)
        self._evaluator: NoiseEvaluator | None = None
        if photographs is not None:  # here, so that photographs it cannot use are reported before anything is written
            encoder = VGGEncoder(STYLE_LAYERS, config.model.features).to(device)
            encoder.to_compute(dtype, torch.channels_last)
            self._evaluator = NoiseEvaluator(encoder, self._crops(NUM_EVAL_IMAGES))

    def sample_inputs(self, state: TrainState, images: Tensor) -> Inputs:
        """See ``Task``: the noise, ``z``."""
        z = _noise(images.shape[0], state, state.rng).to(self.device)
        return {"images": images, "real": images, "z": z}

    def generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """See ``Task``."""
        with self.phases("generator"), autocast(self.device, self.dtype):
            return state.generator(inputs["z"])

    def generator_losses(
        self, inputs: Inputs, fake: Tensor, adversarial: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """See ``Task``; SSIM and PSNR compare each image with the photograph at its index, as in S9."""
        with self.phases("losses"):
            g_adversarial = adversarial(fake)
            loss = self.config.loss.adversarial * g_adversarial
        with torch.no_grad():
            result, photographs = (fake.detach() + 1) / 2, (inputs["real"] + 1) / 2
            nan = fake.new_full((), torch.nan)
            return {
                "loss/g": loss,
                "loss/g_adversarial": g_adversarial,
                "loss/content": nan,
                "loss/style": nan,
                "train/ssim": ops.ssim(result, photographs),
                "train/psnr": ops.psnr(result, photographs),
                "train/style_distance": nan,
            }

    def model(self, state: TrainState) -> Sampler:
        """See ``Task``."""
        return Sampler(state.export_generator, self.device, self.dtype)

    def networks(self, state: TrainState) -> dict[str, Network]:
        """See ``Task``."""
        count = self.config.data.batch
        z = _noise(count, state, torch.Generator().manual_seed(0)).to(self.device)
        images = random_images(count, self.config.data.size).to(self.device)
        fake = output_of(state.generator, z, self.device, self.dtype)
        return {
            "generator": (state.generator, [CallSpec((z,), param_grad=True)]),
            "discriminator": (state.discriminator, self.discriminator_calls(images, fake)),
        }

    def evaluate_baseline(self) -> EvalResult:
        """See ``Task``: other crops of the photographs, against those that the images will be measured by."""
        if self._evaluator is None:
            return EvalResult()
        return self._evaluator.measure(ops.from_pixels(self._crops(NUM_EVAL_IMAGES, offset=NUM_EVAL_IMAGES)))

    def evaluate(self, state: TrainState) -> EvalResult:
        """See ``Task``."""
        return self._measure(state, NUM_EVAL_IMAGES)

    def evaluate_quick(self, state: TrainState) -> dict[str, float]:
        """See ``Task``: KID on VGG features, diversity and style distance of 128 images."""
        measures = self._measure(state, _NUM_QUICK_EVAL_IMAGES)
        return {f"val/{name}": float(np.mean(values)) for name, values in measures.values.items()}

    def score(self, measured: dict[str, float]) -> float:
        """See ``Task``: KID on VGG features."""
        return measured["val/kid_vgg"]

    def samples(self, state: TrainState, result: EvalResult | None = None) -> dict[str, np.ndarray]:
        """See ``Task``: images of fixed noise, and interpolations from one image to another."""
        sampler = self.model(state)
        rows = [sampler.interpolate(_INTERPOLATION_STEPS, seed=seed) for seed in range(_NUM_INTERPOLATIONS)]
        return {
            "": grid(sampler.generate(_NUM_SAMPLES), _INTERPOLATION_STEPS),
            "-interpolation": grid(np.concatenate(rows), _INTERPOLATION_STEPS),
        }

    def _measure(self, state: TrainState, count: int) -> EvalResult:
        if self._evaluator is None:
            return EvalResult()
        sampler = self.model(state)
        return self._evaluator.measure(sampler.run(sampler.noise(count, seed=1)))

    def _crops(self, count: int, *, offset: int = 0) -> Tensor:
        """Crops of the training photographs, ``count`` from ``offset`` on in the order of a run's batches."""
        assert self.photographs is not None
        batches = self.photographs.batches
        first, last = offset // batches.batch, -(-(offset + count) // batches.batch)
        crops = torch.cat([batches.batch_at(step) for step in range(first, last)])
        return crops[offset - first * batches.batch :][:count]


def _noise(count: int, state: TrainState, rng: torch.Generator) -> Tensor:
    return torch.randn((count, state.generator.z_dim), generator=rng, dtype=torch.float32)
