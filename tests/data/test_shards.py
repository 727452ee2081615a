"""Shards: the same batches as from the files they were packed from; what is damaged, cut or compressed is refused."""

import contextlib
import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.machine import require
from helpers.picture_files import coordinates, noise, readable, save
from helpers.tiny_runs import StopAt, differences
from PIL import Image

from fastgan.config import Config
from fastgan.data import (
    CropBatches,
    ImageFolder,
    ShardImage,
    is_readable,
    list_images,
    read_image,
    read_picture,
    split_train_val,
)
from fastgan.errors import InputError
from fastgan.training import Trainer

SIZE = 16


def png(seed: int) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(noise(seed=seed)).save(encoded, format="PNG")
    return encoded.getvalue()


def pack(shard: Path, members: dict[str, bytes], **options: Any) -> Path:
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w", **options) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine pictures in three folders, a sidecar beside each."""
    for number in range(9):
        file = tmp_path / "files" / f"{number // 3}" / f"{number:06}.png"
        save(coordinates(20 + number, 40 - 2 * number, number), file)
        file.with_suffix(".cls").write_text(str(number))
    return tmp_path / "files"


@pytest.fixture
def shards(folder: Path) -> Path:
    """The same, packed by tar itself, each folder a shard, the last picture first."""
    require("tar")
    target = folder.parent / "shards"
    target.mkdir()
    for number in range(3):
        files = sorted(os.listdir(folder / str(number)), reverse=True)
        pack_one = ["tar", "-C", str(folder / str(number)), "-cf", str(target / f"{number}.tar"), *files]
        subprocess.run(pack_one, check=True)
    return target


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_images(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- finding and reading


def test_images_are_those_of_the_folder(folder: Path, shards: Path) -> None:
    files, images = list_images(folder), list_images(shards)
    assert [str(image) for image in images] == [
        f"{shards}/{number // 3}.tar/{number:06}.png" for number in range(9)
    ]  # no sidecars, sorted though packed backwards
    for file, image in zip(files, images, strict=True):
        assert isinstance(image, ShardImage) and image.name == file.name
        assert np.array_equal(read_image(image), read_image(file))
        assert np.array_equal(read_image(image, reduce_to=12), read_image(file, reduce_to=12))
        assert np.array_equal(read_picture(image).pixels, read_picture(file).pixels) and is_readable(image)


@pytest.mark.parametrize("batch", [2, 4])
def test_batches_are_those_of_the_folder(folder: Path, shards: Path, batch: int) -> None:
    ones = CropBatches(ImageFolder(folder, size=SIZE), batch=batch, seed=3)
    others = CropBatches(ImageFolder(shards, size=SIZE, cache_bytes=0), batch=batch, seed=3)
    for step in (7, 0, 3, 11):
        assert torch.equal(ones.batch_at(step), others.batch_at(step))
    split, packed = (split_train_val(list_images(path), seed=1, usable=is_readable) for path in (folder, shards))
    assert [file.name for file in split.val] == [image.name for image in packed.val] and not packed.shared
    again = ImageFolder(packed.train, size=SIZE)
    assert again.paths == packed.train and len(readable(again)) == len(split.train)


def test_one_shard_and_a_folder_of_both(folder: Path, shards: Path) -> None:
    assert [image.name for image in list_images(shards / "1.tar")] == ["000003.png", "000004.png", "000005.png"]
    shutil.copy(shards / "1.tar", folder / "1.TAR")
    shutil.copy(shards / "2.tar", folder / ".hidden.tar")
    places = [str(image).removeprefix(f"{folder}/") for image in list_images(folder)]
    assert places == [
        *(f"0/00000{number}.png" for number in range(3)),
        *(f"1/00000{number}.png" for number in range(3, 6)),
        *(f"1.TAR/00000{number}.png" for number in range(3, 6)),
        *(f"2/00000{number}.png" for number in range(6, 9)),
    ]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_that_count(tmp_path: Path, layout: int) -> None:
    long = "d/" * 60 + "é" * 40 + ".png" if layout != tarfile.USTAR_FORMAT else "d/e.png"
    shard = pack(
        tmp_path / "a.tar",
        {
            "./b.PNG": png(0),
            long: png(1),
            "0.json": b"{}",
            "._c.png": b"resource fork",
            ".cache/d.png": png(2),
            "same.png": b"older",
            "/same.png": png(3),
            "../up.png": png(4),
        },
        format=layout,
    )
    with tarfile.open(shard, "a", format=layout) as tar:
        for name, kind in {"l.png": tarfile.SYMTYPE, "h.png": tarfile.LNKTYPE, "dir.png": tarfile.DIRTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "b.PNG"
            tar.addfile(info)
    images = {str(image).removeprefix(f"{shard}/"): read_image(image) for image in list_images(shard)}
    assert list(images) == sorted(["../up.png", "b.PNG", long, "same.png"], key=lambda name: name.split("/"))
    for name, seed in {"b.PNG": 0, long: 1, "same.png": 3, "../up.png": 4}.items():
        assert np.array_equal(images[name], noise(seed=seed)), name


def add_links(shard: Path, links: dict[str, tuple[bytes, str]]) -> Path:
    with tarfile.open(shard, "a") as tar:
        for name, (kind, target) in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return shard


def test_links_within_a_shard_are_followed(tmp_path: Path) -> None:
    """To what has no name of a picture itself: a store of contents, and names that link into it."""
    shard = pack(tmp_path / "a.tar", {"store/0": png(0), "store/1": png(1), "store/2": png(2)})
    links = {
        "class/soft.png": (tarfile.SYMTYPE, "../store/0"),
        "hard.png": (tarfile.LNKTYPE, "./store/1"),
        "chain.png": (tarfile.SYMTYPE, "middle"),
        "middle": (tarfile.SYMTYPE, "store/2"),
    }
    images = {image.member: read_image(image) for image in list_images(add_links(shard, links))}
    assert list(images) == ["chain.png", "class/soft.png", "hard.png"]
    for name, seed in {"chain.png": 2, "class/soft.png": 0, "hard.png": 1}.items():
        assert np.array_equal(images[name], noise(seed=seed)), name


def test_what_is_left_out_of_a_shard_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard = pack(tmp_path / "a.tar", {"a.png": png(0), "b.png": png(1), "./a.png": png(2)})
    links = {
        "again.png": (tarfile.SYMTYPE, "a.png"),
        "twice.png": (tarfile.LNKTYPE, "b.png"),
        "out.png": (tarfile.SYMTYPE, "/etc/hostname"),
        "up.png": (tarfile.SYMTYPE, "../../b.png"),
        "gone.png": (tarfile.LNKTYPE, "nothing.png"),
        "x.png": (tarfile.SYMTYPE, "y.png"),
        "y.png": (tarfile.SYMTYPE, "x.png"),
        "pipe.png": (tarfile.FIFOTYPE, ""),
        "folder.png": (tarfile.DIRTYPE, ""),
        "notes.txt": (tarfile.SYMTYPE, "nowhere"),
    }
    images = list_images(add_links(shard, links))
    assert [image.name for image in images] == ["a.png", "b.png"]
    assert np.array_equal(read_image(images[0]), noise(seed=2))  # the later one of that name
    assert [record.getMessage() for record in caplog.records] == [
        f"{shard}: passed over: members replaced by a later one of the same name: 1 (first {shard}/a.png); "
        f"pipes, devices and sockets: 1 (first {shard}/pipe.png); "
        f"further names of files that are listed already: 2 (first {shard}/again.png); "
        f"links that lead nowhere in their shard: 3 (first {shard}/out.png); "
        f"links in a loop: 2 (first {shard}/x.png)"
    ]


def test_sparse_members_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As GNU tar -S writes them: its oldest header lists where data is, 512 bytes at 512 KiB, and the real size."""
    header = bytearray(tarfile.TarInfo("holes.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"%011o\0" % 512
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0" % (1 << 19) + b"%011o\0" % 512
    header[483:495] = b"%011o\0" % (1 << 20)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        assert tar.fileobj is not None
        tar.fileobj.write(bytes(header) + b"x" * 512)
        tar.offset += 1024
        info = tarfile.TarInfo("a.png")
        info.size = len(png(0))
        tar.addfile(info, io.BytesIO(png(0)))
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert [member.size for member in tar.getmembers() if member.issparse()] == [1 << 20]
    assert [image.name for image in list_images(tmp_path / "a.tar")] == ["a.png"]
    assert f"sparse members: 1 (first {tmp_path}/a.tar/holes.png)" in caplog.text


def still_open(folder: Path) -> list[str]:
    """Files below that this process has open, where the system tells."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # gone since
            found.append(os.readlink(link))
    return [file for file in found if file.startswith(str(folder))]


def test_reads_from_many_threads(shards: Path) -> None:
    images = list_images(shards) * 12
    expected = [read_image(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for image, pixels in zip(pool.map(read_image, images), expected, strict=True):
            assert np.array_equal(image, pixels)
    assert still_open(shards) == []


# --- what is refused


@pytest.mark.parametrize("cut", [512, 1000, 1536])
def test_cut_shards_are_refused(tmp_path: Path, cut: int) -> None:
    """In the first header's data, within a member, and where the last member ends: all end marks gone."""
    shard = pack(tmp_path / "s" / "a.tar", {"a.png": b"x" * 100, "b.png": b"y" * 100}, format=tarfile.USTAR_FORMAT)
    whole = shard.read_bytes()
    assert whole[1536:1636] == b"y" * 100  # header, a, header, b, end marks
    shard.write_bytes(whole[: cut if cut < 1536 else 2048])
    assert "a.tar: " in refusal(shard) and "damaged or cut short" in refusal(shard.parent)


def test_a_shard_needs_one_end_mark(tmp_path: Path) -> None:
    shard = pack(tmp_path / "a.tar", {"a.png": b"x" * 100}, format=tarfile.USTAR_FORMAT)
    whole = shard.read_bytes()
    shard.write_bytes(whole[: 1024 + 512])
    assert len(list_images(shard)) == 1
    shard.write_bytes(whole[: 1024 + 511])
    assert "cut short" in refusal(shard)


@pytest.mark.parametrize("place", range(0, 512, 37))
def test_damaged_headers_are_refused(tmp_path: Path, place: int) -> None:
    shard = pack(tmp_path / "a.tar", {f"{n}.png": b"x" * 100 for n in range(3)}, format=tarfile.USTAR_FORMAT)
    for header in (0, 1024, 2048):
        content = bytearray(shard.read_bytes())
        content[header + place] ^= 0x41
        (tmp_path / "b.tar").write_bytes(content)
        assert "b.tar: " in refusal(tmp_path / "b.tar") and "damaged or cut short" in refusal(tmp_path / "b.tar")


def test_a_header_of_zeros_is_not_the_end(tmp_path: Path) -> None:
    shard = pack(tmp_path / "a.tar", {f"{n}.png": b"x" * 100 for n in range(3)}, format=tarfile.USTAR_FORMAT)
    content = bytearray(shard.read_bytes())
    content[1024:1536] = bytes(512)
    shard.write_bytes(content)
    assert "behind its end mark" in refusal(shard)
    pack(shard, {"a.png": png(0)})
    shard.write_bytes(2 * shard.read_bytes())
    assert "several in one file" in refusal(shard)


@pytest.mark.parametrize("size", [-512, -1, -1024, 1 << 62, 1 << 80, 10**9])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME])
def test_impossible_sizes_are_refused(tmp_path: Path, size: int, kind: bytes) -> None:
    """A size below 0 leads back to a header that was read, in some Pythons for ever."""
    header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = kind
    header[124:136] = (size % (1 << 88) | (0xFF if size < 0 else 0x80) << 88).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(4096))
    assert "a.tar: " in refusal(tmp_path / "a.tar")


def test_no_tar_at_all(tmp_path: Path) -> None:
    for content in (b"", b"x", noise(200, 200).tobytes()):
        (tmp_path / "a.tar").write_bytes(content)
        assert "a.tar: not a tar archive, or damaged" in refusal(tmp_path)


def test_compressed_shards_are_refused(tmp_path: Path, shards: Path) -> None:
    packed = gzip.compress((shards / "0.tar").read_bytes())
    for name in ("a.tar.gz", "b.tgz", "c.tar.zst"):
        (tmp_path / name).write_bytes(packed)
        assert f"{name}: the shard is compressed; shards must be uncompressed" in refusal(tmp_path / name)
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "all" / name)
        assert f"{name}: the shard is compressed" in refusal(tmp_path / "all")
        (tmp_path / "all" / name).unlink()
    for mode in ("w:gz", "w:bz2", "w:xz"):
        with tarfile.open(tmp_path / "d.tar", mode) as tar:
            tar.add(shards / "0.tar", "a.png")
        assert "d.tar: the shard is compressed" in refusal(tmp_path / "d.tar")
    (shards / "9.tar.gz").write_bytes(packed)  # else a part of the set would be missing unnoticed
    (shards / "loose.png").write_bytes(png(0))
    assert "9.tar.gz: the shard is compressed" in refusal(shards)


def test_other_files_beside_photographs_do_not_matter(folder: Path) -> None:
    expected = list_images(folder)
    (folder / "backup.tar.gz").write_bytes(b"")
    (folder / "0.tar.idx").write_bytes(b"")
    pack(folder / "labels.tar", {"a.txt": b"a"})
    assert list_images(folder) == expected


def test_shards_without_images(tmp_path: Path) -> None:
    shard = pack(tmp_path / "a.tar", {"a.txt": b"a"})
    assert "a.tar: the shard holds no images" in refusal(shard)
    assert "the folder holds no images" in refusal(tmp_path)
    pack(shard, {})
    assert "a.tar: the shard holds no images" in refusal(shard)


def test_where_shards_are_not_wanted(folder: Path, shards: Path) -> None:
    with pytest.raises(InputError, match=r"0\.tar: shards are for training"):
        list_images(shards / "0.tar", shards=False)
    expected = list_images(folder)
    (folder / "a.tar").write_bytes(b"not looked at")
    assert list_images(folder, shards=False) == expected
    with pytest.raises(InputError, match="the folder holds no images"):
        list_images(shards, shards=False)


# --- broken images and shards that change


def test_broken_images_are_recorded_and_skipped(tmp_path: Path) -> None:
    shard = pack(tmp_path / "a.tar", {"0.png": png(0), "1.png": png(1)[:500], "2.jpg": b"", "3.png": png(3)})
    told: list[tuple[str, str]] = []
    images = ImageFolder(tmp_path, size=SIZE, on_broken=lambda path, reason: told.append((str(path), reason)))
    source = CropBatches(images, batch=4, seed=0)
    for step in range(3):
        source.batch_at(step)
    assert sorted(path for path, _ in told) == [f"{shard}/1.png", f"{shard}/2.jpg"]
    assert {str(path): reason for path, reason in images.broken.items()} == dict(told)
    reasons = dict(told)
    assert reasons[f"{shard}/1.png"].startswith(f"{shard}/1.png: the image is damaged or cut short")
    assert reasons[f"{shard}/2.jpg"].startswith(f"{shard}/2.jpg: not an image") and "empty" in reasons[f"{shard}/2.jpg"]


def test_a_shard_cut_or_gone_after_indexing(shards: Path) -> None:
    first, *_, last = list_images(shards / "0.tar")  # packed backwards: the last name lies first
    assert isinstance(first, ShardImage) and isinstance(last, ShardImage)
    os.truncate(shards / "0.tar", first.offset + first.size - 1)
    assert is_readable(last) and not is_readable(first)
    with pytest.raises(InputError, match=r"0\.tar/000000\.png: the image is damaged or cut short \(its shard ends"):
        read_image(first)
    (shards / "0.tar").unlink()
    with pytest.raises(InputError, match=r"0\.tar/000002\.png: its shard is gone"):
        read_image(last)


def test_odd_names_stay_on_one_line(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {"two\nlines.png": b"no picture"})
    (image,) = list_images(tmp_path)
    with pytest.raises(InputError) as caught:
        read_image(image)
    assert "\n" not in str(caught.value) and "two\\nlines.png" in str(caught.value)


# --- training


def test_a_run_from_shards_is_the_run_from_the_folder(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastgan.evaluation.report._write_plots", lambda *_: [])
    members = {f"{number}.png": png(number) for number in range(9)} | {"5.png": b"no picture"}
    pack(tmp_path / "shards" / "0.tar", members)
    (tmp_path / "files").mkdir()
    for name, content in members.items():
        (tmp_path / "files" / name).write_bytes(content)
    contents, states = {}, {}
    for kind in ("files", "shards"):
        trainer = Trainer(tiny({"data.content": str(tmp_path / kind)}), out=tmp_path / f"run-{kind}")
        contents[kind] = trainer.fit()["content"]
        states[kind] = trainer.state.snapshot()
    # What it was made from has other names.
    assert differences(*({**state, "inputs": None} for state in states.values())) == []
    assert contents["shards"]["val_images"] == contents["files"]["val_images"] != []
    assert list(contents["shards"]["broken"]) == [f"{tmp_path}/shards/0.tar/5.png"]

    config = tiny({"data.content": str(tmp_path / "shards")})
    Trainer(config, out=tmp_path / "halves", callbacks=[StopAt(2)]).fit()
    resumed = Trainer(config, out=tmp_path / "halves", resume=True)
    assert resumed.state.global_step == 2
    resumed.fit()
    assert differences(resumed.state.snapshot(), states["shards"]) == []
