"""Pictures in folders and shards: what a path stands for, each taken once, and what is passed over there."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, overload

from fastgan.data.decode import PathLike
from fastgan.data.failures import Omissions, retry_transient
from fastgan.data.formats import IMAGE_SUFFIXES
from fastgan.data.shards import SHARD_SUFFIX, ImagePath, index_shard, is_compressed_tar
from fastgan.errors import InputError, first_line
from fastgan.utils.format import printable

_log = logging.getLogger("fastgan")


@overload
def list_images(path: PathLike, *, shards: Literal[True] = True, repeats: bool = False) -> list[ImagePath]: ...


@overload
def list_images(path: PathLike, *, shards: Literal[False], repeats: bool = False) -> list[Path]: ...


def list_images(path: PathLike, *, shards: bool = True, repeats: bool = False) -> list[ImagePath] | list[Path]:
    """The images that ``path`` stands for: itself if it is a file, else all in the folder tree, sorted.

    In a folder, files count by their suffix (``IMAGE_SUFFIXES``, any case); hidden files and folders are skipped,
    linked folders are followed once. A shard (``.tar``, uncompressed) stands for the images in it, there as well as
    by itself, and is sorted as a folder of them would be. With ``shards=False`` those in a folder are passed over.
    A file that has several names there, by links of either kind, is taken once, unless ``repeats`` is True.

    One warning of the ``fastgan`` logger counts what is passed over: files of other kinds, links that lead nowhere or
    in a loop, folders that may not be read, second names of a file.

    Raises:
        InputError: nothing lies there, a folder cannot be read, or it holds no image; a shard is compressed, damaged
            or cut short, or is given where ``shards`` is False.
    """
    root = Path(path)
    try:
        mode = retry_transient(root.stat).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{printable(root)}: {_reason(error, 'no such file or folder')}") from None
    omitted = Omissions()
    images: list[ImagePath]
    if stat.S_ISDIR(mode):
        kind, images = "folder", _in_folder(root, omitted, shards=shards, repeats=repeats)
    elif stat.S_ISREG(mode) and (root.suffix.lower() == SHARD_SUFFIX or is_compressed_tar(root)):
        if not shards:
            raise InputError(f"{printable(root)}: shards are for training; give pictures or a folder of them")
        kind, images = "shard", _in_shards([root], omitted, alone=True)
    else:
        return [root]
    if not images:
        looked_for = f"looked for {' '.join(sorted(IMAGE_SUFFIXES))}"
        passed_over = f"; passed over: {omitted}" if omitted else ""
        raise InputError(f"{printable(root)}: the {kind} holds no images ({looked_for}{passed_over})")
    if omitted:
        _log.warning("%s: passed over: %s", printable(root), omitted)
    return sorted(images, key=lambda file: file.parts)


def same_file(one: Path, other: Path) -> bool:
    """Whether both names lead to one file: by another spelling or a link. False where either cannot be looked at."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


class _File(NamedTuple):
    """A file of a folder tree: its path, the one without links, its device and number, and whether it is a link."""

    path: Path
    real: str
    inode: tuple[int, int]
    is_link: bool


def _in_folder(root: Path, omitted: Omissions, *, shards: bool, repeats: bool) -> list[ImagePath]:
    images: list[_File] = []
    archives: list[_File] = []
    others: list[_File] = []
    for file in _walk(root, omitted):
        suffix = file.path.suffix.lower()
        group = images if suffix in IMAGE_SUFFIXES else archives if shards and suffix == SHARD_SUFFIX else others
        group.append(file)
    for file in others:
        omitted.add_file(file.path)
    paths: list[ImagePath] = [file.path for file in (images if repeats else _once(images, omitted))]
    if shards:
        compressed = [file.path for file in others if is_compressed_tar(file.path)]
        paths += _in_shards([*(file.path for file in _once(archives, omitted)), *compressed], omitted, alone=not paths)
    return paths


def _walk(root: Path, omitted: Omissions) -> Iterator[_File]:
    """Every visible file below ``root``; each folder once, and by its own name rather than by that of a link to it."""
    folders, links = deque([root]), deque[Path]()
    seen = set()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            status, entries = retry_transient(partial(_scan, folder))
        except OSError as error:
            if folder == root or not isinstance(error, PermissionError):
                reason = _reason(error, "it is gone")
                raise InputError(f"{printable(folder)}: the folder cannot be read: {reason}") from None
            omitted.add("folders that may not be read", folder)
            continue
        if (status.st_dev, status.st_ino) in seen:
            omitted.add("links to folders that are listed already", folder)
            continue
        seen.add((status.st_dev, status.st_ino))
        real = os.path.realpath(folder)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path, is_link = Path(entry.path), entry.is_symlink()
            try:
                if entry.is_dir():
                    if not is_link:
                        folders.append(path)
                    elif _contains(os.path.realpath(path), real):
                        omitted.add("links in a loop", path)
                    else:
                        links.append(path)
                elif entry.is_file():
                    # Of a file that is no link the folder's listing says it all, without a look at the file itself.
                    number = entry.stat() if is_link else None
                    inode = (number.st_dev, number.st_ino) if number else (status.st_dev, entry.inode())
                    yield _File(path, os.path.realpath(path) if is_link else f"{real}/{entry.name}", inode, is_link)
                elif is_link:
                    omitted.add("links that lead nowhere", path)
                else:
                    omitted.add("pipes, devices and sockets", path)
            except OSError as error:  # of a link: is_dir and is_file look at what it leads to
                loop = error.errno == errno.ELOOP
                omitted.add("links in a loop" if loop else "links that cannot be followed", path)


def _scan(folder: Path) -> tuple[os.stat_result, list[os.DirEntry[str]]]:
    status = folder.stat()
    with os.scandir(folder) as entries:
        return status, sorted(entries, key=lambda entry: entry.name)


def _contains(folder: str, inside: str) -> bool:
    return Path(inside).is_relative_to(folder)


def _once(files: Iterable[_File], omitted: Omissions) -> list[_File]:
    """The files without those that are a further name of one of them; what is no link itself goes first."""
    by_path: set[str] = set()
    by_number: dict[tuple[int, int], Path] = {}
    unique = []
    for file in sorted(files, key=lambda file: (file.is_link, file.path.parts)):
        # Layered file systems may list the same number for different files, so it is a hint alone.
        same_number = by_number.get(file.inode)
        if file.real in by_path or (same_number is not None and same_file(same_number, file.path)):
            omitted.add("further names of files that are listed already", file.path)
            continue
        by_path.add(file.real)
        by_number[file.inode] = file.path
        unique.append(file)
    return unique


def _in_shards(files: list[Path], omitted: Omissions, *, alone: bool) -> list[ImagePath]:
    """The images of the shards among ``files``. Compressed ones are refused beside these, or where ``alone``."""
    images: list[ImagePath] = []
    for shard in files:
        if shard.suffix.lower() != SHARD_SUFFIX:
            continue
        try:
            images += retry_transient(partial(index_shard, shard, IMAGE_SUFFIXES, omitted))
        except OSError as error:
            reason = _reason(error, "it is gone")
            raise InputError(f"{printable(shard)}: the shard cannot be read: {reason}") from None
        except ValueError as error:
            raise InputError(f"{printable(shard)}: {error}") from None
    compressed = next(filter(is_compressed_tar, files), None)
    if compressed is not None and (images or alone):
        raise InputError(f"{printable(compressed)}: the shard is compressed; shards must be uncompressed tar archives")
    return images


def _reason(error: Exception, missing: str) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return missing
    return getattr(error, "strerror", None) or first_line(error)
