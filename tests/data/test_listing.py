"""Pictures of folders: each taken once, loops and what cannot be read passed over, and all that is passed over told."""

import errno
import logging
import os
from pathlib import Path

import pytest
from helpers.picture_files import noise, save

from fastgan.data import list_images, listing, read_image
from fastgan.errors import InputError


def told(caplog: pytest.LogCaptureFixture) -> str:
    """The one line that was told, or nothing."""
    assert len(caplog.records) <= 1
    return "".join(record.getMessage() for record in caplog.records)


@pytest.fixture(autouse=True)
def warnings_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fastgan")


def test_list_images(tmp_path: Path) -> None:
    names = ["b.JPG", "a.png", "train2017/000001.jpg", "train2017/deep/x.webp", "z.tiff"]
    for name in [*names, ".hidden.jpg", ".cache/c.jpg", "notes.txt", "noext"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "train2017" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert list_images(tmp_path) == sorted(tmp_path / name for name in names)
    assert list_images(str(tmp_path / "noext")) == [tmp_path / "noext"]


def test_linked_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there", target_is_directory=True)
    assert list_images(tmp_path / "here") == [tmp_path / "here" / "link" / "a.png"]


def test_missing_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file or folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no images.*\.jpg"):
        list_images(tmp_path)


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    # By hand, because a test that runs as root may read everything.
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match=r"cannot be read: Permission denied"):
        list_images(tmp_path)


# --- links


def test_loops_are_passed_over_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "in"
    files = [save(noise(), folder / "a.png"), save(noise(), folder / "sub" / "b.png")]
    save(noise(), tmp_path / "beside.png")
    for place, target in {"x": "y", "y": "x", "self": "self", "up": "..", "sub/top": "..", "here": "."}.items():
        (folder / place).symlink_to(target)
    assert list_images(folder) == files
    assert told(caplog) == f"{folder}: passed over: links in a loop: 6 (first {folder}/here)"


def test_links_that_lead_nowhere_and_pipes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = save(noise(), tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert list_images(tmp_path) == [file]
    assert "links that lead nowhere: 1 (first" in told(caplog)
    assert f"pipes, devices and sockets: 1 (first {tmp_path}/pipe.png)" in told(caplog)


def test_a_file_of_several_names_is_taken_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By its own name, whichever sorts first; the links to folders lead to nothing new."""
    real = save(noise(), tmp_path / "sub" / "photo.png")
    other = save(noise(), tmp_path / "sub" / "z.png")
    (tmp_path / "a-link.png").symlink_to(real)
    (tmp_path / "sub" / "z-hard.png").hardlink_to(other)
    (tmp_path / "linked").symlink_to("sub")
    assert list_images(tmp_path) == [real, tmp_path / "sub" / "z-hard.png"]
    assert "further names of files that are listed already: 2 (first" in told(caplog)
    assert f"links to folders that are listed already: 1 (first {tmp_path}/linked)" in told(caplog)


def test_repeats_are_kept_where_each_name_counts(tmp_path: Path) -> None:
    real = save(noise(), tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to(real)
    assert list_images(tmp_path, shards=False, repeats=True) == [tmp_path / "a.png", real]


def test_equal_numbers_alone_are_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layered file systems list one number for different files."""
    files = [save(noise(seed=seed), tmp_path / f"{seed}.png") for seed in range(3)]
    walk = listing._walk
    monkeypatch.setattr(listing, "_walk", lambda *args: (file._replace(inode=(0, 0)) for file in walk(*args)))
    assert list_images(tmp_path) == files


# --- what cannot be read


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int, times: int = 1000) -> list[Path]:
    """Listing ``folder`` fails that often, by hand: a test that runs as root may read everything."""
    scan, tried = listing._scan, []

    def refusing(path: Path) -> object:
        if path == folder:
            tried.append(path)
            if len(tried) <= times:
                raise OSError(number, os.strerror(number), str(path))
        return scan(path)

    monkeypatch.setattr(listing, "_scan", refusing)
    monkeypatch.setattr("fastgan.data.failures.RETRY_DELAYS", (0.0, 0.0))
    return tried


def test_folders_that_may_not_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = save(noise(), tmp_path / "a.png")
    save(noise(), tmp_path / "lost+found" / "b.png")
    refuse(monkeypatch, tmp_path / "lost+found", errno.EACCES)
    assert list_images(tmp_path) == [file]
    assert told(caplog).endswith(f"passed over: folders that may not be read: 1 (first {tmp_path}/lost+found)")


def test_a_share_that_is_away_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(noise(), tmp_path / "sub" / "a.png")
    assert len(refuse(monkeypatch, tmp_path / "sub", errno.ESTALE, times=2)) == 0
    assert list_images(tmp_path) == [file]
    tried = refuse(monkeypatch, tmp_path / "sub", errno.EIO)
    with pytest.raises(InputError, match=r"sub: the folder cannot be read: Input/output error"):
        list_images(tmp_path)
    assert len(tried) == 3


# --- kinds of files


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPE", ".pgm", ".pbm", ".pnm"])
def test_rarer_suffixes_are_listed_and_read(tmp_path: Path, suffix: str) -> None:
    kind = "JPEG" if suffix.lower().startswith(".j") else "PPM"
    file = save(noise(), tmp_path / f"a{suffix}", format=kind)
    assert list_images(tmp_path) == [file]
    assert read_image(file).shape == noise().shape


def test_files_of_other_kinds_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = save(noise(), tmp_path / "a.png")
    for name in ["1.HEIC", "2.heic", "3.txt", "noext", ".hidden.heic", "sub/4.HeIc"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [file]
    line = "files of other kinds: 5 (3 .heic, 1 without suffix, 1 .txt)"
    assert told(caplog) == f"{tmp_path}: passed over: {line}"
    file.unlink()
    with pytest.raises(InputError, match=r"holds no images \(looked for .*; passed over: files of other kinds: 5"):
        list_images(tmp_path)


def test_nothing_is_told_where_nothing_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(noise(), tmp_path / "a.png")
    assert len(list_images(tmp_path)) == 1 and told(caplog) == ""


def test_names_that_are_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [b"bad\xff.png", b"two\nlines.png", b"\xe9/caf\xe9.png"]
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        path.parent.mkdir(exist_ok=True)
        save(noise(), tmp_path / "x.png").rename(path)
    (tmp_path / os.fsdecode(b"\xff\n.png")).symlink_to("nowhere")
    found = list_images(tmp_path)
    assert sorted(os.fsencode(path.relative_to(tmp_path)) for path in found) == sorted(names)
    assert all(read_image(path).shape == noise().shape for path in found)
    assert told(caplog).isprintable() and "\\udcff\\n.png" in told(caplog)


def test_names_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match="null"):
        list_images("a\0b")
