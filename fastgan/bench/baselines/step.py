"""The training step as an expert writes it in plain torch: no fastgan op runs in it."""

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
from fastgan.bench.baselines.networks import PlainDiscriminator, PlainEncoder, PlainGenerator

CONTENT_LAYER = "relu4_1"


@dataclass(frozen=True)
class Rates:
    """Adam's for one network."""

    lr: float
    betas: tuple[float, float]


@dataclass(frozen=True)
class Weights:
    """What each loss of the generator weighs."""

    adversarial: float
    content: float
    style: float
    ssim: float


class PlainStep:
    """One alternating update, D first, of the networks given; Adam for both.

    Args:
        generator, discriminator, encoder: on one device, with their initial weights.
        style: (1, 3, H, W) in [-1, 1]; its Gram matrices are the target, and crops of it what D takes for real.
        weights: of the losses.
        rates_g, rates_d: of the optimisers.
        dtype: float32, or bfloat16: autocast and channels_last, the losses in float32.
        compiled: torch.compile for the three networks and for the losses.
        seed: of the crops.
        content_layer: whose features are the content; VGG-19 sees the photographs no further than there.
        ema: the most that an average of the generator keeps of itself in a step; None takes no average.
    """

    def __init__(
        self,
        generator: PlainGenerator,
        discriminator: PlainDiscriminator,
        encoder: PlainEncoder,
        style: Tensor,
        *,
        weights: Weights,
        rates_g: Rates,
        rates_d: Rates,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        seed: int = 0,
        content_layer: str = CONTENT_LAYER,
        ema: float | None = None,
    ) -> None:
        self.generator, self.discriminator, self.encoder = generator, discriminator, encoder
        self.style, self.weights, self.dtype = style, weights, dtype
        self.content_layer, self.ema, self.steps = content_layer, ema, 0
        self.average = copy.deepcopy(generator).requires_grad_(False) if ema is not None else None
        with torch.no_grad():
            self.targets = {name: eager_ops.gram(features)[0] for name, features in encoder(style).items()}
        self.layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
        for network in (generator, discriminator, encoder):
            network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=rates_g.lr, betas=rates_g.betas)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=rates_d.lr, betas=rates_d.betas)
        self.rng = torch.Generator().manual_seed(seed)
        self._g, self._d, self._vgg = _made(compiled, generator, discriminator, encoder)
        (self._losses,) = _made(compiled, self._perceptual)

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Update both networks by a batch, uint8 (N, H, W, 3); scalars by the names of ``metrics.jsonl``."""
        content = eager_ops.from_pixels(pixels.to(self.style.device), torch.float32, self.layout is torch.channels_last)
        real = self._crops(content)
        with torch.no_grad(), self._autocast():
            wanted = self._vgg(content, self.content_layer)[self.content_layer]
        with self._autocast():
            result = self._g(content)

        with self._autocast():
            real_logits, fake_logits = self._d(real), self._d(result.detach())
        loss_d = eager_ops.discriminator_loss(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()

        self.discriminator.requires_grad_(False)
        with self._autocast():
            logits, features = self._d(result), self._vgg(result)
        adversarial = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        content_loss, style_loss, ssim = self._losses(features, wanted, result, content)
        weights = self.weights
        loss_g = (
            weights.adversarial * adversarial
            + weights.content * content_loss
            + weights.style * style_loss
            + weights.ssim * (1 - ssim)
        )
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self._take_average()
        self.discriminator.requires_grad_(True)
        values = {
            "loss/g": loss_g,
            "loss/d": loss_d,
            "loss/g_adversarial": adversarial,
            "loss/content": content_loss,
            "loss/style": style_loss,
            "train/ssim": ssim,
        }
        return {name: value.detach() for name, value in values.items()}

    @torch.no_grad()
    def _take_average(self) -> None:
        self.steps += 1
        if self.average is not None and self.ema is not None:
            decay = min(self.ema, self.steps / (9 + self.steps))  # as fastgan's: the first weights are soon forgotten
            averages: list[Tensor] = list(self.average.parameters())
            current: list[Tensor] = list(self.generator.parameters())
            torch._foreach_lerp_(averages, current, 1 - decay)

    def _perceptual(
        self, features: Mapping[str, Tensor], wanted: Tensor, result: Tensor, content: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        have, want = features[self.content_layer].float(), wanted.float()
        off = (have - want).square().mean((1, 2, 3)) / want.square().mean((1, 2, 3))
        distances = []
        for name, target in self.targets.items():
            gram = eager_ops.gram(features[name].float())
            distances.append((gram - target).square().mean((1, 2)) / target.square().mean())
        return off.mean(), torch.stack(distances).mean(), eager_ops.ssim((result + 1) / 2, (content + 1) / 2)

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


def _made(compiled: bool, *parts: Callable[..., Any] | nn.Module) -> list[Callable[..., Any]]:
    return [torch.compile(part, dynamic=False) if compiled else part for part in parts]
