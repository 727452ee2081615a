"""One training step of style transfer (SPEC S6 to S9)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.engine.precision import autocast
from fastgan.engine.state import TrainState
from fastgan.engine.steps.adversarial import AdversarialStep
from fastgan.engine.styles import Styles
from fastgan.losses import ContentLoss, PSNRLoss, SSIMLoss, TotalVariation, style_distance
from fastgan.models import FusionGenerator, VGGEncoder
from fastgan.quality import batch_spread

if TYPE_CHECKING:
    from fastgan.config import Config


#: How much more structure weighs in an image of strength 0, in units of its weight at strength 1.
_RESTORE = 3.0


class StylizeStep(AdversarialStep):
    """Photographs in, pictures out: by a network for one style, or by one that fuses any style in.

    A fusing network is taught how strong a style is: in each batch the first image has strength 1, the others in turn
    a strength drawn from 0 to 1, 0, and 1. The style's losses weigh as much as its strength; what is missing to 1
    weighs SSIM and the mean difference from the photograph, so that strength 0 is taught by structure alone. D and
    the logged quality see the images of strength 1.

    Args:
        config: the run's.
        encoder: frozen, in its compute dtype.
        styles: the style images; D learns from their crops.
        device, dtype: where, and in what arithmetic, the networks run.
    """

    def __init__(
        self, config: Config, encoder: VGGEncoder, styles: Styles, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config, device, dtype)
        self.encoder = encoder
        self.styles = styles
        self.content = ContentLoss()
        self.ssim = SSIMLoss()
        self.psnr = PSNRLoss()
        self.tv = TotalVariation()
        content = (config.loss.content_layer,) if config.loss.content else ()
        #: What the encoder is asked for of results.
        self.judged_layers = tuple(dict.fromkeys((*styles.layers, *content)))

    @property
    def max_side(self) -> int | None:
        """See ``AdversarialStep``: D sees crops of the style of the batch's size."""
        return self.styles.min_side

    def content_layers(self, generator: nn.Module) -> tuple[str, ...]:
        """What the encoder is asked for of photographs."""
        layers = generator.layers if isinstance(generator, FusionGenerator) else ()
        weights = self.config.loss
        return tuple(dict.fromkeys((*layers, weights.content_layer))) if weights.content else layers

    def update(self, state: TrainState, images: Tensor) -> dict[str, Tensor]:
        """See ``AdversarialStep``."""
        fusing = isinstance(state.generator, FusionGenerator)
        content = images
        with self.phases("data"):
            real, chosen = self._style_crops(state, content)
        wanted = self.content_layers(state.generator)
        content_features: dict[str, Tensor] = {}
        if wanted:
            with self.phases("features"), torch.no_grad():
                content_features = self.encoder(content, wanted)
        strength = self._strengths(state, content.shape[0]) if fusing else torch.ones(content.shape[0])
        full = strength == 1
        strength, full = strength.to(self.device), full.to(self.device)
        with self.phases("generator"), autocast(self.device, self.dtype):
            if fusing:
                codes = torch.cat([self.styles.code(index, state.generator) for index in chosen])
                result = state.generator(content_features, codes, strength)
            else:
                result = state.generator(content)
        targets = self.styles.targets(chosen) if fusing else self.styles.mean_targets
        values = self.update_discriminator(state, real[full], result[full])
        return values | self._update_generator(state, content, result, content_features, targets, strength, full)

    def _update_generator(
        self,
        state: TrainState,
        content: Tensor,
        result: Tensor,
        content_features: dict[str, Tensor],
        targets: dict[str, Tensor],
        strength: Tensor,
        full: Tensor,
    ) -> dict[str, Tensor]:
        weights = self.config.loss
        structure = 1.0 if state.controller is None else state.controller.weight
        with self.phases("features"):
            features = self.encoder(result, self.judged_layers)
        with self.phases("losses"):
            zero = result.new_zeros(())
            nothing = result.new_full((), math.nan)
            adversarial = self.generator_loss(state, result[full]) if weights.adversarial else nothing
            content_loss = zero
            if weights.content:
                layer = weights.content_layer
                content_loss = self.content(features[layer], content_features[layer])
            style = style_distance(features, targets, reduction="none")
            ssim_loss = self.ssim(result, content, reduction="none")
            psnr_loss = self.psnr(result, content) if weights.psnr else zero
            tv = self.tv(result) if weights.tv else zero
            kept = weights.content * content_loss + weights.ssim * ssim_loss.mean() + weights.psnr * psnr_loss
            if isinstance(state.generator, FusionGenerator):
                # Strength 0 is to be the photograph. SSIM hardly sees colours: they would be the average style's.
                away = ssim_loss + (result - content).abs().mean((1, 2, 3))
                kept = kept + weights.ssim * _RESTORE * ((1 - strength) * away).mean()
            loss = weights.style * (strength * style).mean() + weights.tv * tv + structure * kept
            if weights.adversarial:
                loss = loss + weights.adversarial * adversarial
        self.descend_generator(state, loss)
        with torch.no_grad():
            psnr = ops.psnr((result.detach()[full] + 1) / 2, (content[full] + 1) / 2)
            spread = batch_spread(result.detach(), content)
        style = style.detach()[full].mean()
        return {
            "loss/g": loss,
            "loss/adversarial": adversarial,
            "loss/content": content_loss,
            "loss/style": style,
            "loss/tv": tv,
            "quality/ssim": 1 - ssim_loss.detach()[full].mean(),
            "quality/psnr": psnr,
            "quality/style_distance": style,
            "quality/spread": spread,
        }

    def _strengths(self, state: TrainState, count: int) -> Tensor:
        drawn = torch.rand(count, generator=state.rng).tolist()
        values = [1.0]
        for index in range(1, count):
            values.append((drawn[index], 0.0, 1.0)[(index - 1 + state.step) % 3])
        return torch.tensor(values)

    def _style_crops(self, state: TrainState, like: Tensor) -> tuple[Tensor, list[int]]:
        """Crops of random styles, one an image, of the batch's size; and which styles they are."""
        height, width = like.shape[-2:]
        crops, chosen = [], []
        for _ in range(like.shape[0]):
            which, down, across, mirror = torch.randint(2**31, (4,), generator=state.rng).tolist()
            chosen.append(which % len(self.styles))
            style = self.styles.crops[chosen[-1]]
            top = down % max(1, style.shape[1] - height + 1)
            left = across % max(1, style.shape[2] - width + 1)
            crop = style[:, top : top + height, left : left + width]
            crops.append(crop.flip(2) if mirror & 1 else crop)
        return ops.from_pixels(torch.stack(crops).permute(0, 2, 3, 1).contiguous()), chosen
