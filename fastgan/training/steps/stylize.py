"""One training step of style transfer (SPEC S6 to S9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastgan import ops
from fastgan.losses import ContentLoss, PSNRLoss, SSIMLoss, TotalVariation, style_distance
from fastgan.models import FusionGenerator, VGGEncoder
from fastgan.precision import autocast
from fastgan.training.cuda_graphs import Inputs
from fastgan.training.state import TrainState
from fastgan.training.steps.adversarial import AdversarialStep
from fastgan.training.style_bank import Styles

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
        fused: the layers of photographs' features that the generator works on, if it fuses.
    """

    def __init__(
        self,
        config: Config,
        encoder: VGGEncoder,
        styles: Styles,
        device: torch.device,
        dtype: torch.dtype,
        *,
        fused: Sequence[str] = (),
    ) -> None:
        super().__init__(config, device, dtype)
        self.encoder = encoder
        self.styles = styles
        self.content = ContentLoss()
        self.ssim = SSIMLoss()
        self.psnr = PSNRLoss()
        self.tv = TotalVariation()
        content = (config.loss.content_layer,) if config.loss.content else ()
        #: What the encoder is asked for of photographs, and of results.
        self.content_layers = tuple(dict.fromkeys((*fused, *content)))
        self.judged_layers = tuple(dict.fromkeys((*styles.layers, *content)))

    @property
    def max_side(self) -> int | None:
        """See ``AdversarialStep``: D sees crops of the style of the batch's size."""
        return self.styles.min_side

    def draw(self, state: TrainState, images: Tensor) -> Inputs:
        """See ``AdversarialStep``: crops of styles and, where styles are fused in, ``strength``, each image's ``code``
        and Gram targets."""
        real, chosen = self._style_crops(state, images)
        inputs = {"images": images, "real": real}
        if isinstance(state.generator, FusionGenerator):
            inputs["strength"] = self._strengths(state, images.shape[0]).to(self.device)
            with autocast(self.device, self.dtype):
                inputs["code"] = torch.cat([self.styles.code(index, state.generator) for index in chosen])
            for layer, target in self.styles.targets(chosen).items():
                inputs[f"target/{layer}"] = target
        return inputs

    def look(self, inputs: Inputs) -> Inputs:
        """See ``AdversarialStep``: the photographs' features."""
        if not self.content_layers:
            return inputs
        with self.phases("features"), torch.no_grad():
            features = self.encoder(inputs["images"], self.content_layers)
        return inputs | {f"feature/{layer}": feature for layer, feature in features.items()}

    def generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """See ``AdversarialStep``."""
        with self.phases("generator"), autocast(self.device, self.dtype):
            if "code" not in inputs:
                return state.generator(inputs["images"])
            features = {layer: inputs[f"feature/{layer}"] for layer in self.content_layers}
            return state.generator(features, inputs["code"], inputs["strength"])

    def judged(self, inputs: Inputs, fake: Tensor) -> tuple[Tensor, Tensor]:
        """See ``AdversarialStep``: the images of strength 1."""
        return _full(inputs["real"], inputs), _full(fake, inputs)

    def objective(self, state: TrainState, inputs: Inputs, fake: Tensor) -> dict[str, Tensor]:
        """See ``AdversarialStep``."""
        weights, content = self.config.loss, inputs["images"]
        targets = {layer: inputs[f"target/{layer}"] for layer in self.styles.layers} if "code" in inputs else None
        with self.phases("features"):
            features = self.encoder(fake, self.judged_layers)
        with self.phases("losses"):
            zero = fake.new_zeros(())
            nothing = fake.new_full((), math.nan)
            adversarial = self.generator_loss(state, _full(fake, inputs)) if weights.adversarial else nothing
            content_loss = zero
            if weights.content:
                layer = weights.content_layer
                content_loss = self.content(features[layer], inputs[f"feature/{layer}"])
            style = style_distance(features, self.styles.mean_targets if targets is None else targets, reduction="none")
            ssim_loss = self.ssim(fake, content, reduction="none")
            psnr_loss = self.psnr(fake, content) if weights.psnr else zero
            tv = self.tv(fake) if weights.tv else zero
            kept = weights.content * content_loss + weights.ssim * ssim_loss.mean() + weights.psnr * psnr_loss
            strong = style
            if "strength" in inputs:
                # Strength 0 is to be the photograph. SSIM hardly sees colours: they would be the average style's.
                away = ssim_loss + (fake - content).abs().mean((1, 2, 3))
                kept = kept + weights.ssim * _RESTORE * ((1 - inputs["strength"]) * away).mean()
                strong = inputs["strength"] * style
            structure = inputs["rates"][3].float()
            loss = weights.style * strong.mean() + weights.tv * tv + structure * kept
            if weights.adversarial:
                loss = loss + weights.adversarial * adversarial
        with torch.no_grad():
            psnr = ops.psnr((_full(fake.detach(), inputs) + 1) / 2, (_full(content, inputs) + 1) / 2)
        style = _full(style.detach(), inputs).mean()
        return {
            "loss/g": loss,
            "loss/g_adversarial": adversarial,
            "loss/content": content_loss,
            "loss/style": style,
            "loss/tv": tv,
            "train/ssim": 1 - _full(ssim_loss.detach(), inputs).mean(),
            "train/psnr": psnr,
            "train/style_distance": style,
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


def _full(values: Tensor, inputs: Inputs) -> Tensor:
    """Of values one an image, those of strength 1."""
    return values[inputs["strength"] == 1] if "strength" in inputs else values
