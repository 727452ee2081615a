"""Failures of single pictures: a read that may pass is tried again, and whatever is raised names the picture."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.picture_files import noise, save

from fastgan.data import Picture, decode, failures, is_readable, read_image, read_picture
from fastgan.data.failures import Omissions, failure_reason, is_transient, retry_transient
from fastgan.errors import InputError


def failing(times: int, number: int) -> tuple[Callable[[], str], list[int]]:
    tried: list[int] = []

    def read() -> str:
        tried.append(1)
        if len(tried) <= times:
            raise OSError(number, os.strerror(number))
        return "content"

    return read, tried


def test_a_transient_error_is_tried_again_a_bounded_number_of_times() -> None:
    slept: list[float] = []
    read, tried = failing(2, errno.EIO)
    assert retry_transient(read, delays=(1.0, 5.0), sleep=slept.append) == "content"
    assert len(tried) == 3 and slept == [1.0, 5.0]
    read, tried = failing(9, errno.ESTALE)
    with pytest.raises(OSError, match=r"[Ss]tale"):
        retry_transient(read, delays=(1.0, 5.0), sleep=slept.append)
    assert len(tried) == 3


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOSPC])
def test_other_errors_are_not_tried_again(number: int) -> None:
    read, tried = failing(1, number)
    with pytest.raises(OSError):
        retry_transient(read, delays=(1.0,), sleep=lambda _: pytest.fail("waited"))
    assert len(tried) == 1


def test_what_an_error_was_made_of_counts() -> None:
    try:
        try:
            raise OSError(errno.EIO, "away")
        except OSError:
            raise InputError("a.png: away") from None
    except InputError as error:
        assert is_transient(error)
    assert not is_transient(InputError("a.png: damaged"))


class Away:
    """A file whose reading fails a number of times, for all files together."""

    def __init__(self, times: int, after: int) -> None:
        self.left, self.after = times, after

    def open(self, path: Path, name: str) -> "Away":
        self.file = open(path, "rb")  # noqa: SIM115
        return self

    def read(self, size: int = -1) -> bytes:
        if self.file.tell() >= self.after and self.left > 0:
            self.left -= 1
            raise OSError(errno.EIO, "Input/output error")
        return self.file.read(size)

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def __enter__(self) -> "Away":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@pytest.mark.parametrize("after", [0, 10, 4000])
@pytest.mark.parametrize("reader", [read_image, read_picture])
def test_pictures_on_a_share_that_is_away_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, reader: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(failures, "RETRY_DELAYS", (0.0, 0.0))
    file = save(noise(), tmp_path / "a.png")
    pixels = read_image(file)
    monkeypatch.setattr(decode, "open_regular", Away(2, after).open)
    result = reader(file)
    assert np.array_equal(result.pixels if isinstance(result, Picture) else result, pixels)
    monkeypatch.setattr(decode, "open_regular", Away(1000, after).open)
    with pytest.raises(InputError, match=r"^\S*a\.png: .*Input/output error[^\n]*$"):
        reader(file)
    assert not is_readable(file)


@pytest.mark.parametrize(
    "problem", [MemoryError(), RuntimeError("odd\nlines"), OSError(5, "no luck"), ZeroDivisionError()]
)
def test_whatever_reading_raises_names_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(failures, "RETRY_DELAYS", ())
    monkeypatch.setattr(decode, "_open", fail)
    with pytest.raises(InputError) as caught:
        read_picture(save(noise(), tmp_path / "a.png"))
    assert str(caught.value).startswith(f"{tmp_path}/a.png: ") and str(caught.value).isprintable()


def test_failure_reason_of_each_kind() -> None:
    for error in (MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError("can't allocate memory: 9 bytes")):
        assert failure_reason("a\nb", error) == r"a\nb: not enough memory to read it"
    assert failure_reason("a", OSError(5, "Input/output error")) == "a: cannot be read (Input/output error)"
    assert failure_reason("a", ValueError("one\ntwo")) == "a: cannot be read (ValueError: one)"
    assert failure_reason("a", InputError("b: known")) == "b: known"


def test_many_kinds_of_files_stay_one_short_line() -> None:
    omitted = Omissions()
    assert not omitted
    for number in range(30):
        omitted.add_file(Path(f"x.k{number:02}\n"))
    assert omitted and str(omitted).isprintable()
    assert str(omitted).startswith(r"files of other kinds: 30 (1 .k00\n, ") and str(omitted).endswith(", ...)")
