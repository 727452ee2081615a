"""What the steps of all models share: the discriminator's update, rates, stability tools, EMA (SPEC S2 to S4, S13 to
S19)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fastgan import ops
from fastgan.data import MIN_SIDE, augment
from fastgan.losses import AdversarialLoss
from fastgan.metrics import batch_diversity
from fastgan.precision import autocast
from fastgan.training.compilation import Use
from fastgan.training.cuda_graphs import Graphs, Inputs
from fastgan.training.state import TrainState

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

    It is in two parts. The host draws and decides: ``draw`` and ``rates``, tensors by name with one entry an image (but
    ``rates``). ``compute`` is a function of those
    and of what the state has on the device; it reads no number that changes from step to step from anywhere else, so
    that a GPU can replay it (``fastgan.training.cuda_graphs``).

    Args:
        config: the run's.
        device, dtype: where, and in what arithmetic, the networks run.

    Attributes:
        graphs: replays ``compute``; None calls it.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        self.phases = Phases()
        self.graphs: Graphs | None = None
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
        with self.phases("data"):
            inputs = self.draw(state, images)
        inputs["rates"] = self.rates(state)
        compute = self.compute if self.graphs is None else self.graphs
        values = compute(state, inputs, penalised=self.penalises(state))
        state.step += 1
        # One transfer, so that a GPU is waited for once a step.
        metrics = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
        metrics["lr/g"] = state.optimizer_g.param_groups[0]["lr"]
        metrics["lr/d"] = state.optimizer_d.param_groups[0]["lr"]
        if self.config.loss.temperature_end is not None:
            metrics["control/temperature"] = self.adversarial.temperature
        if state.controller is not None:
            metrics["control/weight"] = state.controller.weight
            metrics["control/correction"] = state.controller.correction
            state.controller.update(metrics[f"quality/{state.controller.metric}"])
        return metrics

    def draw(self, state: TrainState, images: Tensor) -> Inputs:
        """All that chance decides, for photographs (N, 3, H, W) in [-1, 1]: ``images``, ``real`` (what D is to take for
        real, likewise) and what else the step takes; augmentation alone draws later."""
        raise NotImplementedError

    def rates(self, state: TrainState) -> Tensor:
        """The numbers that change from step to step: both learning rates, the decay of the EMA, the weight of the
        structure terms."""
        # Short memory at first: the average must not keep the untrained network.
        decay = min(self.config.optim.ema, (1 + state.step) / (10 + state.step))
        weight = 1.0 if state.controller is None else state.controller.weight
        rates = [optimizer.param_groups[0]["lr"] for optimizer in (state.optimizer_g, state.optimizer_d)]
        return torch.tensor([*rates, decay, weight], dtype=torch.float64).to(self.device, non_blocking=True)

    def penalises(self, state: TrainState) -> bool:
        """Whether this step takes R1."""
        return bool(self.config.loss.r1) and state.step % self.config.loss.r1_every == 0

    def compute(self, state: TrainState, inputs: Inputs, *, penalised: bool = False) -> dict[str, Tensor]:
        """Update both networks and the average.

        With ``train.accumulate`` the images are taken in turn, and G runs twice: without gradients for D, then again
        for its own update. What is kept for a backward pass is then never that of more than a part of the batch.

        Returns:
            Losses and quality of the batch, float32 scalars on the device.
        """
        lr_g, lr_d, decay, _ = inputs["rates"]
        shares, parts = self._parts(inputs)
        judged: Iterable[tuple[Tensor, Tensor]] = (self._sketch(state, part) for part in parts)
        whole = len(parts) == 1
        if whole:
            (looked,) = parts = [self.look(inputs)]
            fake = self._generate(state, looked)
            judged = [self.judged(looked, fake)]
        values = self._update_discriminator(state, shares, judged, lr_d, penalised)
        made: list[Tensor] = []
        state.optimizer_g.zero_grad()
        for share, part in zip(shares, parts, strict=True):
            if not whole:
                part = self.look(part)
                fake = self._generate(state, part)
            of_part = self.objective(state, part, fake)
            with self.phases("backward"):
                state.scaler_g.scale(share * of_part["loss/g"]).backward()
            _add(values, of_part, share)
            made.append(fake.detach())
        with self.phases("optimizer"):
            options = {"lr": lr_g, "ema_decay": decay}
            _apply(state.generator, state.optimizer_g, state.scaler_g, self.config.optim.generator, **options)
        with torch.no_grad():
            for average, buffer in zip(state.ema.buffers(), state.generator.buffers(), strict=True):
                average.copy_(buffer)
            values["quality/spread"] = batch_diversity(made[0] if whole else torch.cat(made), inputs["images"])
        values["loss/total"] = self.adversarial.total(values["loss/adversarial"], values["loss/d"])
        for name, scaler in (("scale/g", state.scaler_g), ("scale/d", state.scaler_d)):
            if scaler.is_enabled():
                scale = scaler._get_scale_async()  # None before its first loss; get_scale() would wait for the GPU
                values[name] = torch.full((), scaler.get_scale(), device=self.device) if scale is None else scale
        return {name: value.detach().float() for name, value in values.items()}

    def look(self, inputs: Inputs) -> Inputs:
        """The inputs, and what is to be known of the photographs."""
        return inputs

    def generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """What G makes of the inputs, (N, 3, H, W)."""
        raise NotImplementedError

    def judged(self, inputs: Inputs, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``inputs["real"]`` and of what G made, what D sees."""
        return inputs["real"], fake

    def objective(self, state: TrainState, inputs: Inputs, fake: Tensor) -> dict[str, Tensor]:
        """Scalars by name: ``loss/g``, what G minimises; ``loss/adversarial``; and quality. All means over images."""
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

    def _generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """``generate``, always channels_last, as the networks that take its images were compiled and checked for.

        A compiled G of torch 2.11 gives NCHW (its reflecting pad does), and D was compiled once more in the first step.
        """
        return self.generate(state, inputs).contiguous(memory_format=torch.channels_last)

    def _sketch(self, state: TrainState, inputs: Inputs) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.judged(inputs, self._generate(state, inputs))

    def _parts(self, inputs: Inputs) -> tuple[list[float], list[Inputs]]:
        """The batch cut into ``train.accumulate``, and the share of the images that each has."""
        count = inputs["images"].shape[0]
        pieces = min(self.config.train.accumulate, count)
        if pieces == 1:
            return [1.0], [inputs]
        cut = {name: value.tensor_split(pieces) for name, value in inputs.items() if name != "rates"}
        parts = [{name: tensors[index] for name, tensors in cut.items()} for index in range(pieces)]
        return [part["images"].shape[0] / count for part in parts], [
            {**part, "rates": inputs["rates"]} for part in parts
        ]

    def _update_discriminator(
        self,
        state: TrainState,
        shares: Iterable[float],
        judged: Iterable[tuple[Tensor, Tensor]],
        lr: Tensor,
        penalised: bool,
    ) -> dict[str, Tensor]:
        """One step of D on real and fake images, which are cut off from G here. Gives ``loss/d`` and ``loss/r1``.

        Without an adversarial part there is nothing to learn for: ``loss/d`` is NaN and D stays as it is.
        """
        if not self.config.loss.adversarial:
            return {"loss/d": torch.full((), math.nan, device=self.device)}
        values: dict[str, Tensor] = {}
        state.optimizer_d.zero_grad()
        for share, (real, fake) in zip(shares, judged, strict=True):
            with self.phases("discriminator"):
                loss, of_part = self._discriminator_loss(state, real, fake, penalised)
                state.scaler_d.scale(share * loss).backward()
            _add(values, of_part, share)
        with self.phases("optimizer"):
            _apply(state.discriminator, state.optimizer_d, state.scaler_d, self.config.optim.discriminator, lr=lr)
        return values

    def _discriminator_loss(
        self, state: TrainState, real: Tensor, fake: Tensor, penalised: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = self._augmented(real, state), self._augmented(fake.detach(), state)
        with autocast(self.device, self.dtype):
            real_logits, fake_logits = state.discriminator(real), state.discriminator(fake)
        loss = self.adversarial.discriminator(real_logits, fake_logits)
        values = {"loss/d": loss}
        if penalised:
            values["loss/r1"] = r1_penalty(state.discriminator, real)
            # Taken every so many steps, it weighs so many times as much (Karras et al. 2020, lazy regularisation).
            loss = loss + 0.5 * self.config.loss.r1 * self.config.loss.r1_every * values["loss/r1"]
        return loss, values

    def uses_of_discriminator(self, real: Tensor, fake: Tensor) -> list[Use]:
        """What the updates of both networks do with D, on images like these."""
        rng = torch.Generator().manual_seed(0)
        real, fake = (augment(images, self.config.loss.augment, rng) for images in (real, fake))
        return [Use((real,), of_parameters=True), Use((fake,), of_parameters=True), Use((fake,), of_input=True)]

    def generator_loss(self, state: TrainState, fake: Tensor) -> Tensor:
        """The adversarial loss of G, by D as it now is; its gradient reaches ``fake`` and no parameter of D."""
        with _frozen(state.discriminator), autocast(self.device, self.dtype):
            return self.adversarial.generator(state.discriminator(self._augmented(fake, state)))

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
    **options: Tensor,
) -> None:
    if config.clip_grad is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad)
    scaler.step(optimizer, **options)
    scaler.update()


def _add(totals: dict[str, Tensor], values: Mapping[str, Tensor], share: float) -> None:
    for name, value in values.items():
        weighted = share * value.detach()
        totals[name] = totals[name] + weighted if name in totals else weighted


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    # The generator's update needs D's gradient for its input alone: this halves D's backward.
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
