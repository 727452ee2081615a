"""Images in tar archives (WebDataset's layout), with random access: headers are indexed once.

Nothing is extracted or streamed: an image is addressed by its byte range, so that a batch stays a function of
(seed, step) alone.
"""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastgan.data.failures import Omissions

SHARD_SUFFIX = ".tar"

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z|br)|tgz|tbz2?|txz|tzst)", re.IGNORECASE)
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_CHUNK = 1 << 20
_NOWHERE = "links that lead nowhere in their shard"


@dataclass(frozen=True, slots=True)
class ShardImage:
    """A picture in an uncompressed tar archive: ``size`` bytes from ``offset``. Stands wherever a picture's path does.

    ``str`` gives ``SHARD/MEMBER``, as if the shard were a folder.
    """

    shard: Path
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.member}"

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]

    @property
    def parts(self) -> tuple[str, ...]:
        """The sort key of pictures, in shards and beside them, like ``Path.parts``."""
        return (*self.shard.parts, *self.member.split("/"))

    def read(self) -> bytes:
        """The member's bytes. Safe to call from several threads.

        The shard is opened for each read, as a file of its own would be: a set may have more shards than a process
        may have open files.

        Raises:
            OSError: the shard cannot be read.
            EOFError: it ends before the member does.
        """
        content = bytearray()
        with open(self.shard, "rb", buffering=0) as file:
            while len(content) < self.size:  # a single read ends at 2 GiB
                part = os.pread(file.fileno(), self.size - len(content), self.offset + len(content))
                if not part:
                    raise EOFError("its shard ends before it does")
                content += part
        return bytes(content)


#: Location of an image: a file or a member of a shard.
ImagePath = Path | ShardImage


def is_compressed_tar(path: Path) -> bool:
    """Whether the name is that of a compressed tar archive."""
    return any(_COMPRESSED.fullmatch(end) for end in (path.suffix, "".join(path.suffixes[-2:])))


def index_shard(path: Path, suffixes: Set[str], omitted: Omissions | None = None) -> list[ShardImage]:
    """The pictures of a tar archive: members whose lower-case suffix is among ``suffixes``, in its order.

    As in folders, hidden members are left out, links within the archive stand for what they lead to, and a picture
    with several names is taken once. As in extraction, the last of one name counts. What has the name of a picture
    and is left out is counted in ``omitted``: further names of one picture, links that lead nowhere in the archive,
    sparse members, and what is no file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is compressed, not a tar archive, damaged or cut short; the message says which.
    """
    members = _Members()
    with open(path, "rb") as file:
        prefix = file.read(8)
        for magic, kind in _MAGIC.items():
            if prefix.startswith(magic):
                raise ValueError(f"the shard is compressed ({kind}); shards must be uncompressed tar archives")
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        position = 0
        try:
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
                while (member := tar.next()) is not None:
                    # A negative size would lead back to where the walk has been, for ever in some Pythons.
                    if member.size < 0 or not position < tar.offset <= end:
                        raise ValueError("a member reaches beyond the archive")
                    position = tar.offset
                    members.add(member)
                position = tar.offset
        except OSError:
            raise
        except Exception as error:
            # Damaged headers make tarfile raise nearly anything: ReadError, ValueError, OverflowError, ...
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"not a tar archive, or damaged or cut short ({reason})") from None
        # tarfile takes a broken header, or the end of the file, for the end of the archive.
        file.seek(position)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise ValueError(f"the tar archive is damaged or cut short (no header and no end mark at byte {position})")
        while rest := file.read(_CHUNK):
            if rest.count(0) != len(rest):
                raise ValueError("the tar archive is damaged, or several in one file (data behind its end mark)")
    return members.pictures(path, suffixes, Omissions() if omitted is None else omitted)


class _Members:
    """The members of an archive by name, as they would lie there once it is extracted."""

    def __init__(self) -> None:
        #: Offset and size of a file, the name that a symbolic link leads to, or the plural of what is neither.
        self._found: dict[str, tuple[int, int] | PurePosixPath | str] = {}
        self._linked: set[str] = set()
        self._older: list[str] = []

    def add(self, member: tarfile.TarInfo) -> None:
        name = _normalized(member.name)
        if not name or member.isdir():
            return
        if name in self._found:
            self._older.append(name)
        self._linked.discard(name)
        if member.islnk():  # to a member before it
            self._found[name] = self._found.get(_normalized(member.linkname), _NOWHERE)
            self._linked.add(name)
        elif member.issym():
            # An absolute one leads out of the archive.
            self._found[name] = PurePosixPath(posixpath.dirname(name), member.linkname)
            self._linked.add(name)
        elif member.issparse():
            self._found[name] = "sparse members"
        elif member.isreg():
            self._found[name] = member.offset_data, member.size
        else:
            self._found[name] = "pipes, devices and sockets"

    def pictures(self, shard: Path, suffixes: Set[str], omitted: Omissions) -> list[ShardImage]:
        def is_picture(name: str) -> bool:
            hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
            return not hidden and PurePosixPath(name).suffix.lower() in suffixes

        for name in filter(is_picture, self._older):
            omitted.add("members replaced by a later one of the same name", f"{shard}/{name}")
        images: list[ShardImage] = []
        taken: set[tuple[int, int]] = set()
        for name in sorted(filter(is_picture, self._found), key=self._linked.__contains__):
            place = self._follow(name)
            if isinstance(place, str):
                omitted.add(place, f"{shard}/{name}")
            elif place in taken:
                omitted.add("further names of files that are listed already", f"{shard}/{name}")
            else:
                taken.add(place)
                images.append(ShardImage(shard, name, *place))
        return images

    def _follow(self, name: str) -> tuple[int, int] | str:
        """Offset and size of the file that ``name`` leads to, or the plural of what it is instead."""
        seen = set()
        place = self._found[name]
        while isinstance(place, PurePosixPath):
            target = posixpath.normpath(place)
            if target in seen:
                return "links in a loop"
            seen.add(target)
            place = self._found.get(target, _NOWHERE)
        return place


def _normalized(name: str) -> str:
    """The name as if extracted below the current folder, without ``.`` and empty parts; empty where nothing is left."""
    return "/".join(part for part in PurePosixPath(name).parts if part != "/")
