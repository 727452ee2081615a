"""From a config to the parts of a run: photographs, style, networks, state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.data import (
    Batches,
    ImageFolder,
    Split,
    demo_content,
    demo_held_out,
    demo_style,
    enlarge_to,
    hold_out,
    is_readable,
    list_images,
    read_image,
)
from fastgan.engine.evaluate import SHORT_SIDE
from fastgan.engine.state import TrainState, check_ownership
from fastgan.errors import InputError
from fastgan.models import FastGenerator, PatchGAN
from fastgan.quality import Controller

if TYPE_CHECKING:
    from fastgan.config import AdamConfig, Config


@dataclass
class Photographs:
    """What is trained on, what is held out for measuring, and whether those are the same."""

    batches: Batches
    held_out: list[np.ndarray]
    held_out_paths: list[Path]
    shared: bool


def open_photographs(config: Config, on_broken: Callable[[Path, str], None]) -> Photographs:
    """The photographs of ``data.content``.

    Raises:
        InputError: the folder is missing or empty, or too many of its images are broken.
    """
    data = config.data
    if data.content == "demo":
        split = Split(demo_content(), demo_held_out(), False)
    else:
        paths = list_images(data.content)
        split = hold_out(paths, seed=config.train.seed, at_most=data.held_out, usable=is_readable)
    folder = ImageFolder(
        split.train,
        size=data.size,
        short_side=data.short_side,
        max_broken=data.max_broken,
        on_broken=on_broken,
    )
    batches = Batches(folder, batch=data.batch, seed=config.train.seed)
    batches.batch_at(0)  # a folder of nothing but broken images is told before anything is written
    held = []
    for path in split.held:
        try:
            held.append((path, read_image(path, reduce_to=SHORT_SIDE)))
        except InputError:
            continue  # shared with the training set, which has reported it
    return Photographs(batches, [image for _, image in held], [path for path, _ in held], split.shared)


def open_styles(style: str, on_broken: Callable[[Path, str], None]) -> list[np.ndarray]:
    """The style images, (H, W, 3) uint8 at a short side of at most 384. In a folder, broken ones are passed over.

    Raises:
        InputError: missing, not an image, or a folder without one that can be read.
    """
    paths = [demo_style()] if style == "demo" else list_images(style)
    if len(paths) == 1:
        return [read_image(paths[0], reduce_to=SHORT_SIDE)]
    styles = []
    for path in paths:
        try:
            styles.append(read_image(path, reduce_to=SHORT_SIDE))
        except InputError as error:
            on_broken(path, str(error))
    if not styles:
        raise InputError(f"{style}: none of its {len(paths)} images can be read")
    return styles


def style_tensors(styles: list[np.ndarray], size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Images (1, 3, H, W) in [-1, 1] for the Grams; (3, H, W) uint8 of short side at least ``size`` for D's crops."""
    images = [ops.from_pixels(torch.from_numpy(np.ascontiguousarray(style))[None]) for style in styles]
    crops = [torch.from_numpy(np.array(enlarge_to(style, size))).permute(2, 0, 1) for style in styles]
    return images, crops


def build_state(config: Config, device: torch.device, dtype: torch.dtype) -> TrainState:
    """Fresh networks and optimisers; a function of ``train.seed``, without touching torch's global random state."""
    model = config.model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.train.seed)  # torch.manual_seed would reseed every GPU too
        generator = FastGenerator(**model.generator.model_dump())
        discriminator = PatchGAN(**model.discriminator.model_dump())
    if config.data.size < discriminator.min_side:
        raise InputError(
            f"data.size: {config.data.size} px is too small for a discriminator of {model.discriminator.layers} "
            f"layers, which needs {discriminator.min_side}"
        )
    for network in (generator, discriminator):
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(generator).requires_grad_(False)
    optimizer_g = _adam(generator, config.optim.generator)
    optimizer_d = _adam(discriminator, config.optim.discriminator)
    check_ownership(optimizer_g, generator, "generator")
    check_ownership(optimizer_d, discriminator, "discriminator")
    scaled = dtype == torch.float16
    rng = torch.Generator()
    rng.manual_seed(config.train.seed)
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=ema,
        optimizer_g=optimizer_g,
        optimizer_d=optimizer_d,
        scaler_g=torch.amp.GradScaler(device.type, enabled=scaled),
        scaler_d=torch.amp.GradScaler(device.type, enabled=scaled),
        controller=build_controller(config),
        rng=rng,
    )


def build_controller(config: Config) -> Controller | None:
    """The controller of the target that the config names; None without one."""
    quality = config.quality
    options = {"gain": quality.gain, "smoothing": quality.smoothing}
    if quality.target_ssim is not None:
        return Controller("ssim", quality.target_ssim, **options)
    if quality.target_psnr is not None:
        return Controller("psnr", quality.target_psnr, **options)
    return None


def _adam(network: nn.Module, config: AdamConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=(config.beta1, config.beta2), foreach=True)
