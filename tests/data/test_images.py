"""Listing: which files of a folder are pictures."""

import os
from pathlib import Path

import pytest

from fastgan.data import list_images
from fastgan.errors import InputError


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
