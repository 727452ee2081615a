"""Training data: batches are a function of (seed, step); broken files are counted, named once and replaced."""

import logging
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.picture_files import coordinates, noise, readable, save, smooth

from fastgan.data import CropBatches, ImageFolder, LoaderError, resize
from fastgan.data import folder as folder_module
from fastgan.errors import InputError

SIZE = 16
COUNT = 7
PINNED = [[0, 6, 2], [3, 4, 1], [5, 3, 4], [1, 2, 0], [6, 5, 2]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """COCO's layout; the pixels of picture k are (x, y, k)."""
    for number in range(COUNT):
        save(coordinates(20 + number, 40 - 3 * number, number), tmp_path / "train2017" / f"{number:012}.png")
    return tmp_path


def batches(folder: Path, batch: int = 3, seed: int = 5, **options: bool) -> CropBatches:
    return CropBatches(ImageFolder(folder, size=SIZE), batch=batch, seed=seed, **options)


def numbers(batch: torch.Tensor) -> list[int]:
    return [int(value) for value in batch[:, 0, 0, 2]]


def spoil(folder: Path, *which: int) -> list[Path]:
    files = sorted(folder.rglob("*.png"))
    for number in which:
        files[number].write_text("no picture")
    return [files[number] for number in which]


# --- crops


def test_crops_are_crops(folder: Path) -> None:
    source = batches(folder)
    seen: set[tuple[int, int, int, bool]] = set()
    for step in range(300):  # of 128 crops of picture 6, one of 11 places is left out with a chance of 6e-5
        batch = source.batch_at(step)
        assert batch.shape == (3, SIZE, SIZE, 3) and batch.dtype == torch.uint8
        for crop, number in zip(batch.numpy(), numbers(batch), strict=True):
            flipped = bool(crop[0, 0, 0] > crop[0, -1, 0])
            left, top = int(crop[..., 0].min()), int(crop[..., 1].min())
            whole = coordinates(20 + number, 40 - 3 * number, number)[top : top + SIZE, left : left + SIZE]
            assert np.array_equal(crop, whole[:, ::-1] if flipped else whole)
            seen.add((number, left, top, flipped))
    assert {flipped for *_, flipped in seen} == {True, False}
    # Picture 6 is 26 high and 22 wide: the corners of what is possible are reached.
    assert {left for number, left, *_ in seen if number == 6} == set(range(22 - SIZE + 1))
    assert {top for number, _, top, _ in seen if number == 6} == set(range(26 - SIZE + 1))


def test_half_are_flipped_unless_told_otherwise(folder: Path) -> None:
    def flips(source: CropBatches) -> int:
        return sum(int(crop[0, 0, 0] > crop[0, -1, 0]) for step in range(100) for crop in source.batch_at(step))

    assert abs(flips(batches(folder)) - 150) <= 5 * (300 / 4) ** 0.5  # 5 standard errors
    assert flips(batches(folder, flip=False)) == 0


def test_smaller_crops_of_the_same_folder(folder: Path) -> None:
    assert CropBatches(ImageFolder(folder, size=SIZE), batch=2, seed=0, size=8).batch_at(0).shape == (2, 8, 8, 3)
    with pytest.raises(ValueError, match="crops of 32"):
        CropBatches(ImageFolder(folder, size=SIZE), batch=2, seed=0, size=32)


@pytest.mark.parametrize("batch", [1, 3, 7, 16])
def test_every_epoch_sees_every_photograph_once(folder: Path, batch: int) -> None:
    source = batches(folder, batch)
    stream = [number for step in range(6 * COUNT) for number in numbers(source.batch_at(step))]
    epochs = [stream[start : start + COUNT] for start in range(0, 6 * COUNT, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert source.steps_per_epoch == {1: 7, 3: 3, 7: 1, 16: 1}[batch]


# --- a function of (seed, step)


def test_order_of_asking_and_threads_do_not_matter(folder: Path) -> None:
    wanted = [batches(folder).batch_at(step) for step in range(40)]
    steps = list(range(40)) * 3
    random.Random(0).shuffle(steps)
    source = batches(folder)
    with ThreadPoolExecutor(8) as pool:
        for step, batch in zip(steps, pool.map(source.batch_at, steps), strict=True):
            assert torch.equal(batch, wanted[step]), step


def test_cache_does_not_matter(folder: Path) -> None:
    for room in (0, 3000, 1 << 30):
        source = CropBatches(ImageFolder(folder, size=SIZE, cache_bytes=room), batch=3, seed=5)
        assert all(torch.equal(source.batch_at(step), batches(folder).batch_at(step)) for step in range(8))


def test_global_random_state_is_neither_used_nor_changed(folder: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first = batches(folder).batch_at(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    torch.manual_seed(1)
    assert torch.equal(batches(folder).batch_at(3), first)


def test_seeds_differ(folder: Path) -> None:
    def stream(seed: int) -> torch.Tensor:
        return torch.cat([batches(folder, seed=seed).batch_at(step) for step in range(4)])

    streams = [stream(seed) for seed in (0, 1, 2**32, 2**63)]
    assert len({tuple(one.flatten().tolist()) for one in streams}) == len(streams)
    assert torch.equal(stream(1), streams[1])


def test_order_is_the_same_for_ever(folder: Path) -> None:
    # Written down once: a change would break every run that is resumed with a newer version.
    assert [numbers(batches(folder).batch_at(step)) for step in range(5)] == PINNED


def test_bad_arguments(folder: Path) -> None:
    for options in ({"batch": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="must"):
            batches(folder, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step"):
        batches(folder).batch_at(-1)


# --- sizes


def test_sizes_of_what_is_read(tmp_path: Path) -> None:
    for name, (height, width) in {"a": (900, 600), "b": (400, 384), "c": (20, 50)}.items():
        save(smooth(height, width), tmp_path / f"{name}.png")
    shapes = [image.shape for image in readable(ImageFolder(tmp_path, size=64))]
    assert shapes == [(576, 384, 3), (400, 384, 3), (64, 160, 3)]
    shapes = [image.shape for image in readable(ImageFolder(tmp_path, size=500))]
    assert shapes == [(750, 500, 3), (521, 500, 3), (500, 1250, 3)]


def test_cache_is_bounded_and_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastgan.data import folder as module

    read = Counter[Path]()
    true_read = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path, **o: (read.update([path]), true_read(path, **o))[1])
    room = 20 * 40 * 3 + 21 * 37 * 3  # the first two pictures
    kept = ImageFolder(folder, size=SIZE, cache_bytes=room)
    for _ in range(3):
        assert len(readable(kept)) == COUNT
    assert [read[path] for path in kept.paths] == [1, 1, 3, 3, 3, 3, 3]
    image = kept.get(0)
    assert image is not None
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 0


def test_a_file_and_a_list_are_folders_too(folder: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    assert ImageFolder(str(folder), size=SIZE).paths == files
    assert ImageFolder(files[0], size=SIZE).paths == files[:1]
    assert ImageFolder(files[2:4], size=SIZE).paths == files[2:4]
    assert CropBatches(ImageFolder(files[2], size=SIZE), batch=4, seed=0).batch_at(9).shape[0] == 4
    with pytest.raises(InputError, match="no images"):
        ImageFolder([], size=SIZE)
    with pytest.raises(InputError, match="nowhere"):
        ImageFolder(folder / "nowhere", size=SIZE)


# --- broken files


def test_broken_files_are_counted_named_once_and_replaced(folder: Path) -> None:
    bad = spoil(folder, 2, 5)
    told: list[tuple[Path, str]] = []
    images = ImageFolder(folder, size=SIZE, on_broken=lambda path, reason: told.append((path, reason)))
    source = CropBatches(images, batch=4, seed=0)
    first = [source.batch_at(step) for step in range(12)]
    assert {number for batch in first for number in numbers(batch)} == {0, 1, 3, 4, 6}
    assert sorted(path for path, _ in told) == bad and set(images.broken) == set(bad)
    assert all(path.name in reason and "not an image" in reason for path, reason in told)
    again = CropBatches(ImageFolder(folder, size=SIZE, on_broken=lambda *_: None), batch=4, seed=0)
    assert all(torch.equal(again.batch_at(step), first[step]) for step in reversed(range(12)))


def test_broken_files_are_logged_without_a_callback(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (bad,) = spoil(folder, 3)
    with caplog.at_level(logging.WARNING, "fastgan"):
        images = ImageFolder(folder, size=SIZE)
        for _ in range(2):
            assert len(readable(images)) == COUNT - 1
    assert len(caplog.records) == 1 and bad.name in caplog.text


def test_too_many_broken_files_stop(folder: Path) -> None:
    spoil(folder, 0, 1, 4, 6)
    images = ImageFolder(folder, size=SIZE, on_broken=lambda *_: None)
    source = CropBatches(images, batch=COUNT, seed=0)
    for _ in range(2):
        with pytest.raises(InputError, match=r"4 of 7 images cannot be read, at most 50%.*not an image"):
            source.batch_at(0)
    tolerant = ImageFolder(folder, size=SIZE, max_broken=0.6, on_broken=lambda *_: None)
    assert set(numbers(CropBatches(tolerant, batch=COUNT, seed=0).batch_at(0))) == {2, 3, 5}


def test_nothing_but_broken_files(folder: Path) -> None:
    spoil(folder, *range(COUNT))
    images = ImageFolder(folder, size=SIZE, max_broken=1.0, on_broken=lambda *_: None)
    with pytest.raises(InputError, match="7 of 7 images cannot be read"):
        CropBatches(images, batch=2, seed=0).batch_at(0)


def test_vanished_and_tiny_files_are_broken_files(folder: Path) -> None:
    save(noise(2, 2), folder / "z.png")
    images = ImageFolder(folder, size=SIZE, on_broken=lambda *_: None)
    images.paths[0].unlink()
    assert len(readable(images)) == COUNT - 1
    assert ["no such file" in reason or "too small" in reason for reason in images.broken.values()] == [True, True]


@pytest.mark.parametrize("problem", [MemoryError(), RuntimeError("two\nlines"), RecursionError(), KeyError("mode")])
def test_whatever_a_picture_raises_it_is_a_broken_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """Enlarging is one of the things that can fail after the file was read."""
    enlarge = resize.enlarge_to

    def fail(image: np.ndarray, side: int) -> np.ndarray:
        if image[0, 0, 2] == 3:
            raise problem
        return enlarge(image, side)

    monkeypatch.setattr(resize, "enlarge_to", fail)
    images = ImageFolder(folder, size=SIZE, on_broken=lambda *_: None)
    seen = {number for step in range(4) for number in numbers(CropBatches(images, batch=4, seed=0).batch_at(step))}
    assert seen == set(range(COUNT)) - {3}
    ((path, reason),) = images.broken.items()
    assert path.name == f"{3:012}.png" and reason.startswith(f"{path}: ") and reason.isprintable()


def test_a_thin_picture_is_counted_and_passed_over(tmp_path: Path) -> None:
    """It is small as it is; enlarged for crops it would be 0.98 GB, and is over the memory budget."""
    for number in range(3):
        save(noise(300, 280, number), tmp_path / f"{number}.png")
    save(np.full((12, 60_000, 3), 128, np.uint8), tmp_path / "strip.png")
    reasons: list[str] = []
    images = ImageFolder(tmp_path, size=256, short_side=256, on_broken=lambda _, reason: reasons.append(reason))
    assert sum(images.get(index) is not None for index in range(4)) == 3
    assert [path.name for path in images.broken] == ["strip.png"]
    assert "60000 x 12 px; enlarged to 1280000 x 256 px it takes 2.4 GiB" in reasons[0]


def test_crops_over_the_budget_are_refused_at_once(tmp_path: Path) -> None:
    save(noise(), tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a crop of 50000 x 50000 px takes 18\.6 GiB"):
        ImageFolder(tmp_path, size=50_000)


# --- photographs that go away


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(folder_module.time, "sleep", slept.append)
    return slept


def test_photographs_that_go_away_stop_at_once(folder: Path, waits: list[float]) -> None:
    """No picture stands in for one that is gone with all others: when they are back, the batches are the same."""
    images = ImageFolder(folder, size=SIZE, on_broken=lambda path, _: pytest.fail(f"{path} is not broken"))
    source = CropBatches(images, batch=2, seed=0)
    expected = CropBatches(ImageFolder(folder, size=SIZE), batch=2, seed=0).batch_at(1)
    source.batch_at(0)
    (folder / "train2017").rename(folder / "away")
    with pytest.raises(LoaderError, match=r"^the photographs are gone: 7 of 7 looked for[^\n]*resume the run$"):
        source.batch_at(1)
    assert waits == list(folder_module.GONE_DELAYS) and images.broken == {}
    (folder / "away").rename(folder / "train2017")
    assert torch.equal(source.batch_at(1), expected)


def test_photographs_that_are_back_in_a_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ImageFolder(folder, size=SIZE, on_broken=lambda path, _: pytest.fail(f"{path} is not broken"))
    assert images.get(0) is not None
    (folder / "train2017").rename(folder / "away")
    monkeypatch.setattr(folder_module.time, "sleep", lambda _: (folder / "away").rename(folder / "train2017"))
    assert images.get(1) is not None


def test_some_photographs_that_go_away_are_broken_ones(folder: Path, waits: list[float]) -> None:
    images = ImageFolder(folder, size=SIZE, cache_bytes=0, on_broken=lambda *_: None)
    assert images.get(0) is not None
    for path in images.paths[:3]:
        path.unlink()
    assert sum(images.get(index) is not None for index in range(COUNT)) == COUNT - 3
    assert list(images.broken) == images.paths[:3] and waits == []


def test_photographs_that_never_were_are_no_such_files(tmp_path: Path, waits: list[float]) -> None:
    with pytest.raises(InputError, match="no such file"):
        CropBatches(ImageFolder([tmp_path / "a.png"], size=SIZE), batch=1, seed=0).batch_at(0)
    assert waits == []
