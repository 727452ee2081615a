"""The task of stylizing photographs (SPEC S6 to S9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastgan import ops
from fastgan.data import style_variants
from fastgan.evaluation.evaluator import CONTENT_LAYER, EvalResult, Evaluator, as_uint8_model, make_evaluator
from fastgan.evaluation.image_grid import SHEET_ROWS, comparison_sheet, strength_sheet
from fastgan.evaluation.score import picture_score
from fastgan.evaluation.style_map import style_map_sheet
from fastgan.inference.model_files import save_styles
from fastgan.inference.stylizer import Stylizer
from fastgan.losses import (
    LOSSES,
    ContentLoss,
    LossInputs,
    LuminanceLoss,
    PSNRLoss,
    SSIMLoss,
    TotalVariation,
    style_distance,
)
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.models.registry import spec_of
from fastgan.precision import autocast
from fastgan.training.compilation import CallSpec, Network, output_of, random_images
from fastgan.training.setup import Photographs
from fastgan.training.state import TrainState
from fastgan.training.style_bank import Styles
from fastgan.training.tasks.base import Inputs, StepScalars, Task, register_task

if TYPE_CHECKING:
    from fastgan.config import Config

#: Validation images measured during the run; at its end all are measured.
_NUM_QUICK_EVAL_IMAGES = 4
#: Every how many rows and columns of windows are measured during the run: a fourth of them costs as much as the whole
#: picture does.
_QUICK_WINDOW_STRIDE = 2


@register_task
class StylizeTask(Task):
    """Photographs in, pictures out: by a network for one style (``fast``), or for any style (``fusion``).

    An arbitrary-style network learns how strong a style is: in each batch the first image has strength 1, the others in
    turn a random strength from 0 to 1, 0, and 1. The style's losses weigh as much as its strength; the rest to 1 weighs
    SSIM and the mean difference from the photograph (``loss.identity``), so that strength 0 is learned by structure
    alone. D and the logged quality see the images of strength 1. Image i of the evaluation is measured in style i, in
    turn; with a network for one style, all in the mean of the styles.
    """

    name: ClassVar = "stylize"
    takes: ClassVar = "images"
    progress_metrics: ClassVar = {"train/ssim": "SSIM", "train/style_distance": "style"}
    baseline_label: ClassVar = "photograph itself"
    sample_caption: ClassVar = "Content, style and result"

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
        self.arbitrary_style = spec_of(generator).arbitrary_style
        feature_layers: Sequence[str] = generator.layers if self.arbitrary_style else ()
        layers = tuple(dict.fromkeys((*STYLE_LAYERS, config.loss.content_layer, CONTENT_LAYER, *feature_layers)))
        self.encoder = VGGEncoder(layers, config.model.features).to(device)
        self.styles = Styles(styles, self.encoder, config.data.size)
        #: Those that are trained on: the given ones, which quality is measured against, and their variants.
        self.training_styles = self.styles
        if config.data.style_variants:
            variants = style_variants(styles, config.data.style_variants, config.train.seed)
            self.training_styles = Styles([*styles, *variants], self.encoder, config.data.size)
        if not self.arbitrary_style:
            _ = self.styles.mean_targets  # a style that cannot be used is reported before anything is written
        self.encoder.to_compute(dtype, torch.channels_last)
        content = (config.loss.content_layer,) if config.loss.content else ()
        #: The layers of features that are computed, of photographs and of results.
        self.content_layers = tuple(dict.fromkeys((*feature_layers, *content)))
        self.loss_layers = tuple(dict.fromkeys((*self.styles.layers, *content)))
        self._content_loss, self._ssim_loss = ContentLoss(), SSIMLoss()
        self._psnr_loss, self._luminance_loss = PSNRLoss(), LuminanceLoss()
        self._total_variation = TotalVariation()

    @property
    def max_side(self) -> int | None:
        """See ``Task``: D sees crops of the style of the batch's size."""
        return self.training_styles.min_side

    def prepare(self, state: TrainState, images: Tensor) -> None:
        """See ``Task``: scales and moments of the features that an arbitrary-style network decodes; one of
        ``train.init`` has them."""
        if self.arbitrary_style and self.config.train.init is None:
            state.generator.calibrate(self.encoder.forward(images, state.generator.fused_layers))

    def sample_inputs(self, state: TrainState, images: Tensor) -> Inputs:
        """See ``Task``: crops of styles and, for any style, ``strength``, each image's ``code`` and Gram targets."""
        real, indices = self._style_crops(state, images)
        inputs = {"images": images, "real": real}
        if self.arbitrary_style:
            inputs["strength"] = self._strengths(state, images.shape[0]).to(self.device)
            with autocast(self.device, self.dtype):
                inputs["code"] = torch.cat([self.training_styles.code(index, state.generator) for index in indices])
            for layer, target in self.training_styles.targets(indices).items():
                inputs[f"target/{layer}"] = target
        return inputs

    def encode_content(self, inputs: Inputs) -> Inputs:
        """See ``Task``: the photographs' features."""
        if not self.content_layers:
            return inputs
        with self.phases("features"), torch.no_grad():
            features = self.encoder(inputs["images"], self.content_layers)
        return inputs | {f"feature/{layer}": feature for layer, feature in features.items()}

    def generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """See ``Task``."""
        with self.phases("generator"), autocast(self.device, self.dtype):
            if "code" not in inputs:
                return state.generator(inputs["images"])
            features = {layer: inputs[f"feature/{layer}"] for layer in self.content_layers}
            return state.generator(features, inputs["code"], inputs["strength"])

    def discriminator_inputs(self, inputs: Inputs, fake: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Task``: the images of strength 1."""
        return _at_full_strength(inputs["real"], inputs), _at_full_strength(fake, inputs)

    def generator_losses(
        self, inputs: Inputs, fake: Tensor, adversarial: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """See ``Task``."""
        weights, content = self.config.loss, inputs["images"]
        if "code" in inputs:
            targets = {layer: inputs[f"target/{layer}"] for layer in self.styles.layers}
        else:
            targets = self.styles.mean_targets
        with self.phases("features"):
            features = self.encoder(fake, self.loss_layers)
        with self.phases("losses"):
            zero, nan = fake.new_zeros(()), fake.new_full((), math.nan)
            g_adversarial = adversarial(_at_full_strength(fake, inputs)) if weights.adversarial else nan
            content_loss = zero
            if weights.content:
                layer = weights.content_layer
                content_loss = self._content_loss(features[layer], inputs[f"feature/{layer}"])
            style, whole_style = self._style_distance(features, targets)
            # Without a weight it is a measure alone, and a gradient through it would be computed to be multiplied by 0.
            in_loss = weights.ssim or "strength" in inputs
            ssim_loss = self._ssim_loss(fake if in_loss else fake.detach(), content, reduction="none")
            psnr_loss = self._psnr_loss(fake, content) if weights.psnr else zero
            luminance_loss = self._luminance_loss(fake, content) if weights.luminance else zero
            tv = self._total_variation(fake) if weights.tv else zero
            structure_loss = weights.content * content_loss + weights.ssim * ssim_loss.mean() + weights.psnr * psnr_loss
            structure_loss = structure_loss + weights.luminance * luminance_loss
            weighted_style = style
            if "strength" in inputs:
                # Strength 0 is to be the photograph. SSIM hardly sees colors: they would be the average style's.
                identity_loss = ssim_loss + (fake - content).abs().mean((1, 2, 3))
                identity_loss = (1 - inputs["strength"]) * identity_loss
                structure_loss = structure_loss + weights.identity * identity_loss.mean()
                weighted_style = inputs["strength"] * style
            structure_weight = StepScalars(*inputs["scalars"]).structure_weight.float()
            loss = weights.style * weighted_style.mean() + weights.tv * tv + structure_weight * structure_loss
            extra = self._extra_losses(LossInputs(fake, content, features, targets))
            for name, value in extra.items():
                loss = loss + weights.extra[name] * value
            if weights.adversarial:
                loss = loss + weights.adversarial * g_adversarial
        with torch.no_grad():
            pair = _at_full_strength(fake.detach(), inputs), _at_full_strength(content, inputs)
            psnr = ops.psnr((pair[0] + 1) / 2, (pair[1] + 1) / 2)
        return {
            "loss/g": loss,
            "loss/g_adversarial": g_adversarial,
            "loss/content": content_loss,
            "loss/style": _at_full_strength(style.detach(), inputs).mean(),
            "loss/luminance": luminance_loss,
            "loss/tv": tv,
            **{f"loss/{name}": value for name, value in extra.items()},
            "train/ssim": 1 - _at_full_strength(ssim_loss.detach(), inputs).mean(),
            "train/psnr": psnr,
            "train/style_distance": _at_full_strength(whole_style, inputs).mean(),
        }

    def _style_distance(self, features: Inputs, targets: Inputs) -> tuple[Tensor, Tensor]:
        """Each image's loss and, without a gradient, the whole picture's distance."""
        count, weight = self.config.loss.style_windows, self.config.loss.style_window_weight
        windows = (count, count) if weight else None
        return style_distance(
            features, targets, windows=windows, window_weight=weight, reduction="none", return_whole=True
        )

    def model(self, state: TrainState) -> Stylizer:
        """See ``Task``."""
        encoder = self.encoder if self.arbitrary_style else None
        features = self.config.model.features
        return Stylizer(
            state.export_generator,
            self.device,
            self.dtype,
            features,
            encoder=encoder,
            styles=partial(list, self.styles.images),
        )

    def networks(self, state: TrainState) -> dict[str, Network]:
        """See ``Task``; an arbitrary-style generator is left as it is."""
        count = -(-self.config.data.batch // self.config.train.accumulate)
        images = random_images(count, self.config.data.size).to(self.device)
        # With arbitrary styles D sees the images of full strength: the first, and of the others every third.
        real = images[: 1 + (count - 1) // 3] if self.arbitrary_style else images
        networks: dict[str, Network] = {}
        fake = real
        if not self.arbitrary_style:
            no_grad = [CallSpec((images,))] if self.config.train.accumulate > 1 else []
            networks["generator"] = (state.generator, [*no_grad, CallSpec((images,), param_grad=True)])
            fake = output_of(state.generator, images, self.device, self.dtype)
        if self.config.loss.adversarial:
            networks["discriminator"] = (state.discriminator, self.discriminator_calls(real, fake))
        content = [CallSpec((images, self.content_layers), autocast=False)] if self.content_layers else []
        results = CallSpec((images, self.loss_layers), input_grad=True, autocast=False)
        networks["encoder"] = (self.encoder, [*content, results])
        return networks

    def evaluate_baseline(self) -> EvalResult:
        """See ``Task``."""
        return self._evaluator.measure(self.val_images, None)

    def evaluate(self, state: TrainState) -> EvalResult:
        """See ``Task``."""
        return self._evaluator.measure(self.val_images, self._as_uint8_model(state))

    def evaluate_quick(self, state: TrainState) -> dict[str, float]:
        """See ``Task``: up to 4 images, without content distance, and a fourth of the windows."""
        images = self.val_images[:_NUM_QUICK_EVAL_IMAGES]
        if not images:
            return {}
        run = self._as_uint8_model(state)
        measures = self._evaluator.measure(images, run, with_content=False, window_stride=_QUICK_WINDOW_STRIDE)
        return {f"val/{name}": float(np.mean(values)) for name, values in measures.values.items()}

    def score(self, measured: dict[str, float]) -> float:
        """See ``Task``: ``fastgan.evaluation.score.picture_score``."""
        values = {name.removeprefix("val/"): value for name, value in measured.items()}
        return picture_score(values, self.config.quality.target)

    def samples(self, state: TrainState, result: EvalResult | None = None) -> dict[str, np.ndarray]:
        """See ``Task``: content, style and result; with arbitrary styles also the strengths from 0 to 1; at the end, a
        map of where the results carry the style."""
        if not self.val_images:
            return {}
        stylizer, styles = self.model(state), self.styles.images
        rows = [
            (content, styles[index % len(styles)] if self.arbitrary_style else styles[0])
            for index, content in enumerate(self.val_images)
        ]
        sheets = {"": comparison_sheet(rows, stylizer)}
        if self.arbitrary_style:
            sheets["-strength"] = strength_sheet(rows, stylizer)
        if result is not None:
            covered = result.covered[:SHEET_ROWS]
            mapped = rows[: len(covered)]
            styled = [stylizer(content, style=style if self.arbitrary_style else None) for content, style in mapped]
            sheets["-coverage"] = style_map_sheet(styled, covered)
        return sheets

    def save_files(self, folder: Path) -> None:
        """See ``Task``: the styles."""
        save_styles(folder, self.styles.images)

    def _extra_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for name in self.config.loss.extra:
            value = LOSSES[name](inputs)
            if not isinstance(value, Tensor) or value.ndim:
                raise TypeError(
                    f"the loss {name} must give a scalar tensor, got {getattr(value, 'shape', type(value))}"
                )
            losses[name] = value
        return losses

    @cached_property
    def _evaluator(self) -> Evaluator:
        return make_evaluator(self.encoder, self.styles, arbitrary_style=self.arbitrary_style)

    def _as_uint8_model(self, state: TrainState) -> Callable[[Tensor, int], Tensor]:
        def code(index: int) -> Tensor:
            return self.styles.code(index % len(self.styles), state.export_generator)

        return as_uint8_model(self.model(state), code if self.arbitrary_style else None)

    def _strengths(self, state: TrainState, count: int) -> Tensor:
        random = torch.rand(count, generator=state.rng, dtype=torch.float32).tolist()
        values = [1.0]
        for index in range(1, count):
            values.append((random[index], 0.0, 1.0)[(index - 1 + state.global_step) % 3])
        return torch.tensor(values, dtype=torch.float32)

    def _style_crops(self, state: TrainState, like: Tensor) -> tuple[Tensor, list[int]]:
        """Crops of random styles, one an image, of the batch's size; and the indices of the styles."""
        height, width = like.shape[-2:]
        crops, indices = [], []
        for _ in range(like.shape[0]):
            index, down, across, mirror = torch.randint(2**31, (4,), generator=state.rng).tolist()
            indices.append(index % len(self.training_styles))
            style = self.training_styles.crops[indices[-1]]
            top = down % max(1, style.shape[1] - height + 1)
            left = across % max(1, style.shape[2] - width + 1)
            crop = style[:, top : top + height, left : left + width]
            crops.append(crop.flip(2) if mirror & 1 else crop)
        return ops.from_pixels(torch.stack(crops).permute(0, 2, 3, 1).contiguous()), indices


def _at_full_strength(values: Tensor, inputs: Inputs) -> Tensor:
    """Select the values, one an image, of images of strength 1."""
    return values[inputs["strength"] == 1] if "strength" in inputs else values
