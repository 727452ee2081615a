"""Learning to paint photographs in a style (SPEC S6 to S9)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.data.tensors import image_to_tensor
from fastgan.evaluation.evaluator import CONTENT_LAYER, Evaluator, Measures, stylizer_run
from fastgan.evaluation.image_grid import comparison_sheet, strength_sheet
from fastgan.inference.model_files import save_styles
from fastgan.inference.stylizer import Stylizer
from fastgan.losses import style_distance
from fastgan.models import STYLE_LAYERS, FusionGenerator, VGGEncoder
from fastgan.training.compilation import Network, Use, output_of, random_images
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.training.steps import StylizeStep
from fastgan.training.style_bank import Styles
from fastgan.training.tasks.base import Task

if TYPE_CHECKING:
    from fastgan.config import Config

#: Photographs held out that are looked at on the way; all of them are measured at the end.
_OBSERVED = 4
#: A target is a constraint: what is missing to it weighs so many times what structure does in the loss.
_MISSING = 10.0


class StylizeTask(Task):
    """One style in one network (``fast``, ``article``), or any style in one (``fusion``).

    With ``fusion`` photograph i is measured in style i, in turn; otherwise all in the mean of the styles.
    """

    watched: ClassVar = {"train/ssim": "SSIM", "train/style_distance": "style"}
    baseline = "photograph itself"
    caption = "Content, style and result"

    def __init__(
        self,
        config: Config,
        photographs: Photographs | None,
        styles: list[np.ndarray],
        generator: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(config, photographs)
        self.device, self.dtype = device, dtype
        self.fuses = isinstance(generator, FusionGenerator)
        deeper = generator.layers if isinstance(generator, FusionGenerator) else ()
        layers = tuple(dict.fromkeys((*STYLE_LAYERS, config.loss.content_layer, CONTENT_LAYER, *deeper)))
        self.encoder = VGGEncoder(layers, config.model.features).to(device)
        self.styles = Styles(styles, self.encoder, config.data.size)
        if not self.fuses:
            _ = self.styles.mean_targets  # a style that cannot be used is told before anything is written
        self.encoder.to_compute(dtype, torch.channels_last)
        self.step: StylizeStep = StylizeStep(config, self.encoder, self.styles, device, dtype, fused=deeper)

    def model(self, state: TrainState) -> Stylizer:
        """See ``Task``; live: it changes with each step."""
        encoder = self.encoder if self.fuses else None
        features = self.config.model.features
        return Stylizer(
            state.result, self.device, self.dtype, features, encoder=encoder, styles=lambda: self.styles.images
        )

    def networks(self, state: TrainState) -> dict[str, Network]:
        """See ``Task``; the decoder of ``fusion`` is left as it is."""
        count = -(-self.config.data.batch // self.config.train.accumulate)
        images = random_images(count, self.config.data.size).to(self.device)
        # Of a batch that is fused, D sees the images of full strength: the first, and of the others every third.
        real = images[: 1 + (count - 1) // 3] if self.fuses else images
        networks: dict[str, Network] = {}
        fake = real
        if not self.fuses:
            sketched = [Use((images,))] if self.config.train.accumulate > 1 else []
            networks["generator"] = (state.generator, [*sketched, Use((images,), of_parameters=True)])
            fake = output_of(state.generator, images, self.device, self.dtype)
        if self.config.loss.adversarial:
            networks["discriminator"] = (state.discriminator, self.step.uses_of_discriminator(real, fake))
        wanted, judged = self.step.content_layers, self.step.judged_layers
        seen = [Use((images, wanted), autocast=False)] if wanted else []
        networks["encoder"] = (self.encoder, [*seen, Use((images, judged), of_input=True, autocast=False)])
        return networks

    def prepare(self, state: TrainState, batch: Tensor) -> None:
        """See ``Task``: scales and moments of the features that ``fusion`` decodes."""
        if isinstance(state.generator, FusionGenerator):
            content = self.step.to_images(batch, state)
            state.generator.calibrate(self.encoder.forward(content, ("relu1_1", state.generator.layer)))

    def start(self) -> Measures:
        """See ``Task``."""
        return self._evaluator().measure(self.val_images, None)

    def finish(self, state: TrainState) -> Measures:
        """See ``Task``."""
        return self._evaluator().measure(self.val_images, self._run(state))

    def observe(self, state: TrainState) -> dict[str, float]:
        """See ``Task``: SSIM, PSNR and style distance of up to 4 photographs held out."""
        photographs = self.val_images[:_OBSERVED]
        if not photographs:
            return {}
        run = self._run(state)
        ssim, psnr, style = [], [], []
        with torch.no_grad():
            for number, image in enumerate(photographs):
                content = image_to_tensor(image).to(self.device)
                result = run(content, number)
                pair = (result + 1) / 2, (content + 1) / 2
                ssim.append(ops.ssim(*pair).item())
                psnr.append(ops.psnr(*pair).item())
                targets = self._targets(number)
                style.append(style_distance(self.encoder.forward(result, STYLE_LAYERS), targets).item())
        return {
            "val/ssim": float(np.mean(ssim)),
            "val/psnr": float(np.mean(psnr)),
            "val/style_distance": float(np.mean(style)),
        }

    def score(self, measured: dict[str, float]) -> float:
        """See ``Task``: style and SSIM as the loss weighs them; with a target, style and what is missing to it."""
        loss, quality = self.config.loss, self.config.quality
        style = loss.style * measured["val/style_distance"]
        if quality.target_ssim is not None:
            return style + _MISSING * loss.ssim * max(0.0, quality.target_ssim - measured["val/ssim"])
        if quality.target_psnr is not None:
            return style + _MISSING * loss.psnr * max(0.0, quality.target_psnr - measured["val/psnr"]) / 20
        return style + loss.ssim * (1 - measured["val/ssim"])

    def samples(self, state: TrainState) -> dict[str, np.ndarray]:
        """See ``Task``: content, style and result; with ``fusion`` also the way from strength 0 to 1."""
        if not self.val_images:
            return {}
        stylizer, styles = self.model(state), self.styles.images
        rows = [
            (content, styles[number % len(styles)] if self.fuses else styles[0])
            for number, content in enumerate(self.val_images)
        ]
        sheets = {"": comparison_sheet(rows, stylizer)}
        if self.fuses:
            sheets["-strength"] = strength_sheet(rows, stylizer)
        return sheets

    def save_files(self, folder: Path) -> None:
        """See ``Task``: the styles."""
        save_styles(folder, self.styles.images)

    def _targets(self, number: int) -> dict[str, Tensor]:
        return self.styles.grams(number % len(self.styles)) if self.fuses else self.styles.mean_targets

    def _evaluator(self) -> Evaluator:
        count = max(1, len(self.val_images)) if self.fuses else 1
        return Evaluator(self.encoder, [self._targets(number) for number in range(count)])

    def _run(self, state: TrainState) -> Callable[[Tensor, int], Tensor]:
        def code(number: int) -> Tensor:
            return self.styles.code(number % len(self.styles), state.result)  # type: ignore[arg-type]

        return stylizer_run(self.model(state), code if self.fuses else None)
