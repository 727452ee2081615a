"""Batches that a user gives: an iterable as one stream, and each batch looked at before it is used."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import InputError

_EXPECTED = "a batch is a tensor, uint8 (N, H, W, 3) or floating (N, 3, H, W) in [-1, 1]"
#: Values that filters of resizing leave beyond [-1, 1] are less than this.
_MAX_MAGNITUDE = 1.5


def repeat_batches(data: Iterable[Tensor]) -> Generator[Tensor, None, None]:
    """The batches of ``data``, over and over where it can be iterated again: a list or a loader, but no generator."""
    batches = iter(data)
    can_repeat = batches is not data
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty or not can_repeat:
            return
        batches = iter(data)


def check_batch(batch: Any) -> None:
    """Raise InputError, saying what came, for anything but ``_EXPECTED``."""
    if not isinstance(batch, Tensor):
        raise InputError(f"data: {_EXPECTED}; got {_describe(batch)}{_advice(batch)}")
    is_uint8 = batch.dtype == torch.uint8
    if not (is_uint8 or batch.is_floating_point()) or batch.ndim != 4 or batch.shape[-1 if is_uint8 else 1] != 3:
        raise InputError(f"data: {_EXPECTED}; got {_describe(batch)}")
    if is_uint8 or not batch.numel():
        return
    low, high = (value.item() for value in batch.detach().aminmax())
    if not low >= -_MAX_MAGNITUDE or not high <= _MAX_MAGNITUDE:  # NaN is neither
        bad = int((~batch.detach().isfinite()).sum())
        if bad:
            raise InputError(f"data: {bad:,} of the {batch.numel():,} values of a batch are NaN or infinite")
        raise InputError(
            f"data: floating images have values in [-1, 1], these have {low:.4g} to {high:.4g}; "
            "scale them, or give uint8 (N, H, W, 3)"
        )


def looks_unsigned(batch: Tensor) -> bool:
    """Whether floating images lie in [0, 1]: they may have been meant for [-1, 1]."""
    return batch.is_floating_point() and bool(batch.numel()) and batch.detach().min().item() >= 0


def _describe(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"{batch.dtype} {tuple(batch.shape)}"
    if isinstance(batch, dict):
        return f"a dict with {', '.join(f'{name!r}' for name in list(batch)[:5]) or 'nothing'}"
    if isinstance(batch, tuple | list):
        inside = ", ".join(type(item).__name__ for item in batch[:5])
        return f"a {type(batch).__name__} of {len(batch)}" + (f" ({inside})" if inside else "")
    shape = getattr(batch, "shape", None)
    name = f"{type(batch).__module__}.{type(batch).__name__}".removeprefix("builtins.")
    return name if shape is None else f"{name} {tuple(shape)}"


def _advice(batch: Any) -> str:
    if isinstance(batch, dict | tuple | list):
        return "; give the images alone, for instance (batch[KEY] for batch in loader)".replace(
            "KEY", repr(next(iter(batch), "image")) if isinstance(batch, dict) else "0"
        )
    return "; torch.from_numpy makes one of an array" if hasattr(batch, "__array__") else ""
