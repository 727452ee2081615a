"""torch.ops.fastgan.from_pixels and to_pixels, and triton_...: by the extension and by Triton, without gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._library import define
from fastgan.ops.image_convert import native


def _register_from_pixels(name: str, forward: Callable[..., Tensor], devices: tuple[str, ...]) -> Callable[..., Tensor]:
    from_pixels = define(
        f"{name}(Tensor x, ScalarType dtype, bool channels_last, Tensor? top, Tensor? left, SymInt height,"
        " SymInt width, Tensor? flip, bool mirrored) -> Tensor",
        forward,
        devices,
    )

    @torch.library.register_fake(f"fastgan::{name}")
    def _(
        x: Tensor,
        dtype: torch.dtype,
        channels_last: bool,
        top: Tensor | None,
        left: Tensor | None,
        height: int,
        width: int,
        *flips: Any,
    ) -> Tensor:
        shape = (x.shape[0], x.shape[3], height, width)
        return torch.empty(shape, dtype=dtype, device=x.device, memory_format=native.memory_format(channels_last))

    def call(
        x: Tensor,
        dtype: torch.dtype,
        channels_last: bool,
        top: Tensor | None,
        left: Tensor | None,
        height: int,
        width: int,
        flip: Tensor | bool,
    ) -> Tensor:
        flips, mirrored = (flip, False) if isinstance(flip, Tensor) else (None, flip)
        return from_pixels(x, dtype, channels_last, top, left, height, width, flips, mirrored)

    return call


def _register_to_pixels(name: str, forward: Callable[..., Tensor], devices: tuple[str, ...]) -> Callable[..., Tensor]:
    to_pixels = define(f"{name}(Tensor x) -> Tensor", forward, devices)

    @torch.library.register_fake(f"fastgan::{name}")
    def _(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.new_empty((n, h, w, c), dtype=torch.uint8)

    def call(x: Tensor) -> Tensor:
        return to_pixels(x.detach())

    return call


_DEVICES = ("CPU", "CUDA")
native_from_pixels = _register_from_pixels("from_pixels", native.from_pixels, ("CPU",))
native_to_pixels = _register_to_pixels("to_pixels", native.to_pixels, ("CPU",))
triton_from_pixels = _register_from_pixels("triton_from_pixels", _triton.lazy("image_convert", "from_pixels"), _DEVICES)
triton_to_pixels = _register_to_pixels("triton_to_pixels", _triton.lazy("image_convert", "to_pixels"), _DEVICES)
