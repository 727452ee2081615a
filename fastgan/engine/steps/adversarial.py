"""What the steps of all models share: the discriminator's update, rates, stability tools, EMA (SPEC S2 to S4, S13 to
S19)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fastgan import ops
from fastgan.data import MIN_SIDE, augment
from fastgan.engine.compile import Use
from fastgan.engine.precision import autocast
from fastgan.engine.state import TrainState
from fastgan.losses import AdversarialLoss

if TYPE_CHECKING:
    from fastgan.config.schema import Config, OptimizerConfig


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


class AdversarialStep:
    """One alternating update, D first: what is frozen in a run; ``TrainState`` has what changes.

    Args:
        config: the run's.
        device, dtype: where, and in what arithmetic, the networks run.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        self.phases = Phases()
        loss = config.loss
        self.adversarial = AdversarialLoss(
            loss.kind,
            temperature=loss.temperature,
            lambda_d=loss.lambda_d,
            real_label=loss.real_label,
            fake_label=loss.fake_label,
        )

    def __call__(self, state: TrainState, batch: Tensor, progress: float) -> dict[str, float]:
        """Update ``state`` by one batch.

        Args:
            state: changed in place.
            batch: uint8 (N, H, W, 3), or floating (N, 3, H, W) in [-1, 1].
            progress: how far the run is, 0 to 1, for the schedules.

        Returns:
            Losses and quality of the batch, the names of ``metrics.jsonl``; NaN for what this run does not have.

        Raises:
            ValueError: a batch of another dtype or shape, smaller than the networks take or larger than the style.
        """
        with self.phases("data"):
            images = self.to_images(batch, state)  # refused before anything is changed
        self._set_schedules(state, progress)
        values = self.update(state, images)
        with torch.no_grad():
            for average, buffer in zip(state.ema.buffers(), state.generator.buffers(), strict=True):
                average.copy_(buffer)
        state.step += 1
        values["loss/total"] = self.adversarial.total(values["loss/adversarial"], values["loss/d"])
        # One transfer, so that a GPU is waited for once a step.
        numbers = torch.stack([value.detach().float() for value in values.values()]).tolist()
        metrics = dict(zip(values, numbers, strict=True))
        metrics["lr/g"] = state.optimizer_g.param_groups[0]["lr"]
        metrics["lr/d"] = state.optimizer_d.param_groups[0]["lr"]
        if self.config.loss.temperature_end is not None:
            metrics["control/temperature"] = self.adversarial.temperature
        if state.controller is not None:
            metrics["control/weight"] = state.controller.weight
            metrics["control/correction"] = state.controller.correction
            state.controller.update(metrics[f"quality/{state.controller.metric}"])
        return metrics

    def update(self, state: TrainState, images: Tensor) -> dict[str, Tensor]:
        """Both networks by photographs (N, 3, H, W) in [-1, 1]; scalars by name, ``loss/adversarial`` and ``loss/d``
        among them."""
        raise NotImplementedError

    @property
    def max_side(self) -> int | None:
        """The largest side of a batch, pixels."""
        return None

    def guarded(self) -> tuple[str, ...]:
        """Names of the metrics that must be finite."""
        return ("loss/g", "loss/d", "loss/adversarial") if self.config.loss.adversarial else ("loss/g",)

    def to_images(self, batch: Tensor, state: TrainState) -> Tensor:
        """A batch as float images in [-1, 1]. Raises ValueError as a step does."""
        pixels = batch.dtype == torch.uint8
        if not (pixels or batch.is_floating_point()) or batch.ndim != 4 or batch.shape[-1 if pixels else 1] != 3:
            raise ValueError(
                f"a batch is uint8 (N, H, W, 3) or floating (N, 3, H, W) in [-1, 1], "
                f"got {batch.dtype} {tuple(batch.shape)}"
            )
        sides = batch.shape[1:3] if pixels else batch.shape[2:]
        least = max(MIN_SIDE, state.discriminator.min_side)
        limits = [limit for limit in (self.max_side, state.discriminator.max_side) if limit is not None]
        if batch.shape[0] < 1 or min(sides) < least or any(max(sides) > limit for limit in limits):
            upper = f"{least} to {min(limits)}" if limits else f"at least {least}"
            raise ValueError(f"a batch has 1 image or more, {upper} px a side, got {tuple(batch.shape)}")
        if pixels:
            return ops.from_pixels(batch.to(self.device, non_blocking=True))
        return batch.to(self.device, torch.float32, memory_format=torch.channels_last, non_blocking=True)

    def update_discriminator(self, state: TrainState, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """One step of D on images; ``fake`` is cut off from G here. Gives ``loss/d`` and, where it is on, ``loss/r1``.

        Without an adversarial part there is nothing to learn for: ``loss/d`` is NaN and D stays as it is.
        """
        if not self.config.loss.adversarial:
            return {"loss/d": torch.full((), math.nan, device=self.device)}
        with self.phases("discriminator"):
            real, fake = self._augmented(real, state), self._augmented(fake.detach(), state)
            with autocast(self.device, self.dtype):
                real_logits, fake_logits = state.discriminator(real), state.discriminator(fake)
            loss = self.adversarial.discriminator(real_logits, fake_logits)
            values = {"loss/d": loss}
            every = self.config.loss.r1_every
            if self.config.loss.r1 and state.step % every == 0:
                values["loss/r1"] = r1_penalty(state.discriminator, real)
                # Taken every so many steps, it weighs so many times as much (Karras et al. 2020, lazy regularisation).
                loss = loss + 0.5 * self.config.loss.r1 * every * values["loss/r1"]
            state.optimizer_d.zero_grad()
            state.scaler_d.scale(loss).backward()
        with self.phases("optimizer"):
            _apply(state.discriminator, state.optimizer_d, state.scaler_d, self.config.optim.discriminator)
        return values

    def uses_of_discriminator(self, real: Tensor, fake: Tensor) -> list[Use]:
        """What the updates of both networks do with D, on images like these."""
        rng = torch.Generator().manual_seed(0)
        real, fake = (augment(images, self.config.loss.augment, rng) for images in (real, fake))
        return [Use((real,), of_parameters=True), Use((fake,), of_parameters=True), Use((fake,), of_input=True)]

    def generator_loss(self, state: TrainState, fake: Tensor) -> Tensor:
        """The adversarial loss of G, by D as it now is; its gradient reaches ``fake`` and no parameter of D."""
        with _frozen(state.discriminator), autocast(self.device, self.dtype):
            return self.adversarial.generator(state.discriminator(self._augmented(fake, state)))

    def descend_generator(self, state: TrainState, loss: Tensor) -> None:
        """One step of G."""
        with self.phases("backward"):
            state.optimizer_g.zero_grad()
            state.scaler_g.scale(loss).backward()
        with self.phases("optimizer"):
            # Short memory at first: the average must not keep the untrained network.
            decay = min(self.config.optim.ema, (1 + state.step) / (10 + state.step))
            _apply(state.generator, state.optimizer_g, state.scaler_g, self.config.optim.generator, ema_decay=decay)

    def _augmented(self, images: Tensor, state: TrainState) -> Tensor:
        return augment(images, self.config.loss.augment, state.rng)

    def _set_schedules(self, state: TrainState, progress: float) -> None:
        optim, loss = self.config.optim, self.config.loss
        warm = min(1.0, progress / optim.warmup) if optim.warmup else 1.0
        cosine = optim.final_lr + (1 - optim.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        factor = warm * cosine * state.damping
        for optimizer, rate in ((state.optimizer_g, optim.generator.lr), (state.optimizer_d, optim.discriminator.lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        if loss.temperature_end is not None:
            # A temperature is a scale: it moves by equal factors in equal times.
            ratio = loss.temperature_end / loss.temperature
            self.adversarial.temperature = loss.temperature * ratio ** min(1.0, progress)


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """E[|dD(x)/dx|^2] on real images (Mescheder et al. 2018), differentiable in D's parameters, float32.

    Where D gives a logit a patch, the squared gradient of their sum, divided by their number: the mean of the patches'
    penalties as far as patches do not overlap.

    Args:
        discriminator: (N, 3, H, W) to logits, any shape after N.
        real: images, (N, 3, H, W).
    """
    x = real.detach().requires_grad_()
    # Eager and in float32: a compiled network has no second derivative, and squares of small gradients need the range.
    with torch.autocast(x.device.type, enabled=False), ops.second_order():
        logits = discriminator.forward(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / logits[0].numel()


def _apply(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    config: OptimizerConfig,
    **options: float,
) -> None:
    if config.clip_grad is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad)
    scaler.step(optimizer, **options)
    scaler.update()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    # The generator's update needs D's gradient for its input alone: this halves D's backward.
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
