"""The batches of a run: read ahead, or those that a user gives, each looked at before it is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import InputError

_EXPECTED = "a batch is a tensor, uint8 (N, H, W, 3) or floating (N, 3, H, W) in [-1, 1]"
#: Values that filters of resizing leave beyond [-1, 1] are less than this.
_MAX_MAGNITUDE = 1.5
#: Batches on a GPU whose values are looked at: all at the beginning, then one in so many.
_FIRST_BATCHES = 100
_BATCH_INTERVAL = 20
_END: Any = object()


class BatchSource:
    """The batches of a run, one a step.

    Args:
        data: an iterable of batches, as the user gives it; None for photographs.
        read_from: starts reading the batches of photographs ahead from a step on.
        log: takes a line where ``data`` ends, and where its first batch looks like images of another range.

    Attributes:
        ended: whether ``data`` has ended.
    """

    def __init__(
        self,
        data: Iterable[Tensor] | None,
        read_from: Callable[[int], Generator[Tensor, None, None]],
        log: Callable[[str], None],
    ) -> None:
        self.ended = False
        self._data = None if data is None else repeat_batches(data)
        self._read_from = read_from
        self._reader: Generator[Tensor, None, None] | None = None
        self._log = log
        self._is_first = True

    def next(self, step: int) -> tuple[Any, float]:
        """The batch of a step, and the seconds that it was waited for; None once ``data`` has ended."""
        begin = time.perf_counter()
        if self._data is not None:
            batch = next(self._data, _END)
            if batch is _END:
                self.ended = True
                self._log(f"data ended after step {step}, before the run did: it is not complete")
                return None, 0.0
            if self._is_first:
                self._is_first = False
                check_batch(batch)
                if batch.is_floating_point() and batch.numel() and batch.detach().min().item() >= 0:
                    self._log(
                        "data: the first batch has no value below 0; images in [0, 1] have to be scaled to [-1, 1]"
                    )
            return batch, time.perf_counter() - begin
        if self._reader is None:
            self._reader = self._read_from(step)
        return next(self._reader), time.perf_counter() - begin

    def close(self) -> None:
        """End reading ahead; ``next`` starts it anew, from its step."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


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


class BatchCheck:
    """``check_batch`` of batch after batch. Those on a GPU are waited for, so of the values of these only the first
    ``_FIRST_BATCHES`` are looked at and then every ``_BATCH_INTERVAL``-th.
    """

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, batch: Any) -> None:
        """Raise InputError as ``check_batch``."""
        check_kind(batch)
        self._count += 1
        if batch.device.type == "cpu" or self._count <= _FIRST_BATCHES or self._count % _BATCH_INTERVAL == 0:
            check_values(batch)


def check_batch(batch: Any) -> None:
    """Raise InputError, saying what came, for anything but ``_EXPECTED``."""
    check_kind(batch)
    check_values(batch)


def check_kind(batch: Any) -> None:
    """Raise InputError for what is no tensor, or one of another dtype or shape."""
    if not isinstance(batch, Tensor):
        raise InputError(f"data: {_EXPECTED}; got {_describe(batch)}{_advice(batch)}")
    is_uint8 = batch.dtype == torch.uint8
    if not (is_uint8 or batch.is_floating_point()) or batch.ndim != 4 or batch.shape[-1 if is_uint8 else 1] != 3:
        raise InputError(f"data: {_EXPECTED}; got {_describe(batch)}")


def check_values(batch: Tensor) -> None:
    """Raise InputError for floating images of another range, or with NaN."""
    if batch.dtype == torch.uint8 or not batch.numel():
        return
    low, high = torch.stack(batch.detach().aminmax()).tolist()  # one wait for a GPU, not two
    if not low >= -_MAX_MAGNITUDE or not high <= _MAX_MAGNITUDE:  # NaN is neither
        bad = int((~batch.detach().isfinite()).sum())
        if bad:
            raise InputError(f"data: {bad:,} of the {batch.numel():,} values of a batch are NaN or infinite")
        raise InputError(
            f"data: floating images have values in [-1, 1], these have {low:.4g} to {high:.4g}; "
            "scale them, or give uint8 (N, H, W, 3)"
        )


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
