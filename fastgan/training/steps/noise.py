"""One training step of the GAN that makes images from noise (SPEC S1, S9)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan import ops
from fastgan.precision import autocast
from fastgan.training.cuda_graphs import Inputs
from fastgan.training.state import TrainState
from fastgan.training.steps.adversarial import AdversarialStep


class NoiseStep(AdversarialStep):
    """Noise in, images out: z ~ N(0, I) of the generator's ``z_dim``; a batch of photographs is what is real."""

    def draw(self, state: TrainState, images: Tensor) -> Inputs:
        """See ``AdversarialStep``: the noise, ``z``."""
        z = torch.randn(images.shape[0], state.generator.z_dim, generator=state.rng).to(self.device)
        return {"images": images, "real": images, "z": z}

    def generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """See ``AdversarialStep``."""
        with self.phases("generator"), autocast(self.device, self.dtype):
            return state.generator(inputs["z"])

    def objective(self, state: TrainState, inputs: Inputs, fake: Tensor) -> dict[str, Tensor]:
        """See ``AdversarialStep``; SSIM and PSNR compare each image with the photograph in its place, as in S9."""
        with self.phases("losses"):
            adversarial = self.generator_loss(state, fake)
            loss = self.config.loss.adversarial * adversarial
        with torch.no_grad():
            made, photographs = (fake.detach() + 1) / 2, (inputs["real"] + 1) / 2
            nothing = fake.new_full((), torch.nan)
            return {
                "loss/g": loss,
                "loss/g_adversarial": adversarial,
                "loss/content": nothing,
                "loss/style": nothing,
                "train/ssim": ops.ssim(made, photographs),
                "train/psnr": ops.psnr(made, photographs),
                "train/style_distance": nothing,
            }
