"""Images in tar archives (WebDataset's layout), with random access: headers are indexed once.

Nothing is extracted or streamed: an image is addressed by its byte range, so that a batch stays a function of
(seed, step) alone.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SHARD_SUFFIX = ".tar"

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z|br)|tgz|tbz2?|txz|tzst)", re.IGNORECASE)
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_CHUNK = 1 << 20


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


def index_shard(path: Path, suffixes: Set[str]) -> list[ShardImage]:
    """The pictures of a tar archive: regular members whose lower-case suffix is among ``suffixes``, in its order.

    As in folders, hidden members are left out; as in extraction, the last of one name counts. Links and sparse
    members are left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is compressed, not a tar archive, damaged or cut short; the message says which.
    """
    images: dict[str, ShardImage] = {}
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
                    name = _picture_name(member, suffixes)
                    if name:
                        images[name] = ShardImage(path, name, member.offset_data, member.size)
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
    return list(images.values())


def _picture_name(member: tarfile.TarInfo, suffixes: Set[str]) -> str | None:
    parts = [part for part in PurePosixPath(member.name).parts if part != "/"]
    if not parts or not member.isreg() or member.issparse():
        return None
    if PurePosixPath(parts[-1]).suffix.lower() not in suffixes:
        return None
    if any(part.startswith(".") and part != ".." for part in parts):
        return None
    return "/".join(parts)
