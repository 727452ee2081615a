"""One step of adversarial training, read from top to bottom (SPEC S2 to S4, S13 to S19)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.data import MIN_SIDE, augment
from fastgan.losses import AdversarialLoss, r1_penalty
from fastgan.metrics import batch_diversity
from fastgan.precision import autocast
from fastgan.training import schedules
from fastgan.training.batch_source import BatchCheck, check_values
from fastgan.training.cuda_graphs import CudaGraphRunner
from fastgan.training.state import TrainState
from fastgan.training.tasks.base import Inputs, StepScalars, Task

if TYPE_CHECKING:
    from fastgan.config.schema import Config
    from fastgan.config.sections import OptimizerConfig


class TrainStep:
    """One alternating update, D first. ``TrainState`` has all that changes in a run; this has what does not.

    The host samples and decides: the task's inputs and ``StepScalars``. ``update`` is a function of those and of the
    state on the device; all values that change between steps arrive as tensors, so that a CUDA graph can replay it.

    Args:
        config: of the run.
        task: what is learned.
        device, dtype: where, and in which precision, the networks run.

    Attributes:
        graph_runner: replays ``update`` as a CUDA graph; None calls it.
    """

    def __init__(self, config: Config, task: Task, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config
        self.task = task
        self.device = device
        self.dtype = dtype
        self.phases = task.phases
        self.graph_runner: CudaGraphRunner | None = None
        self._check_batch = BatchCheck()
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
            progress: the share of the run that is done, 0 to 1, for the schedules.

        Returns:
            Losses and quality of the batch, named as in ``metrics.jsonl``; NaN for what this run does not have.

        Raises:
            ValueError: a batch of another type, dtype or shape or with other values, smaller than the networks take or
                larger than the style.
        """
        with self.phases("data"):
            images = self.to_images(batch, state)  # refused before anything is changed
        if state.global_step == 0:
            self.task.prepare(state, images)
        self._set_schedules(state, progress)
        with self.phases("data"):
            inputs = self.task.sample_inputs(state, images)
        inputs["scalars"] = self.step_scalars(state)
        update = self.update if self.graph_runner is None else self.graph_runner
        values = update(state, inputs, with_r1=self.applies_r1(state))
        state.global_step += 1
        metrics = self._metrics(state, values)
        if not all(math.isfinite(metrics[name]) for name in self.finite_metrics()):
            check_values(batch)  # of a GPU's batches not all were looked at, and no learning rate is to blame then
        return metrics

    def update(self, state: TrainState, inputs: Inputs, *, with_r1: bool = False) -> dict[str, Tensor]:
        """Update D, then G, then the averaged generator.

        With ``train.accumulate`` the batch is split into micro-batches and G runs twice: without gradients for D, then
        again for its own update. So no more than a micro-batch is kept for a backward pass.

        Returns:
            Losses and quality of the batch, float32 scalars on the device.
        """
        scalars = StepScalars(*inputs["scalars"])
        weights, micro_batches = self._split_micro_batches(inputs)
        generated: Iterable[tuple[Inputs, Tensor]]
        pairs: Iterable[tuple[Tensor, Tensor]]
        if len(micro_batches) == 1:
            generated = [self._encode_and_generate(state, inputs)]
            pairs = [self.task.discriminator_inputs(*generated[0])]
        else:
            generated = (self._encode_and_generate(state, part) for part in micro_batches)
            pairs = (self._generate_no_grad(state, part) for part in micro_batches)
        values = self._update_discriminator(state, weights, pairs, scalars.lr_d, with_r1)
        fakes = self._update_generator(state, weights, generated, scalars, values)
        with torch.no_grad():
            for average, buffer in zip(state.ema.buffers(), state.generator.buffers(), strict=True):
                average.copy_(buffer)
            values["train/diversity"] = batch_diversity(fakes, inputs["images"])
        values["loss/total"] = self.adversarial.total(values["loss/g_adversarial"], values["loss/d"])
        for name, scaler in (("grad_scale/g", state.scaler_g), ("grad_scale/d", state.scaler_d)):
            if scaler.is_enabled():
                scale = scaler._get_scale_async()  # None before its first loss; get_scale() would wait for the GPU
                if scale is None:
                    scale = torch.full((), scaler.get_scale(), dtype=torch.float32, device=self.device)
                values[name] = scale
        return {name: value.detach().float() for name, value in values.items()}

    def step_scalars(self, state: TrainState) -> Tensor:
        """``StepScalars`` as one tensor on the device."""
        decay = schedules.ema_decay(state.global_step, max_decay=self.config.optim.ema)
        weight = 1.0 if state.controller is None else state.controller.weight
        rates = [optimizer.param_groups[0]["lr"] for optimizer in (state.optimizer_g, state.optimizer_d)]
        return torch.tensor([*rates, decay, weight], dtype=torch.float64).to(self.device, non_blocking=True)

    def applies_r1(self, state: TrainState) -> bool:
        """Whether this step takes the gradient penalty."""
        return bool(self.config.loss.r1) and state.global_step % self.config.loss.r1_interval == 0

    def lr_factor(self, state: TrainState, progress: float) -> float:
        """The factor of both learning rates at a share of the run that is done."""
        optim = self.config.optim
        return schedules.lr_factor(progress, warmup=optim.warmup, min_ratio=optim.min_lr_ratio) * state.lr_scale

    def rates_around(self, state: TrainState, progress: float) -> tuple[float, float]:
        """The generator's learning rate in the last step, and in the next at a share of the run that is done."""
        next_rate = self.config.optim.generator.lr * self.lr_factor(state, progress)
        return state.optimizer_g.param_groups[0]["lr"], next_rate

    def finite_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that must be finite."""
        return ("loss/g", "loss/d", "loss/g_adversarial") if self.config.loss.adversarial else ("loss/g",)

    def to_images(self, batch: Tensor, state: TrainState) -> Tensor:
        """A batch as float images in [-1, 1]. Raises ValueError as a step does."""
        self._check_batch(batch)
        is_uint8 = batch.dtype == torch.uint8
        sides = batch.shape[1:3] if is_uint8 else batch.shape[2:]
        min_side = max(MIN_SIDE, state.discriminator.min_side)
        limits = [
            limit for limit in (self.task.max_side, getattr(state.discriminator, "max_side", None)) if limit is not None
        ]
        if batch.shape[0] < 1 or min(sides) < min_side or any(max(sides) > limit for limit in limits):
            upper = f"{min_side} to {min(limits)}" if limits else f"at least {min_side}"
            raise ValueError(f"a batch has 1 image or more, {upper} px a side, got {tuple(batch.shape)}")
        if is_uint8:
            return ops.from_pixels(batch.to(self.device, non_blocking=True))
        images = batch.detach().to(self.device, torch.float32, memory_format=torch.channels_last, non_blocking=True)
        return images.clone() if images.is_inference() else images  # autograd keeps none that inference_mode made

    def _set_schedules(self, state: TrainState, progress: float) -> None:
        optim, loss = self.config.optim, self.config.loss
        factor = self.lr_factor(state, progress)
        for optimizer, rate in ((state.optimizer_g, optim.generator.lr), (state.optimizer_d, optim.discriminator.lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        if loss.temperature_end is not None:
            start, end = loss.temperature, loss.temperature_end
            self.adversarial.temperature = schedules.temperature(progress, start=start, end=end)

    def _metrics(self, state: TrainState, values: Mapping[str, Tensor]) -> dict[str, float]:
        # One transfer, so that a GPU is waited for once a step.
        metrics = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
        metrics["lr/g"] = state.optimizer_g.param_groups[0]["lr"]
        metrics["lr/d"] = state.optimizer_d.param_groups[0]["lr"]
        if self.config.loss.temperature_end is not None:
            metrics["schedule/temperature"] = self.adversarial.temperature
        if state.controller is not None:
            metrics["controller/structure_weight"] = state.controller.weight
            metrics["controller/val_offset"] = state.controller.correction
            state.controller.update(metrics.get(f"train/{state.controller.metric}", math.nan))
        return metrics

    def _split_micro_batches(self, inputs: Inputs) -> tuple[list[float], list[Inputs]]:
        """The inputs split into ``train.accumulate``, and each one's share of the images."""
        count = inputs["images"].shape[0]
        splits = min(self.config.train.accumulate, count)
        if splits == 1:
            return [1.0], [inputs]
        tensors = {name: value.tensor_split(splits) for name, value in inputs.items() if name != "scalars"}
        micro_batches = [{name: parts[index] for name, parts in tensors.items()} for index in range(splits)]
        weights = [part["images"].shape[0] / count for part in micro_batches]
        return weights, [{**part, "scalars": inputs["scalars"]} for part in micro_batches]

    def _generate(self, state: TrainState, inputs: Inputs) -> Tensor:
        """The task's images, always channels_last, as the networks that take them were compiled and checked for.

        A compiled G of torch 2.11 gives NCHW (its reflecting pad does), and D was compiled once more in the first step.
        """
        return self.task.generate(state, inputs).contiguous(memory_format=torch.channels_last)

    def _encode_and_generate(self, state: TrainState, inputs: Inputs) -> tuple[Inputs, Tensor]:
        inputs = self.task.encode_content(inputs)
        return inputs, self._generate(state, inputs)

    def _generate_no_grad(self, state: TrainState, inputs: Inputs) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.task.discriminator_inputs(inputs, self._generate(state, inputs))

    def _update_discriminator(
        self,
        state: TrainState,
        weights: Iterable[float],
        pairs: Iterable[tuple[Tensor, Tensor]],
        lr: Tensor,
        with_r1: bool,
    ) -> dict[str, Tensor]:
        """Update D by (real, fake) images of each micro-batch; its losses. Without an adversarial loss D stays."""
        if not self.config.loss.adversarial:
            return {"loss/d": torch.full((), math.nan, dtype=torch.float32, device=self.device)}
        values: dict[str, Tensor] = {}
        state.optimizer_d.zero_grad()
        for weight, (real, fake) in zip(weights, pairs, strict=True):
            with self.phases("discriminator"):
                loss, losses = self._discriminator_loss(state, real, fake, with_r1)
                state.scaler_d.scale(weight * loss).backward()
            _accumulate(values, losses, weight)
        with self.phases("optimizer"):
            _clip_and_step(
                state.discriminator, state.optimizer_d, state.scaler_d, self.config.optim.discriminator, lr=lr
            )
        return values

    def _discriminator_loss(
        self, state: TrainState, real: Tensor, fake: Tensor, with_r1: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = self._augment(real, state), self._augment(fake.detach(), state)
        with autocast(self.device, self.dtype):
            real_logits, fake_logits = state.discriminator(real), state.discriminator(fake)
        loss = self.adversarial.discriminator(real_logits, fake_logits)
        losses = {"loss/d": loss}
        if with_r1:
            losses["loss/r1"] = r1_penalty(state.discriminator, real)
            # Taken every so many steps, it weighs so many times as much (Karras et al. 2020, lazy regularization).
            loss = loss + 0.5 * self.config.loss.r1 * self.config.loss.r1_interval * losses["loss/r1"]
        return loss, losses

    def _update_generator(
        self,
        state: TrainState,
        weights: Iterable[float],
        generated: Iterable[tuple[Inputs, Tensor]],
        scalars: StepScalars,
        values: dict[str, Tensor],
    ) -> Tensor:
        """Update G and its average; adds the losses to ``values`` and returns the images, detached."""
        fakes: list[Tensor] = []
        state.optimizer_g.zero_grad()
        remaining = iter(generated)
        for weight in weights:
            inputs, fake = next(remaining)
            losses = self.task.generator_losses(inputs, fake, lambda images: self._generator_adversarial(state, images))
            with self.phases("backward"):
                state.scaler_g.scale(weight * losses["loss/g"]).backward()
            _accumulate(values, losses, weight)
            fakes.append(fake.detach())
            del inputs, fake, losses  # before the next micro-batch is generated
        with self.phases("optimizer"):
            options = {"lr": scalars.lr_g, "ema_decay": scalars.ema_decay}
            _clip_and_step(state.generator, state.optimizer_g, state.scaler_g, self.config.optim.generator, **options)
        return fakes[0] if len(fakes) == 1 else torch.cat(fakes)

    def _generator_adversarial(self, state: TrainState, fake: Tensor) -> Tensor:
        """The adversarial loss of G, by D as it now is; its gradient reaches ``fake`` and no parameter of D."""
        with frozen_parameters(state.discriminator), autocast(self.device, self.dtype):
            return self.adversarial.generator(state.discriminator(self._augment(fake, state)))

    def _augment(self, images: Tensor, state: TrainState) -> Tensor:
        return augment(images, self.config.loss.augment, state.rng)


@contextmanager
def frozen_parameters(network: nn.Module) -> Iterator[None]:
    """No gradients of the parameters: G's update needs D's gradient for its input alone, which halves D's backward."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _clip_and_step(
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


def _accumulate(totals: dict[str, Tensor], values: Mapping[str, Tensor], weight: float) -> None:
    for name, value in values.items():
        weighted = weight * value.detach()
        totals[name] = totals[name] + weighted if name in totals else weighted
