"""The photographs held out of training, and those of the demo."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.picture_files import noise, save

from fastgan.data import demo, demo_content, demo_style, demo_val, is_readable, read_image, split_train_val
from fastgan.errors import InputError


def names(count: int) -> list[Path]:
    return [Path(f"{number:04}.jpg") for number in range(count)]


@pytest.mark.parametrize(("count", "val"), [(4, 1), (10, 1), (11, 2), (40, 4), (80, 8), (5000, 8)])
def test_sizes_and_separation(count: int, val: int) -> None:
    split = split_train_val(names(count))
    assert len(split.val) == val and not split.shared
    assert not set(split.train) & set(split.val)
    assert sorted([*split.train, *split.val]) == names(count)
    assert split.train == sorted(split.train) and split.val == sorted(split.val)


def test_deterministic_by_seed() -> None:
    assert split_train_val(names(100), seed=3) == split_train_val(names(100), seed=3)
    assert len({tuple(split_train_val(names(100), seed=seed).val) for seed in range(5)}) == 5


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_are_shared(count: int) -> None:
    split = split_train_val(names(count))
    assert split.shared and split.train == split.val == names(count)


def test_nothing_wanted_is_shared() -> None:
    split = split_train_val(names(20), fraction=0)
    assert split.shared and split.train == names(20) and split.val == names(8)


def test_broken_files_are_no_measure(tmp_path: Path) -> None:
    good = [save(noise(seed=number), tmp_path / f"{number}.png") for number in range(5)]
    bad = [tmp_path / f"bad{number}.png" for number in range(25)]
    for path in bad:
        path.write_text("no picture")
    split = split_train_val([*bad, *good], usable=is_readable)
    assert len(split.val) == 3 and set(split.val) <= set(good) and set(bad) <= set(split.train)
    assert split_train_val(bad, usable=is_readable).shared


@pytest.mark.parametrize("options", [{"fraction": 1.0}, {"fraction": -0.1}, {"at_most": 0}])
def test_bad_arguments(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fraction must be"):
        split_train_val(names(9), **options)  # type: ignore[arg-type]


# --- the demo


def test_demo_photographs() -> None:
    importlib.import_module("skimage")
    train, val = demo_content(), demo_val()
    assert len(train) >= 8 and len(val) == 2
    pictures = {path.name: read_image(path) for path in [*train, *val]}
    assert len(pictures) == len(train) + len(val)
    assert all(min(picture.shape[:2]) >= 256 for picture in pictures.values())
    for path in val:  # in color, and not nearly the same as one that is trained on
        assert np.ptp(pictures[path.name].astype(int), axis=-1).mean() > 10
        assert path.name.split(".")[0].split("_")[0] not in {other.name.split(".")[0].split("_")[0] for other in train}


def test_demo_does_not_import_scikit_image() -> None:
    importlib.import_module("skimage")
    code = "from fastgan.data import demo_content; import sys; demo_content(); print('skimage' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_demo_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install scikit-image"):
        demo_content()


def test_demo_style() -> None:
    assert min(read_image(demo_style()).shape[:2]) >= 256


def test_a_path_that_stands_there_twice_counts_once() -> None:
    paths = [Path(f"{number}.png") for number in range(12)]
    split = split_train_val([*paths, *paths], seed=3)
    assert (split.train, split.val) == (split_train_val(paths, seed=3).train, split_train_val(paths, seed=3).val)
