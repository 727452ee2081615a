"""From a config to the parts of a run: photographs, style, networks, state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fastgan.data import (
    CropBatches,
    ImageFolder,
    ImagePath,
    Split,
    default_workers,
    demo_content,
    demo_val,
    failure_reason,
    is_demo,
    is_readable,
    list_images,
    list_styles,
    prefetch,
    read_for_features,
    split_train_val,
)
from fastgan.errors import InputError
from fastgan.inference.model_files import load_generator
from fastgan.models import DISCRIMINATORS, GENERATORS, spectral_norm
from fastgan.models.registry import get_field, options_of
from fastgan.precision import to_device
from fastgan.training.activation_checkpointing import recompute_stages
from fastgan.training.collapse import CollapseAlarm
from fastgan.training.controller import Controller
from fastgan.training.optimizer import FlatOptimizer
from fastgan.training.run_inputs import Digests, split_as_before
from fastgan.training.state import TrainState, check_ownership
from fastgan.utils.host_settings import building

if TYPE_CHECKING:
    from fastgan.config.schema import Config


#: Steps before the collapse alarm counts; images from noise are all alike for the first 150 to 200, and recover.
_ALARM_WARMUP = {"images": 50, "noise": 200}


def as_config(config: Config | Mapping[str, Any] | str | Path | None) -> Config:
    """A config from what ``Trainer`` takes for one. Raises InputError for bad fields."""
    # Only here does the engine need pydantic: a Config may be any object with its fields.
    if config is None or isinstance(config, Mapping | str | Path):
        from fastgan.config import load_config

        return (
            load_config(base=config) if isinstance(config, Mapping) else load_config(Path(config) if config else None)
        )
    return config


@dataclass
class Photographs:
    """Training and validation photographs, whether they are the same (``shared``), and the hashes of those hashed."""

    batches: CropBatches
    val_images: list[np.ndarray]
    val_paths: list[ImagePath]
    shared: bool
    digests: Digests

    @property
    def split(self) -> Split:
        """The paths of both."""
        return Split(self.batches.folder.paths, self.val_paths, self.shared)

    @property
    def hashed(self) -> tuple[Split, Digests]:
        """The paths, and the hashes of those that have been hashed."""
        return self.split, self.digests


def noise_short_side(size: int) -> int:
    """The short side of photographs for images of ``size`` pixels a side from noise: a little larger, for crops.

    Crops of larger photographs would be textures.
    """
    return round(1.125 * size)


def open_photographs(
    config: Config, on_broken: Callable[[ImagePath, str], None], before: Mapping[str, Any] | None = None
) -> Photographs:
    """The photographs of ``data.content``.

    Args:
        config: of the run.
        on_broken: takes path and reason for each image that cannot be read.
        before: of a run that is resumed, what it was made from (``run_inputs.describe``): it holds out what it held
            out then.

    Raises:
        InputError: the folder is missing or empty, or too many of its images are broken.
    """
    data, digests = config.data, Digests()
    if GENERATORS[config.model.name].takes == "noise":  # evaluated on sets of images: none is held out as content
        split = Split(demo_content() if is_demo(data.content) else list_images(data.content), [], False)
    else:
        if is_demo(data.content):
            split = Split(demo_content(), demo_val(), False)
            paths: Sequence[ImagePath] = [*split.train, *split.val]
        else:
            paths = list_images(data.content)
            split = split_train_val(paths, seed=config.train.seed, at_most=data.val_images, usable=is_readable)
        if before is not None:
            split = split_as_before(paths, split, data.content, data.val_images, before, digests)
    folder = ImageFolder(
        split.train,
        size=data.size,
        short_side=noise_short_side(data.size) if data.short_side is None else data.short_side,
        max_broken=data.max_broken,
        on_broken=on_broken,
    )
    batches = CropBatches(folder, batch=data.batch, seed=config.train.seed)
    batches.batch_at(0)  # a folder of broken images alone is reported before anything is written
    held = []
    for path in split.val:
        try:
            held.append((path, read_for_features(path)))
        except Exception:
            continue  # shared with the training set, which has reported it
    return Photographs(batches, [image for _, image in held], [path for path, _ in held], split.shared, digests)


def read_ahead(
    config: Config, batches: CropBatches | None, step: int, device: torch.device
) -> Generator[torch.Tensor, None, None]:
    """The batches from ``step`` on, made ahead as ``data.prefetch`` and ``data.workers`` say."""
    assert batches is not None
    workers = config.data.workers
    if workers is None:
        workers = default_workers(device)
    return prefetch(batches, step, depth=config.data.prefetch, workers=workers, pin=device.type == "cuda")


def check_out_not_inside_content(out: Path, content: str) -> None:
    """Raise InputError for a run folder inside the photographs: its pictures would be trained on."""
    if not is_demo(content) and out.resolve().is_relative_to(Path(content).resolve()):
        raise InputError(f"out {out}: lies inside the photographs, and its pictures would be trained on; give another")


def open_styles(
    style: str | None, on_broken: Callable[[ImagePath, str], None], *, crop_size: int = 1
) -> list[np.ndarray]:
    """The style images, (H, W, 3) uint8 at a short side of 32 to 384; none for None. In a folder, broken ones are
    skipped, and those too long and thin for crops of ``crop_size`` pixels a side.

    Raises:
        InputError: missing, not an image, too long and thin, or a folder without one that can be read.
    """
    if style is None:
        return []
    paths = list_styles(style)
    if len(paths) == 1:
        return [read_for_features(paths[0], crop_size=crop_size)]
    styles = []
    for path in paths:
        try:
            styles.append(read_for_features(path, crop_size=crop_size))
        except Exception as error:  # whatever its decoding raises
            on_broken(path, failure_reason(path, error))
    if not styles:
        raise InputError(f"{style}: none of its {len(paths)} images can be read")
    return styles


def build_networks(config: Config) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator; a function of ``train.seed``, without touching torch's global random state.

    Raises:
        InputError: sizes that a network cannot have.
    """
    model, size = config.model, config.data.size
    net = model.discriminator
    generator_spec, discriminator_spec = GENERATORS[model.name], DISCRIMINATORS[net.name]
    with building(config.train.seed):
        try:
            options = options_of(generator_spec, config)
            generator = generator_spec.network(model.generator.width, model.generator.depth, **options)
        except (TypeError, ValueError) as error:
            raise InputError(f"the generator {model.name} at data.size {size}: {error}") from None
        try:
            options = options_of(discriminator_spec, config)
            discriminator = discriminator_spec.network(net.width, net.depth, **options)
        except (TypeError, ValueError) as error:
            raise InputError(f"the discriminator {net.name} at data.size {size}: {error}") from None
        if net.spectral_norm:
            spectral_norm(discriminator)
    min_side: Any = discriminator.min_side
    if size < min_side:
        raise InputError(
            f"data.size: {size} px is too small for a discriminator of depth {net.depth}, which needs {min_side}"
        )
    return generator, discriminator


def differences_of_networks(config: Config, file: Path) -> list[str]:
    """The fields of networks and optimizers in which ``config`` differs from ``file``, the ``config.yaml`` of a run."""
    try:
        other = as_config(file)
    except InputError:  # of another version, or edited
        return []
    differences = []
    for field in _fields_of_networks(config) | _fields_of_networks(other):
        mine, its = get_field(config, field), get_field(other, field)
        if mine != its:
            differences.append(f"{field} is {mine}, the run has {its}")
    return sorted(differences)


def _fields_of_networks(config: Config) -> set[str]:
    specs = GENERATORS[config.model.name], DISCRIMINATORS[config.model.discriminator.name]
    own = {field for spec in specs for field in spec.options.values()}
    networks = {f"model.{network}.{size}" for network in ("generator", "discriminator") for size in ("width", "depth")}
    names = {"model.name", "model.discriminator.name", "optim.generator.name", "optim.discriminator.name"}
    return own | networks | names | {"model.discriminator.spectral_norm"}


def build_state(config: Config, device: torch.device, dtype: torch.dtype, *, resumed: bool = False) -> TrainState:
    """Networks and optimizers, fresh but for the generator of ``train.init``, which a resumed run does not need.

    Raises:
        InputError: as ``build_networks`` and ``load_generator`` do.
    """
    generator, discriminator = build_networks(config)
    if config.train.init is not None and not resumed:
        load_generator(generator, config.train.init, config.model.features)
    for network in (generator, discriminator):
        to_device(network, device)
    ema = copy.deepcopy(generator).requires_grad_(False)
    optimizer_g = FlatOptimizer(generator.parameters(), config.optim.generator, ema=ema.parameters())
    optimizer_d = FlatOptimizer(discriminator.parameters(), config.optim.discriminator)
    check_ownership(optimizer_g, generator, "generator")
    check_ownership(optimizer_d, discriminator, "discriminator")
    if config.train.activation_checkpointing:
        recompute_stages(generator)
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
        alarm=CollapseAlarm(warmup=_ALARM_WARMUP[GENERATORS[config.model.name].takes])
        if config.quality.collapse_alarm
        else None,
        rng=rng,
    )


def build_controller(config: Config) -> Controller | None:
    """The controller of the target that the config names; None without one."""
    quality = config.quality
    if quality.target is None:
        return None
    return Controller(*quality.target, gain=quality.gain, smoothing=quality.smoothing)
