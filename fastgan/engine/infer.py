"""Trained models at work: ``fastgan.load(path)(image)``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fastgan import ops
from fastgan.data import MIN_SIDE, from_pil
from fastgan.engine.precision import autocast, select_device, select_dtype
from fastgan.errors import InputError, first_line
from fastgan.files import write_text, write_whole
from fastgan.models import FastGenerator
from fastgan.models.layers import InstanceNorm

FORMAT = 1
_Picture = TypeVar("_Picture", Image.Image, np.ndarray, Tensor)


def save_model(folder: Path, generator: FastGenerator, extra: dict[str, Any]) -> None:
    """Write ``generator.safetensors`` and ``config.json``, each whole or not at all."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    write_whole(folder / "generator.safetensors", lambda file: file.write(save(tensors)))
    description = {"format": FORMAT, "model": "fast", "generator": generator.config, **extra}
    write_text(folder / "config.json", json.dumps(description, indent=2) + "\n")


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


def load(path: str | Path, *, device: str = "auto", precision: str = "auto") -> Stylizer:
    """Open a trained model.

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
        if description.get("format") != FORMAT or description.get("model") != "fast":
            raise InputError(
                f"{config_file}: model {description.get('model')!r} of format {description.get('format')!r}; "
                f"this fastgan reads 'fast' of format {FORMAT}"
            )
        with torch.random.fork_rng(devices=[]):  # its weights are thrown away: leave the global random state alone
            generator = FastGenerator(**description["generator"])
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
    return Stylizer(generator, target, select_dtype(precision, target), description.get("features", "vgg19"))


class Stylizer:
    """A generator ready for pictures of any size from 11 px a side up.

    Args:
        generator: the network.
        device, dtype: where, and in what arithmetic, it runs.
        features: the VGG-19 weights that it was trained with.
    """

    def __init__(
        self, generator: FastGenerator, device: torch.device, dtype: torch.dtype, features: str = "vgg19"
    ) -> None:
        self.generator = generator.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.device = device
        self.dtype = dtype
        self.features = features

    @property
    def min_tile(self) -> int:
        """The smallest tile: a core of 32 px and, to each side, what its pixels depend on."""
        return 32 + 2 * self._border

    @property
    def _border(self) -> int:
        # A multiple of 4, so that every tile meets the network's strides where the whole picture would.
        return -(-self.generator.reach // 4) * 4

    def __call__(self, image: _Picture, *, strength: float = 1.0, tile: int | None = None) -> _Picture:
        """Stylise one picture, or a batch of tensors.

        Args:
            image: PIL (any mode, used as RGB), NumPy (H, W, 3) uint8 or uint16, or a float tensor (N, 3, H, W) or
                (3, H, W) in [0, 1].
            strength: 0 is the picture itself, 1 the full style; a blend of the two.
            tile: at most this many pixels a side go through the network at once, ``min_tile`` or more; the moments of
                the norms are taken from the whole picture reduced to that size, so that tiles meet without seams. None:
                all at once.

        Returns:
            The same kind, size and range as ``image`` (PIL as RGB).

        Raises:
            ValueError: strength out of [0, 1], a tile under ``min_tile``, a picture under 11 px a side.
            TypeError: another kind or dtype of image.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, got {strength}")
        if tile is not None and tile < self.min_tile:
            raise ValueError(f"tile must be at least {self.min_tile} px for this network, got {tile}")
        if isinstance(image, Image.Image):
            return Image.fromarray(self._pixels(from_pil(image), strength, tile))  # type: ignore[return-value]
        if isinstance(image, np.ndarray):
            return self._pixels(image, strength, tile)  # type: ignore[return-value]
        if isinstance(image, Tensor):
            if not image.is_floating_point() or image.ndim not in (3, 4) or image.shape[-3] != 3:
                raise TypeError(
                    f"a tensor must be floating (N, 3, H, W) or (3, H, W), got {image.dtype} {tuple(image.shape)}"
                )
            batch = image if image.ndim == 4 else image[None]
            out = (self.run(batch * 2 - 1, strength, tile) + 1) / 2
            if strength == 0:
                return image.clone()  # to the bit, which the way to [-1, 1] and back is not
            return out.to(image.device, image.dtype).reshape(image.shape)  # type: ignore[return-value]
        raise TypeError(f"an image must be a PIL image, a NumPy array or a tensor, got {type(image).__name__}")

    def _pixels(self, image: np.ndarray, strength: float, tile: int | None) -> np.ndarray:
        if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or image.shape[2] != 3:
            raise TypeError(f"an array must be uint8 or uint16 (H, W, 3), got {image.dtype} {image.shape}")
        if image.dtype == np.uint8:
            batch = ops.from_pixels(torch.from_numpy(np.require(image, requirements=["C", "W"]))[None])
            return ops.to_pixels(self.run(batch, strength, tile))[0].cpu().numpy()
        scaled = torch.from_numpy(image.astype(np.float32) / 32767.5 - 1).permute(2, 0, 1)[None]
        out = (self.run(scaled, strength, tile)[0].permute(1, 2, 0) + 1) * 32767.5
        return out.round().clamp(0, 65535).cpu().numpy().astype(np.uint16)

    @torch.inference_mode()
    def run(self, x: Tensor, strength: float = 1.0, tile: int | None = None) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same, float32, on the model's device."""
        if min(x.shape[-2:]) < MIN_SIDE:
            raise ValueError(f"a picture must have at least {MIN_SIDE} px a side, got {x.shape[-1]} x {x.shape[-2]}")
        x = x.to(self.device, torch.float32)
        if strength == 0:
            return x
        if tile is not None and max(x.shape[-2:]) > tile:
            out = torch.cat([self._tiled(image[None], tile) for image in x])
        else:
            out = self._forward(x)
        return out if strength == 1 else torch.lerp(x, out, strength)

    def _forward(self, x: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            return self.generator(x.contiguous(memory_format=torch.channels_last))

    def _tiled(self, x: Tensor, tile: int) -> Tensor:
        height, width = x.shape[-2:]
        border = self._border
        core = (tile - 2 * border) // 4 * 4
        out = torch.empty_like(x)
        with self._frozen_norms(x, tile):
            for top in range(0, height, core):
                for left in range(0, width, core):
                    rows = slice(max(0, top - border), min(height, top + core + border))
                    columns = slice(max(0, left - border), min(width, left + core + border))
                    done = self._forward(x[..., rows, columns])
                    bottom, right = min(height, top + core), min(width, left + core)
                    out[..., top:bottom, left:right] = done[
                        ..., top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
                    ]
        return out

    @contextmanager
    def _frozen_norms(self, x: Tensor, tile: int) -> Iterator[None]:
        norms = [module for module in self.generator.modules() if isinstance(module, InstanceNorm)]
        scale = tile / max(x.shape[-2:])
        size = [max(MIN_SIDE, round(side * scale)) for side in x.shape[-2:]]
        try:
            _set_recording(norms, True)
            self._forward(F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False))
            _set_recording(norms, False)
            yield
        finally:
            _set_recording(norms, False)
            for norm in norms:
                norm.frozen = None


def _set_recording(norms: list[InstanceNorm], on: bool) -> None:
    for norm in norms:
        norm.recording = on
