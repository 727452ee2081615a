"""The training step in plain PyTorch, as an expert writes it; no fastgan op runs in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.bench.baselines import ops as eager_ops
from fastgan.bench.baselines.networks import BaselineDiscriminator, BaselineEncoder, BaselineGenerator

CONTENT_LAYER = "relu4_1"


@dataclass(frozen=True)
class AdamSettings:
    """Learning rate and betas of one network."""

    lr: float
    betas: tuple[float, float]


@dataclass(frozen=True)
class LossWeights:
    """The weight of each generator loss, and the share of the style's loss that is that of 2x2 windows."""

    adversarial: float
    content: float
    style: float
    ssim: float
    luminance: float = 0.0
    style_windows: float = 0.0


class BaselineStep:
    """One alternating update of two networks by Adam, D first; of the generator alone where it has no weight.

    Args:
        generator, discriminator, encoder: on one device, with their initial weights.
        style: (1, 3, H, W) in [-1, 1]; its Gram matrices are the target, and crops of it are D's real images.
        loss_weights: of the generator.
        adam_g, adam_d: of the optimizers.
        dtype: float32, or bfloat16: autocast and channels_last, the losses in float32.
        compiled: torch.compile for the three networks and for the losses.
        seed: of the crops.
        content_layer: whose features are the content; VGG-19 stops there for photographs.
        ema_decay: the largest decay of the generator's moving average; None keeps no average.
    """

    def __init__(
        self,
        generator: BaselineGenerator,
        discriminator: BaselineDiscriminator,
        encoder: BaselineEncoder,
        style: Tensor,
        *,
        loss_weights: LossWeights,
        adam_g: AdamSettings,
        adam_d: AdamSettings,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        seed: int = 0,
        content_layer: str = CONTENT_LAYER,
        ema_decay: float | None = None,
    ) -> None:
        self.generator, self.discriminator, self.encoder = generator, discriminator, encoder
        self.style, self.loss_weights, self.dtype = style, loss_weights, dtype
        self.content_layer, self.ema_decay, self.steps = content_layer, ema_decay, 0
        self.ema_generator = copy.deepcopy(generator).requires_grad_(False) if ema_decay is not None else None
        with torch.no_grad():
            self.targets = {name: eager_ops.gram(features)[0] for name, features in encoder(style).items()}
        self.layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
        for network in (generator, discriminator, encoder):
            network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=adam_g.lr, betas=adam_g.betas)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=adam_d.lr, betas=adam_d.betas)
        self.rng = torch.Generator().manual_seed(seed)
        self._g, self._d, self._vgg = _maybe_compile(compiled, generator, discriminator, encoder)
        (self._losses,) = _maybe_compile(compiled, self._perceptual)

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Update both networks by a batch, uint8 (N, H, W, 3); scalars by the names of ``metrics.jsonl``."""
        content = eager_ops.from_pixels(pixels.to(self.style.device), torch.float32, self.layout is torch.channels_last)
        with torch.no_grad(), self._autocast():
            content_features = self._vgg(content, self.content_layer)[self.content_layer]
        with self._autocast():
            result = self._g(content)

        weights = self.loss_weights
        loss_d = self._update_discriminator(content, result.detach()) if weights.adversarial else None

        self.discriminator.requires_grad_(False)
        with self._autocast():
            features = self._vgg(result)
        content_loss, style_loss, ssim, luminance = self._losses(features, content_features, result, content)
        loss_g = (
            weights.content * content_loss
            + weights.style * style_loss
            + weights.ssim * (1 - ssim)
            + weights.luminance * luminance
        )
        adversarial = None
        if weights.adversarial:
            with self._autocast():
                logits = self._d(result)
            adversarial = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            loss_g = loss_g + weights.adversarial * adversarial
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self._update_ema()
        self.discriminator.requires_grad_(True)
        values = {
            "loss/g": loss_g,
            **({} if loss_d is None else {"loss/d": loss_d}),
            **({} if adversarial is None else {"loss/g_adversarial": adversarial}),
            "loss/content": content_loss,
            "loss/style": style_loss,
            "train/ssim": ssim,
        }
        return {name: value.detach() for name, value in values.items()}

    def _update_discriminator(self, content: Tensor, fake: Tensor) -> Tensor:
        with self._autocast():
            real_logits, fake_logits = self._d(self._crops(content)), self._d(fake)
        loss_d = eager_ops.discriminator_loss(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()
        return loss_d

    @torch.no_grad()
    def _update_ema(self) -> None:
        self.steps += 1
        if self.ema_generator is not None and self.ema_decay is not None:
            decay = min(
                self.ema_decay, self.steps / (9 + self.steps)
            )  # warm-up as in fastgan, written twice on purpose
            averages: list[Tensor] = list(self.ema_generator.parameters())
            current: list[Tensor] = list(self.generator.parameters())
            torch._foreach_lerp_(averages, current, 1 - decay)

    def _perceptual(
        self, features: Mapping[str, Tensor], content_features: Tensor, result: Tensor, content: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        result_features, target_features = features[self.content_layer].float(), content_features.float()
        difference = (result_features - target_features).square().mean((1, 2, 3))
        content_loss = difference / target_features.square().mean((1, 2, 3))
        style_loss, share = self._style_distance(features), self.loss_weights.style_windows
        if share:
            quarters = {name: torch.cat(eager_ops.quarters(features[name])) for name in self.targets}
            style_loss = (1 - share) * style_loss + share * self._style_distance(quarters)
        ssim = eager_ops.ssim((result + 1) / 2, (content + 1) / 2)
        weighs = self.loss_weights.luminance > 0
        luminance = eager_ops.luminance_loss(result, content) if weighs else torch.zeros(())
        return content_loss.mean(), style_loss, ssim, luminance

    def _style_distance(self, features: Mapping[str, Tensor]) -> Tensor:
        distances = []
        for name, target in self.targets.items():
            gram = eager_ops.gram(features[name].float())
            distances.append((gram - target).square().mean((1, 2)) / target.square().mean())
        return torch.stack(distances).mean()

    def _crops(self, like: Tensor) -> Tensor:
        (height, width), (n, _, h, w) = self.style.shape[-2:], like.shape
        crops = []
        for _ in range(n):
            top = int(torch.randint(height - h + 1, (), generator=self.rng))
            left = int(torch.randint(width - w + 1, (), generator=self.rng))
            crop = self.style[0, :, top : top + h, left : left + w]
            crops.append(crop.flip(2) if torch.rand((), generator=self.rng) < 0.5 else crop)
        return torch.stack(crops).contiguous(memory_format=self.layout)

    def _autocast(self) -> AbstractContextManager:
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.style.device.type, self.dtype)


def _maybe_compile(compiled: bool, *parts: Callable[..., Any] | nn.Module) -> list[Callable[..., Any]]:
    return [torch.compile(part, dynamic=False) if compiled else part for part in parts]
