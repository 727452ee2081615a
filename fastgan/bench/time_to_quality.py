"""Recipes that train to a target quality, each in a worker process: fastgan's default, and plain PyTorch's.

``eager`` is fastgan's recipe in plain PyTorch, network and losses; ``published`` is that of Johnson et al. 2016 there.
``benchmarks/time_to_quality.py`` runs them in turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.bench import harness
from fastgan.bench.baselines.networks import copy_weights
from fastgan.bench.networks import step_setup
from fastgan.bench.worker_process import ReadyProvider
from fastgan.config import Config, load_config
from fastgan.data import enlarge_to
from fastgan.errors import InputError
from fastgan.evaluation.evaluator import CONTENT_LAYER, as_uint8_model, make_evaluator
from fastgan.evaluation.style_targets import StyleTargets
from fastgan.inference import Stylizer
from fastgan.metrics.lpips import lpips_unavailable_reason
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.precision import select_device, select_dtype
from fastgan.training import Trainer
from fastgan.training.schedules import lr_factor
from fastgan.training.setup import build_networks, open_photographs, open_styles, read_ahead

PROVIDERS = ("fastgan", "eager", "published")
#: The network of 9x9 convolutions, content by features of the third block, style by the whole picture alone.
PUBLISHED = {
    "model.generator.stem": "conv9",
    "loss.adversarial": 0.0,
    "loss.content_layer": "relu3_1",
    "loss.content": 1.0,
    "loss.luminance": 0.0,
    "loss.style_window_weight": 0.0,
    "loss.ssim": 0.0,
}
#: What a target can name.
MEASURES = ("style_distance", "coverage", "lpips", "ssim")


def config_of(provider: str, options: dict[str, Any]) -> Config:
    """The run of one of ``PROVIDERS``. Raises InputError for what a run cannot have."""
    fields: dict[str, Any] = {
        "model.features": options["features"],
        "data.content": options["content"],
        "data.style": options["style"],
        "data.size": options["size"],
        "data.batch": options["batch"],
        "train.steps": options["steps" if provider == "fastgan" else "baseline_steps"],
        "train.device": options["device"],
        **(PUBLISHED if provider == "published" else {}),
    }
    return load_config(overrides=[("the benchmark's", field, value) for field, value in fields.items()])


def validate(options: dict[str, Any]) -> None:
    """Raise InputError for photographs, a style or sizes that cannot be trained on."""
    for provider in PROVIDERS:
        build_networks(config_of(provider, options))
    if not open_photographs(config_of("eager", options), lambda *_: None).val_images:
        raise InputError(f"--content {options['content']}: no photograph of it can be held out")
    reason = lpips_unavailable_reason()
    if options["lpips"] is not None and reason is not None:
        raise InputError(f"--lpips: {reason}")
    if len(open_styles(options["style"], lambda *_: None)) != 1:
        raise InputError(f"--style {options['style']}: the baseline learns one style; give one picture")


def make_provider(options: dict[str, Any]) -> ReadyProvider:
    """A recipe before its first step: a call takes a step, the report measures the averaged generator."""
    config = config_of(options["provider"], options)
    device = select_device(config.train.device)
    harness.allow_tf32(device.type)
    run, stylizer = (_fastgan if options["provider"] == "fastgan" else _baseline)(config, device, options)
    photographs = open_photographs(config, lambda *_: None)
    source = read_ahead(config, photographs.batches, 0, device)
    measure = _measure(config, photographs.val_images[: options["photographs"]], device)
    return ReadyProvider({}, lambda: run(next(source)), lambda: measure(stylizer()))


Recipe = tuple[Callable[[Tensor], object], Callable[[], Stylizer]]


def _fastgan(config: Config, device: torch.device, options: dict[str, Any]) -> Recipe:
    trainer = Trainer(config, data=())

    def model() -> Stylizer:
        stylizer = trainer.model()
        assert isinstance(stylizer, Stylizer)
        return stylizer

    return trainer.train_step, model


def _baseline(config: Config, device: torch.device, options: dict[str, Any]) -> Recipe:
    dtype = select_dtype("auto", device)
    dtype = torch.bfloat16 if dtype == torch.float16 else dtype  # the baseline scales no gradients
    (image,) = open_styles(options["style"], lambda *_: None)
    style = np.array(enlarge_to(image, config.data.size))
    step = step_setup.baseline_step_from_config(
        config, style, device, dtype, compiled=options["compile"], ema_decay=config.optim.ema
    )
    rates = [(step.optimizer_g, config.optim.generator.lr), (step.optimizer_d, config.optim.discriminator.lr)]
    count = itertools.count()

    def run(pixels: Tensor) -> None:
        if options["schedule"] == "cosine":
            progress = min(1.0, (next(count) + 0.5) / options["baseline_steps"])
            factor = lr_factor(progress, warmup=config.optim.warmup, min_ratio=config.optim.min_lr_ratio)
            for optimizer, rate in rates:
                optimizer.param_groups[0]["lr"] = rate * factor
        step(pixels)

    def model() -> Stylizer:
        generator, _ = build_networks(config)  # it computes the same with the same weights
        assert step.ema_generator is not None
        copy_weights(step.ema_generator, generator)
        return Stylizer(generator, device, dtype, options["features"])

    return run, model


def _measure(config: Config, images: list[np.ndarray], device: torch.device) -> Callable[[Stylizer], dict[str, float]]:
    """A function that measures as ``fastgan evaluate`` does, means over the images."""
    encoder = VGGEncoder((*STYLE_LAYERS, CONTENT_LAYER), config.model.features).to(device)
    styles = open_styles(str(config.data.style), lambda *_: None)
    evaluator = make_evaluator(encoder, StyleTargets(styles, encoder), arbitrary_style=False)
    encoder.to_compute(encoder.dtype, torch.channels_last)

    def measure(stylizer: Stylizer) -> dict[str, float]:
        values = evaluator.measure(images, as_uint8_model(stylizer), with_content=False, window_stride=2).values
        return {name: float(np.mean(values[name])) for name in MEASURES if name in values}

    return measure
