"""Trained models on disk: ``generator.safetensors``, ``config.json`` and the style images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastgan.data import list_images, read_image, write_image
from fastgan.errors import InputError, first_line
from fastgan.inference.sampler import Sampler
from fastgan.inference.stylizer import Stylizer
from fastgan.models import GENERATORS, VGGEncoder
from fastgan.models.registry import spec_of
from fastgan.precision import select_device, select_dtype
from fastgan.utils.files import atomic_write, write_text
from fastgan.utils.host_settings import building, own_settings

FORMAT = 1


def save_model(folder: Path, generator: nn.Module, extra: dict[str, Any]) -> None:
    """Write ``generator.safetensors`` and ``config.json``, each whole or not at all."""
    from safetensors.torch import save

    description = {"format": FORMAT, "model": spec_of(generator).name, "generator": generator.config, **extra}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    atomic_write(folder / "generator.safetensors", lambda file: file.write(save(tensors)))
    write_text(folder / "config.json", json.dumps(description, indent=2) + "\n")


def save_styles(folder: Path, styles: Sequence[np.ndarray]) -> None:
    """Keep the style images, as the measures saw them, with the model: ``evaluate`` needs nothing else then."""
    folder = folder / "styles"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:03d}.png" for index in range(len(styles))]
    for name, style in zip(names, styles, strict=True):
        write_image(style, folder / name)
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def load_styles(model: Path, count: int | None = None) -> list[np.ndarray]:
    """The first ``count`` style images that a model was trained on, or all, (H, W, 3) uint8.

    Raises:
        InputError: they are missing.
    """
    folder = find_model(model) / "styles"
    if not folder.is_dir():
        raise InputError(f"--style: {folder} is missing; name the style image")
    return [read_image(path) for path in list_images(folder)[:count]]


def find_model(path: Path) -> Path:
    """The folder with ``generator.safetensors`` of a run folder, a model folder or the file itself.

    Raises:
        InputError: there is none.
    """
    folders = [path.parent] if path.name == "generator.safetensors" else [path / "model", path]
    for folder in folders:
        if (folder / "generator.safetensors").is_file():
            return folder
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a run folder or its model folder")
    raise InputError(f"{path}: has no trained model (model/generator.safetensors); give a run folder that was trained")


@own_settings()
def load(path: str | Path, *, device: str = "auto", precision: str = "auto") -> Stylizer | Sampler:
    """Open a trained model: a ``Sampler`` for one that takes noise, otherwise a ``Stylizer``.

    Args:
        path: a run folder, its ``model`` folder, or ``generator.safetensors``.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``, as in training.

    Raises:
        InputError: no model there, or its files are damaged or of a newer fastgan.
    """
    from safetensors.torch import load_file

    folder = find_model(Path(path))
    target = select_device(device)
    config_file = folder / "config.json"
    try:
        description = json.loads(config_file.read_text(encoding="utf-8"))
        if description.get("format") != FORMAT or description.get("model") not in GENERATORS:
            raise InputError(
                f"{config_file}: model {description.get('model')!r} of format {description.get('format')!r}; "
                f"this fastgan reads {', '.join(GENERATORS)} of format {FORMAT}"
            )
        with building():  # its weights are thrown away
            spec = GENERATORS[description["model"]]
            generator: Any = spec.network(**description["generator"])
    except OSError as error:
        raise InputError(f"{config_file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{config_file}: not a fastgan model description ({error})") from None
    try:
        generator.load_state_dict(load_file(folder / "generator.safetensors"))
    except Exception as error:
        raise InputError(
            f"{folder / 'generator.safetensors'}: damaged or of another network ({first_line(error)})"
        ) from None
    dtype = select_dtype(precision, target)
    features = description.get("features", "vgg19")
    if spec.takes == "noise":
        return Sampler(generator, target, dtype, features)
    if not spec.arbitrary_style:
        return Stylizer(generator, target, dtype, features)
    encoder = VGGEncoder(generator.layers, features).to(target).to_compute(dtype, torch.channels_last)
    return Stylizer(generator, target, dtype, features, encoder=encoder, styles=partial(load_styles, folder, 1))
