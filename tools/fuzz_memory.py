"""Random tensors whose surroundings are watched: NaN, and poisoned for AddressSanitizer."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Where vectors, blocks, tiles and windows begin and end, and their neighbors.
EDGES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 31, 32, 33, 61, 63, 64, 65, 127, 128, 129, 131, 138, 257, 300)
#: Dimensions from the outermost in memory: contiguous, channels_last, and height and width exchanged.
ORDERS = ((0, 1, 2, 3), (0, 1, 2, 3), (0, 2, 3, 1), (0, 2, 3, 1), (0, 1, 3, 2))
#: More runs of unused elements than this are left to their NaN.
MOST_RUNS = 3000
POISON, UNPOISON = ctypes.CDLL(None)["__asan_poison_memory_region"], ctypes.CDLL(None)["__asan_unpoison_memory_region"]


def unused(dtype: torch.dtype) -> float:
    """The value of elements that belong to no tensor."""
    return torch.nan if dtype.is_floating_point else 0xA5


class Finding(Exception):
    """A fault of a kernel, or a wrong call that was accepted."""


@dataclass(frozen=True)
class Placed:
    storage: Tensor
    used: Tensor

    def gaps(self) -> NDArray[Any]:
        """(begin, end) of each run of elements that belong to no tensor."""
        unused = np.concatenate(([False], ~self.used.numpy(), [False])).astype(np.int8)
        edges = np.flatnonzero(np.diff(unused))
        return edges.reshape(-1, 2)


class Memory:
    """The tensors of one case."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.placed: list[Placed] = []
        self.poisoned = False

    def size(self, most: int = 300) -> int:
        return min(most, self.random.choice(EDGES) if self.random.random() < 0.8 else self.random.randint(1, most))

    def shape(self, elements: int, smallest: int = 1) -> tuple[int, int, int, int]:
        """(N, C, H, W) of so many elements at most, height and width no smaller than `smallest`."""
        sizes = [self.random.choice((1, 1, 2, 3)), self.size(), smallest - 1 + self.size(), smallest - 1 + self.size()]
        least = (1, 1, smallest, smallest)
        while np.prod(sizes) > elements:
            dim = max(range(4), key=lambda d: sizes[d] / least[d])
            sizes[dim] = max(least[dim], sizes[dim] * 2 // 3)
        return sizes[0], sizes[1], sizes[2], sizes[3]

    def dtype(self) -> torch.dtype:
        return self.random.choice((torch.float32, torch.bfloat16))

    def numbers(self, *shape: int) -> Tensor:
        return torch.randn(shape)

    def place(self, shape: tuple[int, ...], dtype: torch.dtype, *, output: bool = False) -> Tensor:
        """A random tensor of a random layout, which more often than not ends where its storage ends."""
        draw = self.random
        order = draw.choice((*ORDERS, tuple(draw.sample(range(4), 4))))
        expanded = [not output and draw.random() < 0.06 for _ in shape]
        sizes = [1 if alike else size for size, alike in zip(shape, expanded, strict=True)]
        strides, span = [0, 0, 0, 0], draw.choice((1, 1, 1, 1, 2, 3))
        gapless = draw.random() < 0.5
        for dim in reversed(order):
            strides[dim] = span
            span = span * sizes[dim] + (0 if gapless else draw.choice((0, 0, 1, 5)))
        for dim in range(4):
            if sizes[dim] == 1:  # of one element: any stride is right
                strides[dim] = 0 if shape[dim] > 1 else draw.choice((strides[dim], strides[dim], 0, 1, 1 << 33))
        offset = draw.choice((0, 0, 1, 3, 8, 13))
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        total = last + 1 + draw.choice((0, 0, 0, 4))
        storage, used = torch.full((total,), unused(dtype), dtype=dtype), torch.zeros(total, dtype=torch.bool)
        used.as_strided(sizes, strides, offset).fill_(True)
        if not output and dtype == torch.uint8:
            storage.as_strided(sizes, strides, offset).random_(0, 256)
        elif not output:
            storage.as_strided(sizes, strides, offset).copy_(torch.randn(sizes) + draw.choice((0.0, 0.5, 100.0)))
        placed = Placed(storage, used)
        self.placed.append(placed)
        if self.poisoned:
            self._poison(placed)
        return storage.as_strided(shape, strides, offset)

    @contextmanager
    def walled(self) -> Iterator[None]:
        """Within it, what lies between and around the tensors' elements is poisoned, and stays as it is."""
        scattered = self.random.random() < 0.5

        def empty_like(like: Tensor, dtype: torch.dtype | None = None, memory_format: object = None) -> Tensor:
            return self.place(tuple(like.shape), dtype or like.dtype, output=True)

        before, self.poisoned = list(self.placed), True
        for placed in before:
            self._poison(placed)
        try:
            with mock.patch.object(torch, "empty_like", empty_like if scattered else torch.empty_like):
                yield
        finally:
            self.poisoned = False
            for placed in self.placed:
                size = placed.storage.numel() * placed.storage.element_size()
                UNPOISON(ctypes.c_void_p(placed.storage.data_ptr()), ctypes.c_size_t(size))
        for placed in self.placed:
            left, mark = placed.storage[~placed.used], unused(placed.storage.dtype)
            if not (left.isnan() if math.isnan(mark) else left == mark).all():
                raise Finding("written beside a tensor's elements")

    def _poison(self, placed: Placed) -> None:
        gaps, element = placed.gaps(), placed.storage.element_size()
        if len(gaps) > MOST_RUNS:
            return
        for begin, end in gaps.tolist():
            address = placed.storage.data_ptr() + begin * element
            POISON(ctypes.c_void_p(address), ctypes.c_size_t((end - begin) * element))
