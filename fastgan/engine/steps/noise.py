"""One training step of the GAN that makes images from noise (SPEC S1, S9)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan import ops
from fastgan.engine.precision import autocast
from fastgan.engine.state import TrainState
from fastgan.engine.steps.adversarial import AdversarialStep
from fastgan.quality import batch_spread


class NoiseStep(AdversarialStep):
    """Noise in, images out: z ~ N(0, I) of the generator's ``z_dim``; a batch of photographs is what is real."""

    def update(self, state: TrainState, images: Tensor) -> dict[str, Tensor]:
        """See ``AdversarialStep``; SSIM and PSNR compare each image with the photograph in its place, as in S9."""
        real = images
        z = torch.randn(real.shape[0], state.generator.z_dim, generator=state.rng).to(self.device)
        with self.phases("generator"), autocast(self.device, self.dtype):
            fake = state.generator(z)
        values = self.update_discriminator(state, real, fake)
        with self.phases("losses"):
            adversarial = self.generator_loss(state, fake)
            loss = self.config.loss.adversarial * adversarial
        self.descend_generator(state, loss)
        with torch.no_grad():
            made, photographs = (fake.detach() + 1) / 2, (real + 1) / 2
            nothing = real.new_full((), torch.nan)
            return values | {
                "loss/g": loss,
                "loss/adversarial": adversarial,
                "loss/content": nothing,
                "loss/style": nothing,
                "quality/ssim": ops.ssim(made, photographs),
                "quality/psnr": ops.psnr(made, photographs),
                "quality/style_distance": nothing,
                "quality/spread": batch_spread(fake.detach(), real),
            }
