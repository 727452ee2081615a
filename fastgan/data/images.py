"""Listing of image files: in folders and in shards."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, overload

from fastgan.data.decode import PathLike
from fastgan.data.decode import display_name as _name
from fastgan.data.formats import IMAGE_SUFFIXES
from fastgan.data.picture import one_line as _one_line
from fastgan.data.shards import SHARD_SUFFIX, ImagePath, index_shard, is_compressed_tar
from fastgan.errors import InputError


@overload
def list_images(path: PathLike, *, shards: Literal[True] = True) -> list[ImagePath]: ...


@overload
def list_images(path: PathLike, *, shards: Literal[False]) -> list[Path]: ...


def list_images(path: PathLike, *, shards: bool = True) -> list[ImagePath] | list[Path]:
    """The images that ``path`` stands for: itself if it is a file, else all in the folder tree, sorted.

    In a folder, files count by their suffix (``IMAGE_SUFFIXES``, any case); hidden files and folders are skipped,
    linked folders are followed once. A shard (``.tar``, uncompressed) stands for the images in it, there as well as
    by itself, and is sorted as a folder of them would be. With ``shards=False`` those in a folder are passed over.

    Raises:
        InputError: nothing lies there, a folder cannot be read, or it holds no image; a shard is compressed, damaged
            or cut short, or is given where ``shards`` is False.
    """
    root = Path(path)
    try:
        mode = root.stat().st_mode
    except OSError as error:
        raise InputError(f"{_name(root)}: {_reason(error, 'no such file or folder')}") from None
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    if stat.S_ISDIR(mode):
        files = list(_walk(root, set()))
        images: list[ImagePath] = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if shards:
            images += _in_shards(files, alone=not images)
        if not images:
            raise InputError(f"{_name(root)}: the folder holds no images (looked for {suffixes})")
        return sorted(images, key=lambda file: file.parts)
    is_shard = stat.S_ISREG(mode) and (root.suffix.lower() == SHARD_SUFFIX or is_compressed_tar(root))
    if not is_shard:
        return [root]
    if not shards:
        raise InputError(f"{_name(root)}: shards are for training; give pictures or a folder of them")
    images = _in_shards([root], alone=True)
    if not images:
        raise InputError(f"{_name(root)}: the shard holds no images (looked for {suffixes})")
    return sorted(images, key=lambda file: file.parts)


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{_name(folder)}: the folder cannot be read: {_reason(error, 'it is gone')}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), seen)
        elif entry.is_file():
            yield Path(entry.path)


def _in_shards(files: list[Path], *, alone: bool) -> list[ImagePath]:
    """The images of the shards among ``files``. Compressed ones are refused beside these, or where ``alone``."""
    images: list[ImagePath] = []
    for shard in files:
        if shard.suffix.lower() != SHARD_SUFFIX:
            continue
        try:
            images += index_shard(shard, IMAGE_SUFFIXES)
        except OSError as error:
            raise InputError(f"{_name(shard)}: the shard cannot be read: {_reason(error, 'it is gone')}") from None
        except ValueError as error:
            raise InputError(f"{_name(shard)}: {error}") from None
    compressed = next(filter(is_compressed_tar, files), None)
    if compressed is not None and (images or alone):
        raise InputError(f"{_name(compressed)}: the shard is compressed; shards must be uncompressed tar archives")
    return images


def _reason(error: OSError, missing: str) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return missing
    return error.strerror or _one_line(error)
