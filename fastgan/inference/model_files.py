"""Trained models on disk: ``generator.safetensors``, ``config.json`` and the style images."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.data import read_image, write_image
from fastgan.errors import InputError, first_line
from fastgan.inference.sampler import Sampler
from fastgan.inference.stylizer import Stylizer
from fastgan.models import GENERATORS, VGGEncoder
from fastgan.models.registry import GeneratorSpec, spec_of
from fastgan.models.style_code import SHORT_SIDE
from fastgan.models.weights import WeightsFile, construction_limit
from fastgan.precision import select_device, select_dtype
from fastgan.utils.files import atomic_write, make_folder, open_regular, read_json, write_text
from fastgan.utils.host_settings import building, own_settings
from fastgan.utils.reserved import MODEL_WORDS, is_reserved

FORMAT = 1
_WEIGHTS, _DESCRIPTION = "generator.safetensors", "config.json"
#: The model that comes with fastgan.
_SHIPPED = Path(__file__).parent / "assets" / "any_style"
#: Bytes of ``config.json`` at most; it has some hundred.
_MAX_DESCRIPTION_BYTES = 1 << 20
#: The largest number in it, beyond any width, depth or size of a network.
_MAX_NUMBER = 1_000_000
_STYLE_NAME = re.compile(r"(\d{3,9})\.png", re.ASCII)
#: Pixels of a style at most; saved ones have a short side of 384.
_MAX_STYLE_PIXELS = 8_000_000
#: A side of the picture that a model is tried on, pixels.
_PROBE_SIDE = 32


def save_model(folder: Path, generator: nn.Module, extra: dict[str, Any], *, half: bool = False) -> None:
    """Write ``generator.safetensors`` and ``config.json``, each whole or not at all.

    With ``half``, what has two dimensions or more, which are the weights of layers, is kept in float16.
    """
    from safetensors.torch import save

    description = {"format": FORMAT, "model": spec_of(generator).name, "generator": generator.config, **extra}
    make_folder(folder)
    tensors = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    if half:
        tensors = {name: value.half() if value.dim() > 1 else value for name, value in tensors.items()}
    atomic_write(folder / _WEIGHTS, lambda file: file.write(save(tensors)))
    write_text(folder / _DESCRIPTION, json.dumps(description, indent=2) + "\n")


def save_styles(folder: Path, styles: Sequence[np.ndarray]) -> None:
    """Keep the style images, as the measures saw them, with the model: ``evaluate`` needs nothing else then."""
    folder = folder / "styles"
    make_folder(folder)
    names = [f"{index:03d}.png" for index in range(len(styles))]
    for name, style in zip(names, styles, strict=True):
        write_image(style, folder / name)
    for path in folder.iterdir():
        if _STYLE_NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()


class StyleImages(Sequence[np.ndarray]):
    """The style images that a model was trained on, (H, W, 3) uint8, each read when it is asked for.

    Args:
        model: as ``find_model`` takes it.

    Raises:
        InputError: they are missing; later, when one cannot be read or is larger than any that fastgan writes.
    """

    def __init__(self, model: Path) -> None:
        folder = find_model(model) / "styles"
        try:
            names = [name for name in os.listdir(folder) if _STYLE_NAME.fullmatch(name)]
        except OSError:
            names = []
        if not names:
            raise InputError(f"style: {folder} is missing; name the style image")
        self.paths = [folder / name for name in sorted(names, key=lambda name: int(name.removesuffix(".png")))]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [_read_style(path) for path in self.paths[index]]
        return _read_style(self.paths[index])


def _read_style(path: Path) -> np.ndarray:
    with open_regular(path) as file:
        header = file.read(24)
    if header[:8] != b"\x89PNG\r\n\x1a\n" or len(header) < 24:
        raise InputError(f"{path}: damaged, or not a PNG picture, which the styles of a model are")
    width, height = struct.unpack(">II", header[16:])
    if width * height > _MAX_STYLE_PIXELS:
        size = f"{width} x {height} px"
        raise InputError(
            f"{path}: too large for a model's style, {size}; at most {_MAX_STYLE_PIXELS:,} pixels are read"
        )
    return read_image(path, reduce_to=SHORT_SIDE)


def find_model(path: str | Path) -> Path:
    """The folder with ``generator.safetensors`` of a run folder, a model folder, the file itself or ``any-style``.

    Raises:
        InputError: there is none.
    """
    if is_reserved(path, MODEL_WORDS):
        return _SHIPPED
    path = Path(path)
    folders = [path.parent] if path.name == _WEIGHTS else [path / "model", path]
    for folder in folders:
        if os.path.lexists(folder / _WEIGHTS):
            return folder
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder; give a run folder or its model folder")
    raise InputError(f"{path}: has no trained model (model/{_WEIGHTS}); give a run folder that was trained")


@own_settings()
def load(path: str | Path, *, device: str = "auto", precision: str = "auto") -> Stylizer | Sampler:
    """Open a trained model: a ``Sampler`` for one that takes noise, otherwise a ``Stylizer``.

    Nothing in the folder is trusted: sizes are those of the weights before any memory is taken for them, and the model
    is tried on a small picture.

    Args:
        path: a run folder, its ``model`` folder, or ``generator.safetensors``; the text ``any-style`` is the model that
            comes with fastgan.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``, as in training.

    Raises:
        InputError: no model there, or its files are damaged, of another kind or of a newer fastgan.
    """
    folder = find_model(path)
    target = select_device(device)
    dtype = select_dtype(precision, target)
    description = _read_description(folder / _DESCRIPTION)
    weights = WeightsFile(folder / _WEIGHTS)
    spec = GENERATORS[description["model"]]
    generator = _build(spec, description, folder / _DESCRIPTION, weights)
    _load_weights(generator, weights)
    features = description.get("features", "vgg19")
    encoder = VGGEncoder(generator.layers, features) if spec.arbitrary_style else None
    _try(generator, encoder, weights.path)
    if spec.takes == "noise":
        return Sampler(generator, target, dtype, features)
    if encoder is not None:
        encoder.to(target).to_compute(dtype, torch.channels_last)
    return Stylizer(generator, target, dtype, features, encoder=encoder, styles=partial(StyleImages, folder))


def load_generator(generator: Any, path: str | Path, features: str) -> None:
    """Load the weights of a trained model into a network like its own.

    Args:
        generator: changed in place.
        path: as ``load`` takes it.
        features: the VGG-19 weights that ``generator`` is used with.

    Raises:
        InputError: no model there, or one of another network, which is told with what differs.
    """
    folder = find_model(path)
    description = _read_description(folder / _DESCRIPTION)
    spec = spec_of(generator)
    mine = {"model": spec.name, **generator.config}
    its = {"model": description["model"], **description["generator"]}
    if spec.arbitrary_style:
        mine["features"], its["features"] = features, description.get("features", "vgg19")
    names = [name for name in {**its, **mine} if its.get(name) != mine.get(name)]
    if names:
        name = names[0]
        raise InputError(
            f"train.init {path}: its network is another: {name} {str(its.get(name))[:100]}, and the run's has "
            f"{mine.get(name)}"
        )
    _load_weights(generator, WeightsFile(folder / _WEIGHTS))


def _read_description(file: Path) -> dict[str, Any]:
    """The content of ``config.json``, of the right types, with numbers within bounds."""
    description = read_json(file, _MAX_DESCRIPTION_BYTES)
    if not isinstance(description, dict):
        raise InputError(f"{file}: not a fastgan model description (it is no object)")
    name = description.get("model")
    if description.get("format") != FORMAT or not isinstance(name, str) or name not in GENERATORS:
        raise InputError(
            f"{file}: model {str(name)[:100]!r} of format {str(description.get('format'))[:100]}; "
            f"this fastgan reads {', '.join(GENERATORS)} of format {FORMAT}"
        )
    options = description.get("generator")
    if not isinstance(options, dict):
        raise InputError(f"{file}: not a fastgan model description (no object 'generator')")
    for where, number in _numbers(options, "generator"):
        if not abs(number) <= _MAX_NUMBER:
            raise InputError(f"{file}: {where[:100]!r} is {str(number)[:20]}; at most {_MAX_NUMBER:,} is allowed")
    if not isinstance(description.get("features", ""), str):
        raise InputError(f"{file}: not a fastgan model description (features is no text)")
    return description


def _numbers(value: Any, where: str) -> Iterator[tuple[str, float]]:
    parts = [(where, value)]
    while parts:  # not by recursion: a stranger decides how deep it goes
        where, value = parts.pop()
        if isinstance(value, int | float):
            yield where, value
        elif isinstance(value, list):
            parts += [(f"{where}[]", item) for item in value]
        elif isinstance(value, dict):
            parts += [(f"{where}.{name[:40]}", item) for name, item in value.items()]


def _build(spec: GeneratorSpec, description: Mapping[str, Any], file: Path, weights: WeightsFile) -> Any:
    """The network of a description, no larger than its weights."""
    try:
        with building(), construction_limit(weights.infos):  # its weights are thrown away
            return spec.network(**description["generator"])
    except Exception as error:  # by the numbers of a stranger a network's code may fail in any way
        raise InputError(f"{file}: not a fastgan model description ({first_line(error)[:200]})") from None


def _load_weights(generator: nn.Module, weights: WeightsFile) -> None:
    expected: dict[str, Tensor] = generator.state_dict()
    weights.check(expected)
    try:
        generator.load_state_dict(weights.read(expected))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{weights.path}: damaged or of another network ({first_line(error)[:200]})") from None


def _try(generator: nn.Module, encoder: VGGEncoder | None, weights: Path) -> None:
    """Refuse weights that make no picture, though each is a number: a variance below 0, a scale of 0."""
    cpu = torch.device("cpu")
    if spec_of(generator).takes == "noise":
        sampler = Sampler(generator, cpu, torch.float32)
        result = sampler.run(sampler.noise(1))
    else:
        stylizer = Stylizer(generator, cpu, torch.float32, encoder=encoder)
        side = max(_PROBE_SIDE, stylizer.min_side)
        picture = torch.linspace(-1, 1, 3 * side * side, dtype=torch.float32).view(1, 3, side, side)
        code = None if encoder is None else stylizer.code((picture + 1) / 2)
        result = stylizer.run(picture, code=code)
    if not result.isfinite().all():
        raise InputError(f"{weights}: the weights make no picture (NaN); they are damaged")
