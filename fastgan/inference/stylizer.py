"""Inference of trained models on images: ``fastgan.load(path)(image)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fastgan import ops
from fastgan.data import MIN_SIDE, Picture, enlarge_to, from_pil, picture_from_pil, reduce_short_side
from fastgan.data.tensors import image_to_tensor
from fastgan.errors import InputError
from fastgan.models import VGGEncoder
from fastgan.models.fusion import Window
from fastgan.models.layers import MomentRecorder, copy_modules
from fastgan.models.registry import spec_of
from fastgan.models.style_code import FEATURES_BYTES_PER_PIXEL, MIN_FEATURES_SIDE, SHORT_SIDE, style_code
from fastgan.precision import autocast, to_device
from fastgan.utils.host_settings import own_settings
from fastgan.utils.memory import check_budget, is_out_of_memory

_ONE_STYLE = "this model holds the one style that it was trained on; train with model.name=fusion for any"
_Picture = TypeVar("_Picture", Image.Image, np.ndarray, Tensor)


class Stylizer:
    """A generator ready for pictures of any size from 11 px a side up.

    Threads may share one: a call keeps what it needs to itself, and the caller's autocast does not reach it.

    Args:
        generator: the network.
        device, dtype: where, and in what arithmetic, it runs.
        features: the VGG-19 weights that it was trained with.
        encoder: those weights, for a network that fuses features; None for others.
        styles: gives what it was trained on, (H, W, 3) uint8; the first is what ``style=None`` means to such a network.
    """

    def __init__(
        self,
        generator: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        features: str = "vgg19",
        *,
        encoder: VGGEncoder | None = None,
        styles: Callable[[], Sequence[np.ndarray]] | None = None,
    ) -> None:
        self.generator: Any = to_device(generator, device).eval()
        self.device = device
        self.dtype = dtype
        self.features = features
        self.encoder = encoder
        self._styles = styles
        self._code: Tensor | None = None

    @property
    def takes_any_style(self) -> bool:
        """True for a model that takes any style; others hold the one that they were trained on."""
        return spec_of(self.generator).arbitrary_style

    @cached_property
    def styles(self) -> Sequence[np.ndarray]:
        """The styles that it was trained on, (H, W, 3) uint8; none where they are not known. Errors as of the files."""
        return [] if self._styles is None else self._styles()

    @property
    def min_side(self) -> int:
        """The smallest side of a picture, in pixels."""
        return max(MIN_SIDE, getattr(self.generator, "min_side", 0))

    @property
    def min_tile(self) -> int:
        """The smallest tile: a core of 32 px and, to each side, what its pixels depend on."""
        return 32 + 2 * self._border

    @property
    def _border(self) -> int:
        # So that every tile meets the network's strides where the whole picture would.
        return -(-self.generator.receptive_radius // self._stride) * self._stride

    @property
    def _stride(self) -> int:
        return self.generator.stride

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: the model makes nothing from noise."""
        raise TypeError("this model stylizes pictures and takes no noise; call it with a picture")

    interpolate = generate

    @own_settings()
    def code(self, style: Image.Image | np.ndarray | Tensor) -> Tensor:
        """Encode a style, once for many pictures.

        Args:
            style: PIL, NumPy (H, W, 3) uint8, or a float tensor (1, 3, H, W) or (3, H, W) in [0, 1]. Reduced to a
                short side of 384 pixels, as in training.

        Raises:
            ValueError: the model holds one style and takes no other; a tensor has values beyond [0, 1].
            InputError: a PIL image cannot be decoded, or the style is so long and thin that its features are over the
                memory budget.
            TypeError: another kind of image.
        """
        if not self.takes_any_style or self.encoder is None:
            raise ValueError(_ONE_STYLE)
        if isinstance(style, Image.Image):
            style = from_pil(style)
        if isinstance(style, np.ndarray):
            if style.dtype != np.uint8 or style.ndim != 3 or style.shape[2] != 3:
                raise TypeError(f"a style array must be uint8 (H, W, 3), got {style.dtype} {style.shape}")
            image = image_to_tensor(enlarge_to(reduce_short_side(style, SHORT_SIDE), MIN_FEATURES_SIDE))
        elif isinstance(style, Tensor) and style.is_floating_point() and style.shape[-3:-2] == (3,):
            image = _symmetric(style).float().reshape(1, *style.shape[-3:])
            short = min(image.shape[-2:])
            if short > SHORT_SIDE:
                image = F.interpolate(
                    image, scale_factor=SHORT_SIDE / short, mode="bilinear", antialias=True, align_corners=False
                )
        else:
            raise TypeError(f"a style must be a PIL image, an array or one floating image, got {type(style).__name__}")
        height, width = image.shape[-2:]
        check_budget(height * width * FEATURES_BYTES_PER_PIXEL, f"a style of {width} x {height} px")
        return style_code(image.to(self.device), self.encoder, self.generator)

    @own_settings()
    def __call__(
        self,
        image: _Picture,
        *,
        strength: float | Tensor = 1.0,
        style: Image.Image | np.ndarray | Tensor | None = None,
        code: Tensor | None = None,
        tile: int | None = None,
    ) -> _Picture:
        """Stylize one picture, or a batch of tensors.

        Args:
            image: PIL (any mode, read as a file is: turned by its EXIF orientation, 8 bits), NumPy (H, W, 3) uint8 or
                uint16, or a float tensor (N, 3, H, W) or (3, H, W) in [0, 1], which is computed with in float32.
            strength: 0 is the picture, 1 the full style; a number or, for a batch, (N,). Arbitrary-style models
                interpolate in feature space (SPEC S6); single-style models blend pixels.
            style: for arbitrary-style models, in place of the first style of their training; as ``code()`` accepts it.
            code: what ``code()`` gave for that style, instead of it.
            tile: at most this many pixels a side go through the network at once, ``min_tile`` or more; the moments of
                the norms are taken from the whole picture reduced to that size, so that tiles meet without seams. None:
                all at once.

        Returns:
            The same kind, size, dtype and range as ``image``. PIL as RGB, or RGBA where the image has transparency, and
            upright, without an orientation tag, with its color profile and resolution in ``info``.

        Raises:
            ValueError: strength out of [0, 1], a tile under ``min_tile``, a picture under 11 px a side, a tensor with
                values beyond [0, 1], a style for a model that holds one.
            InputError: a PIL image cannot be decoded, or is over the memory budget; there is not the memory for what
                the network makes of the picture.
            TypeError: another kind or dtype of image.
        """
        values = strength.tolist() if isinstance(strength, Tensor) and strength.ndim else [float(strength)]
        if not all(0 <= value <= 1 for value in values):
            raise ValueError(f"strength must be between 0 and 1, got {strength}")
        if style is not None:
            code = self.code(style)
        elif code is not None and not self.takes_any_style:
            raise ValueError(_ONE_STYLE)
        if tile is not None and tile < self.min_tile:
            raise ValueError(f"tile must be at least {self.min_tile} px for this network, got {tile}")
        if isinstance(image, Image.Image):
            picture = picture_from_pil(image)
            pixels = self._pixels(picture.pixels, strength, tile, code)
            return Picture(pixels, picture.alpha, picture.icc_profile, picture.dpi).to_pil()  # type: ignore[return-value]
        if isinstance(image, np.ndarray):
            return self._pixels(image, strength, tile, code)  # type: ignore[return-value]
        if isinstance(image, Tensor):
            if not image.is_floating_point() or image.ndim not in (3, 4) or image.shape[-3] != 3:
                raise TypeError(
                    f"a tensor must be floating (N, 3, H, W) or (3, H, W), got {image.dtype} {tuple(image.shape)}"
                )
            batch = image if image.ndim == 4 else image[None]
            if not self.takes_any_style and not any(values):
                return image.clone()  # to the bit, which the way to [-1, 1] and back is not
            out = (self._run(_symmetric(batch), strength, tile, code) + 1) / 2
            return out.to(image.device, image.dtype).reshape(image.shape)  # type: ignore[return-value]
        raise TypeError(f"an image must be a PIL image, a NumPy array or a tensor, got {type(image).__name__}")

    def _pixels(self, image: np.ndarray, strength: float | Tensor, tile: int | None, code: Tensor | None) -> np.ndarray:
        if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or image.shape[2] != 3:
            raise TypeError(f"an array must be uint8 or uint16 (H, W, 3), got {image.dtype} {image.shape}")
        if image.dtype == np.uint8:
            batch = ops.from_pixels(torch.from_numpy(np.require(image, requirements=["C", "W"]))[None])
            return ops.to_pixels(self._run(batch, strength, tile, code))[0].cpu().numpy()
        scaled = torch.from_numpy(image.astype(np.float32) / 32767.5 - 1).permute(2, 0, 1)[None]
        out = (self._run(scaled, strength, tile, code)[0].permute(1, 2, 0) + 1) * 32767.5
        return out.round().clamp(0, 65535).cpu().numpy().astype(np.uint16)

    def _run(self, x: Tensor, strength: float | Tensor, tile: int | None, code: Tensor | None) -> Tensor:
        try:
            return self.run(x, strength, tile, code)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Raised out here, or the error would keep what the network had made until then.
        height, width = x.shape[-2:]
        raise InputError(
            f"not enough memory for a picture of {width} x {height} px; give a tile, from {self.min_tile} px on, "
            "or a smaller one"
        )

    @own_settings()
    @torch.no_grad()  # not inference_mode, whose tensors a caller may neither train with nor write to
    def run(
        self, x: Tensor, strength: float | Tensor = 1.0, tile: int | None = None, code: Tensor | None = None
    ) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same, float32, on the model's device; ``code`` as ``code()`` gives it.

        The result is an ordinary tensor without gradients.
        """
        if min(x.shape[-2:]) < self.min_side:
            size = f"{x.shape[-1]} x {x.shape[-2]}"
            raise ValueError(f"a picture must have at least {self.min_side} px a side, got {size}")
        x = x.to(self.device, torch.float32)
        strengths = torch.as_tensor(strength, dtype=torch.float32, device=self.device).expand(x.shape[0])
        if self.takes_any_style:
            if code is None:
                if self._code is None:
                    if not self.styles:
                        raise ValueError("this model takes any style and knows none: give style or code")
                    self._code = self.code(self.styles[0])
                code = self._code
        elif not strengths.any():
            return x
        if tile is not None and max(x.shape[-2:]) > tile:
            one = x.shape[0] != 1 and code is not None and code.shape[0] == x.shape[0]
            codes = code.split(1) if one and code is not None else [code] * x.shape[0]
            parts = zip(x.split(1), strengths.split(1), codes, strict=True)
            out = torch.cat([self._tiled(image, tile, own, strong) for image, strong, own in parts])
        else:
            out = self._forward(x, code, strengths)
        if self.takes_any_style or bool((strengths == 1).all()):
            return out
        return torch.lerp(x, out, strengths.view(-1, 1, 1, 1))

    def _forward(
        self,
        x: Tensor,
        code: Tensor | None,
        strength: Tensor,
        window: Window | None = None,
        generator: Any = None,
    ) -> Tensor:
        generator = self.generator if generator is None else generator
        x = x.contiguous(memory_format=torch.channels_last)
        if code is None or self.encoder is None:
            with autocast(self.device, self.dtype):
                return generator(x)
        # Plain forward: a compiled encoder would compile again for every picture's size.
        features = self.encoder.forward(x, generator.layers)
        with autocast(self.device, self.dtype):
            return generator(features, code, strength, window=window)

    def _tiled(self, x: Tensor, tile: int, code: Tensor | None, strength: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        border, stride = self._border, self._stride
        core = (tile - 2 * border) // stride * stride
        out = torch.empty_like(x)
        generator = self._with_frozen_norms(x, tile, code, strength)
        for top in range(0, height, core):
            for left in range(0, width, core):
                rows = slice(max(0, top - border), min(height, top + core + border))
                columns = slice(max(0, left - border), min(width, left + core + border))
                window = rows, columns, height, width
                result = self._forward(x[..., rows, columns], code, strength, window, generator)
                bottom, right = min(height, top + core), min(width, left + core)
                out[..., top:bottom, left:right] = result[
                    ..., top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
                ]
        return out

    def _with_frozen_norms(self, x: Tensor, tile: int, code: Tensor | None, strength: Tensor) -> Any:
        """A copy of the generator for this call, whose norms hold the moments of ``x`` reduced to a tile's size."""
        generator = copy_modules(self.generator)
        recorders = [module for module in generator.modules() if isinstance(module, MomentRecorder)]
        if recorders:
            scale = tile / max(x.shape[-2:])
            size = [max(self.min_side, round(side * scale)) for side in x.shape[-2:]]
            reduced = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
            _set_recording(recorders, True)
            self._forward(reduced, code, strength, None, generator)
            _set_recording(recorders, False)
        return generator


def _symmetric(images: Tensor) -> Tensor:
    """[0, 1] to [-1, 1], in float32 or better: a half would lose a bit of what it has near 1.

    Raises:
        ValueError: values beyond that range, as of pictures in [0, 255], or NaN.
    """
    precise = images if images.dtype == torch.float64 else images.float()
    if precise.numel():
        low, high = (float(value) for value in precise.aminmax())
        # A filter overshoots by less than half of the range.
        if not (low >= -0.5 and high <= 1.5):
            raise ValueError(f"a tensor's values must be in [0, 1], got {low:g} to {high:g}")
    return precise * 2 - 1


def _set_recording(recorders: list[MomentRecorder], on: bool) -> None:
    for recorder in recorders:
        recorder.recording = on
