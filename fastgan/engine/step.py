"""One training step: discriminator first, then generator (SPEC S1, S3, S4)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fastgan import ops
from fastgan.data import MIN_SIDE
from fastgan.engine.precision import autocast
from fastgan.engine.state import TrainState
from fastgan.losses import AdversarialLoss, ContentLoss, PSNRLoss, SSIMLoss, StyleLoss, TotalVariation
from fastgan.models import VGGEncoder

if TYPE_CHECKING:
    from fastgan.config import Config


class Phases:
    """Seconds spent in each phase of a step, each a ``record_function`` range; on a GPU the host's time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with record_function(f"fastgan/{name}"):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The times since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken


class StylizeStep:
    """The alternating update of style transfer: what is frozen in a run; ``TrainState`` has what changes.

    Args:
        config: the run's.
        encoder: frozen, in its compute dtype.
        targets: Gram matrices of the style, layer -> (C, C).
        styles: the style images, (3, H, W) uint8, short side at least ``config.data.size``; D learns from their crops.
        device, dtype: where, and in what arithmetic, the networks run.
    """

    def __init__(
        self,
        config: Config,
        encoder: VGGEncoder,
        targets: dict[str, Tensor],
        styles: Sequence[Tensor],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.styles = [style.to(device) for style in styles]
        self.device = device
        self.dtype = dtype
        self.phases = Phases()
        loss = config.loss
        self.adversarial = AdversarialLoss(temperature=loss.temperature, lambda_d=loss.lambda_d)
        self.style = StyleLoss(targets).to(device)
        self.content = ContentLoss()
        self.ssim = SSIMLoss()
        self.psnr = PSNRLoss()
        self.tv = TotalVariation()
        self.layers = tuple(dict.fromkeys((*self.style.layers, loss.content_layer)))

    def __call__(self, state: TrainState, batch: Tensor, progress: float) -> dict[str, float]:
        """Update ``state`` by one batch.

        Args:
            state: changed in place.
            batch: uint8 (N, H, W, 3), or floating (N, 3, H, W) in [-1, 1].
            progress: how far the run is, 0 to 1, for the schedules.

        Returns:
            Losses and quality of the batch, the names of ``metrics.jsonl``.

        Raises:
            ValueError: a batch of another dtype or shape, smaller than the networks take or larger than the style.
        """
        with self.phases("data"):
            content = self._to_images(batch, state)
            real = self._style_crops(state, content)
        self._set_rates(state, progress)
        with self.phases("generator"), autocast(self.device, self.dtype):
            result = state.generator(content)
        loss_d = self._update_discriminator(state, real, result.detach())
        values = self._update_generator(state, content, result)
        with self.phases("optimizer"):
            self._update_ema(state)
        state.step += 1
        values["loss/d"] = loss_d.detach()
        values["loss/total"] = self.adversarial.total(values["loss/adversarial"], values["loss/d"])
        # One transfer, so that a GPU is waited for once a step.
        numbers = torch.stack([value.float() for value in values.values()]).tolist()
        metrics = dict(zip(values, numbers, strict=True))
        metrics["lr/g"] = state.optimizer_g.param_groups[0]["lr"]
        metrics["lr/d"] = state.optimizer_d.param_groups[0]["lr"]
        if state.controller is not None:
            metrics["control/weight"] = state.controller.weight
            metrics["control/correction"] = state.controller.correction
            state.controller.update(metrics[f"quality/{state.controller.metric}"])
        return metrics

    def _to_images(self, batch: Tensor, state: TrainState) -> Tensor:
        pixels = batch.dtype == torch.uint8
        if not (pixels or batch.is_floating_point()) or batch.ndim != 4 or batch.shape[-1 if pixels else 1] != 3:
            raise ValueError(
                f"a batch is uint8 (N, H, W, 3) or floating (N, 3, H, W) in [-1, 1], "
                f"got {batch.dtype} {tuple(batch.shape)}"
            )
        sides = batch.shape[1:3] if pixels else batch.shape[2:]
        least = max(MIN_SIDE, state.discriminator.min_side)
        most = min(min(style.shape[1:]) for style in self.styles)  # D sees crops of the style of the batch's size
        if batch.shape[0] < 1 or not least <= min(sides) <= max(sides) <= most:
            raise ValueError(f"a batch has 1 image or more, {least} to {most} px a side, got {tuple(batch.shape)}")
        if pixels:
            return ops.from_pixels(batch.to(self.device, non_blocking=True))
        return batch.to(self.device, torch.float32, memory_format=torch.channels_last, non_blocking=True)

    def _style_crops(self, state: TrainState, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        crops = []
        for _ in range(like.shape[0]):
            which, down, across, mirror = torch.randint(2**31, (4,), generator=state.rng).tolist()
            style = self.styles[which % len(self.styles)]
            top = down % max(1, style.shape[1] - height + 1)
            left = across % max(1, style.shape[2] - width + 1)
            crop = style[:, top : top + height, left : left + width]
            crops.append(crop.flip(2) if mirror & 1 else crop)
        return ops.from_pixels(torch.stack(crops).permute(0, 2, 3, 1).contiguous())

    def _set_rates(self, state: TrainState, progress: float) -> None:
        optim = self.config.optim
        warm = min(1.0, progress / optim.warmup) if optim.warmup else 1.0
        cosine = optim.final_lr + (1 - optim.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        factor = warm * cosine * state.damping
        for optimizer, rate in ((state.optimizer_g, optim.generator.lr), (state.optimizer_d, optim.discriminator.lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _update_discriminator(self, state: TrainState, real: Tensor, fake: Tensor) -> Tensor:
        with self.phases("discriminator"):
            with autocast(self.device, self.dtype):
                real_logits, fake_logits = state.discriminator(real), state.discriminator(fake)
            loss = self.adversarial.discriminator(real_logits, fake_logits)
            state.optimizer_d.zero_grad(set_to_none=True)
            state.scaler_d.scale(loss).backward()
        with self.phases("optimizer"):
            state.scaler_d.step(state.optimizer_d)
            state.scaler_d.update()
        return loss

    def _update_generator(self, state: TrainState, content: Tensor, result: Tensor) -> dict[str, Tensor]:
        weights = self.config.loss
        structure = 1.0 if state.controller is None else state.controller.weight
        with self.phases("features"):
            wanted = self.layers if weights.content else self.style.layers
            features = self.encoder(result, wanted)
        with self.phases("losses"):
            zero = result.new_zeros(())
            adversarial = zero
            if weights.adversarial:
                with _frozen(state.discriminator), autocast(self.device, self.dtype):
                    adversarial = self.adversarial.generator(state.discriminator(result))
            content_loss = zero
            if weights.content:
                with torch.no_grad():
                    wanted_features = self.encoder(content, (weights.content_layer,))[weights.content_layer]
                content_loss = self.content(features[weights.content_layer], wanted_features)
            style = self.style(features)
            ssim_loss = self.ssim(result, content)
            psnr_loss = self.psnr(result, content) if weights.psnr else zero
            tv = self.tv(result) if weights.tv else zero
            loss = (
                weights.adversarial * adversarial
                + weights.style * style
                + weights.tv * tv
                + structure * (weights.content * content_loss + weights.ssim * ssim_loss + weights.psnr * psnr_loss)
            )
        with self.phases("backward"):
            state.optimizer_g.zero_grad(set_to_none=True)
            state.scaler_g.scale(loss).backward()
        with self.phases("optimizer"):
            state.scaler_g.step(state.optimizer_g)
            state.scaler_g.update()
        with torch.no_grad():
            psnr = ops.psnr((result.detach() + 1) / 2, (content + 1) / 2)
        return {
            "loss/g": loss.detach(),
            "loss/adversarial": adversarial.detach(),
            "loss/content": content_loss.detach(),
            "loss/style": style.detach(),
            "loss/tv": tv.detach(),
            "quality/ssim": 1 - ssim_loss.detach(),
            "quality/psnr": psnr,
            "quality/style_distance": style.detach(),
        }

    def _update_ema(self, state: TrainState) -> None:
        # Short memory at first: the average must not keep the untrained network.
        decay = min(self.config.optim.ema, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(state.ema.parameters()), list(state.generator.parameters()), 1 - decay)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    # The generator's update needs D's gradient for its input alone: this halves D's backward.
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
