"""Photographs for training: folders read lazily, and batches that depend on (seed, step) alone."""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from fastgan.data.decode import PathLike, read_image
from fastgan.data.failures import LoaderError, failure_reason
from fastgan.data.listing import list_images
from fastgan.data.resize import BYTES_PER_PIXEL
from fastgan.data.shards import ImagePath, ShardImage
from fastgan.errors import InputError
from fastgan.utils.format import printable
from fastgan.utils.memory import check_budget

_log = logging.getLogger("fastgan")

# Purposes of random numbers: each has a stream of its own under one seed.
_ORDER, _CROP = 0, 1

#: Seconds before each further look at photographs of which most are gone: a share may be mounted again.
GONE_DELAYS: tuple[float, ...] = (0.5, 1.0, 2.0)
#: How many photographs are looked for, evenly spread over all, where one is gone.
_LOOKED_FOR = 32


class ImageFolder:
    """Photographs of a folder tree (COCO's ``train2017/*.jpg`` is one), of shards or of a list, opened when needed.

    Each is read as (H, W, 3) uint8 with its short side reduced to at most ``short_side`` pixels and enlarged to at
    least ``size``, so that a ``size`` x ``size`` crop always fits. Decoded pictures stay in memory until they fill
    ``cache_bytes``; what comes later is decoded each time (evicting old ones would not help: an epoch visits
    every picture once). Safe to use from several threads.

    A file that cannot be used, whatever the reason, is recorded in ``broken`` (path to reason) and reported to
    ``on_broken(path, reason)`` once, in the thread that read it, or to the ``fastgan`` logger where no callback is
    given.

    Raises:
        InputError: the folder is missing or has no images; later, when more than the share ``max_broken`` of the
            images, or all of them, have proved broken; a crop of ``size`` is over the memory budget.
        LoaderError: later, when most of the photographs are no longer where they were. Nothing is recorded as broken
            then and no other picture stands in, so that a run that is resumed goes on as if it had never stopped.
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike | ShardImage],
        *,
        size: int,
        short_side: int = 384,
        max_broken: float = 0.5,
        cache_bytes: int = 1 << 30,
        on_broken: Callable[[ImagePath, str], None] | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {size}")
        check_budget(size * size * BYTES_PER_PIXEL, f"a crop of {size} x {size} px")
        if isinstance(paths, str | os.PathLike):
            self.paths = list_images(paths)
        else:
            self.paths = [path if isinstance(path, ShardImage) else Path(path) for path in paths]
        if not self.paths:
            raise InputError("no images were given")
        self.size = size
        self.short_side = max(short_side, size)
        self.broken: dict[ImagePath, str] = {}
        self._max_broken = max_broken
        self._on_broken = on_broken
        self._cache_left = cache_bytes
        self._cache: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._has_read = False

    def __len__(self) -> int:
        return len(self.paths)

    def get(self, index: int) -> np.ndarray | None:
        """The picture at ``index``, (H, W, 3) uint8 and not to be written to; None if it is broken.

        Raises InputError and LoaderError as the class says.
        """
        with self._lock:
            if index in self._cache:
                return self._cache[index]
        path = self.paths[index]
        if path not in self.broken:
            try:
                image = self._read(path)
            except LoaderError:
                raise
            except Exception as error:  # one picture never ends a run, whatever its decoding raises
                self.note_broken(path, failure_reason(path, error))
        if path in self.broken:
            self.stop_if_too_many()
            return None
        image.flags.writeable = False
        with self._lock:
            if index not in self._cache and image.nbytes <= self._cache_left:
                self._cache[index] = image
                self._cache_left -= image.nbytes
        return image

    def _read(self, path: ImagePath) -> np.ndarray:
        for delay in (*GONE_DELAYS, None):
            try:
                image = read_image(path, reduce_to=self.short_side, enlarge_to=self.size)
            except Exception as error:
                # Where none has been read yet, none has gone away.
                gone = self._gone() if self._has_read and not _is_there(path) else 0
                if not gone:
                    raise
                if delay is None:
                    raise LoaderError(
                        f"the photographs are gone: {gone} of {min(_LOOKED_FOR, len(self.paths))} looked for are not "
                        f"where they were, {printable(path)} among them; put them back and resume the run"
                    ) from error
            else:
                self._has_read = True
                return image
            time.sleep(delay)
        raise AssertionError("the last try returns or raises")

    def _gone(self) -> int:
        """How many of some photographs are gone; 0 where they are no more than may be broken."""
        count = len(self.paths)
        looked_for = [self.paths[index * count // _LOOKED_FOR] for index in range(_LOOKED_FOR)]
        if count <= _LOOKED_FOR:
            looked_for = self.paths
        gone = sum(not _is_there(path) for path in looked_for)
        return gone if gone == len(looked_for) or gone > self._max_broken * len(looked_for) else 0

    def move_to_worker(self, workers: int, on_broken: Callable[[ImagePath, str], None]) -> None:
        """Prepare for use in a forked worker process: report to ``on_broken``, and cache a share of ``cache_bytes``."""
        self._on_broken = on_broken
        self._cache_left //= workers

    def note_broken(self, path: ImagePath, reason: str) -> None:
        """Record that an image is broken, and report it the first time."""
        with self._lock:
            if path in self.broken:
                return
            self.broken[path] = reason
        if self._on_broken is not None:
            self._on_broken(path, reason)
        else:
            _log.warning("skipped a broken image: %s", reason)

    def stop_if_too_many(self) -> None:
        """Raise InputError if more images are broken than ``max_broken`` allows."""
        count, total = len(self.broken), len(self.paths)
        if count == total or count > self._max_broken * total:
            raise InputError(
                f"{count} of {total} images cannot be read, at most {self._max_broken:.0%} may fail; "
                f"the last one: {next(reversed(self.broken.values()))}"
            )


class CropBatches:
    """Random square crops of an ``ImageFolder``, flipped left to right half of the time (``flip``).

    ``batch_at(step)`` depends on the folder's files, ``seed``, ``batch`` and ``step`` alone: not on which batches
    were asked for before, nor on threads. The photographs come in an endless sequence of epochs, each a permutation of
    all of them; a step takes the next ``batch`` of that row, so no photograph is left out and there may be fewer of
    them than a batch holds. In place of a broken photograph stands the next good one of its epoch's order.
    """

    def __init__(
        self, folder: ImageFolder, *, batch: int, seed: int, size: int | None = None, flip: bool = True
    ) -> None:
        self.size = folder.size if size is None else size
        if self.size > folder.size:
            raise ValueError(f"crops of {self.size} px need a folder of that size, this one has {folder.size}")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.folder = folder
        self.batch = batch
        self.seed = seed
        self.flip = flip
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every photograph has been seen, the last one shared with the next epoch if it must be."""
        return math.ceil(len(self.folder) / self.batch)

    def batch_at(self, step: int) -> torch.Tensor:
        """The batch of ``step`` (from 0): uint8 (N, size, size, 3). Raises InputError as ``ImageFolder`` does."""
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        batch = torch.empty((self.batch, self.size, self.size, 3), dtype=torch.uint8)
        crops, planes = batch.numpy(), batch.permute(0, 3, 1, 2)
        for slot in range(self.batch):
            index = step * self.batch + slot
            image = self._image_at(index)
            across, down, mirror = (int(value) for value in _random(self.seed, _CROP, index, 3))
            left = across % (image.shape[1] - self.size + 1)
            top = down % (image.shape[0] - self.size + 1)
            crops[slot] = image[top : top + self.size, left : left + self.size]
            if self.flip and mirror & 1:
                # In channels_last torch turns over whole pixels; NumPy goes byte by byte, four times slower.
                crop = planes[slot : slot + 1]
                crop.copy_(crop.flip(3))
        return batch

    def _image_at(self, index: int) -> np.ndarray:
        count = len(self.folder)
        epoch, start = divmod(index, count)
        order = self._order_of(epoch)
        for ahead in range(count):
            image = self.folder.get(int(order[(start + ahead) % count]))
            if image is not None:
                return image
        raise InputError(f"none of the {count} images can be read")

    def _order_of(self, epoch: int) -> np.ndarray:
        cached = self._order  # read once: another thread may replace it
        if cached is None or cached[0] != epoch:
            # Sorting raw bits, because NumPy keeps bit streams for ever but not what its shuffles make of them.
            cached = epoch, np.argsort(_random(self.seed, _ORDER, epoch, len(self.folder)), kind="stable")
            self._order = cached
        return cached[1]


def _is_there(path: ImagePath) -> bool:
    file = path.shard if isinstance(path, ShardImage) else path
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        with file.open("rb") as opened:  # a share that is away may still know what it had
            opened.read(1)
        return True
    except (OSError, ValueError):
        return False


def _random(seed: int, purpose: int, index: int, count: int) -> np.ndarray:
    """``count`` uint64 that depend on the first three arguments alone."""
    return np.random.Philox(np.random.SeedSequence(seed, spawn_key=(purpose, index))).random_raw(count)
