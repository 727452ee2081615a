"""Files of weights: what is read of a stranger's, and what is made before that is known."""

import io
import os
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from fastgan.errors import InputError
from fastgan.models import weights as module
from fastgan.models.weights import TensorInfo, WeightsFile, construction_limit


def tensors() -> dict[str, Tensor]:
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(()), "n": torch.tensor(3)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(tensors(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        opened = WeightsFile(path)
        opened.read(opened.infos)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_the_header_and_the_tensors(file: Path) -> None:
    opened = WeightsFile(file)
    assert opened.infos == {
        "a": TensorInfo((2, 3), torch.float32),
        "b": TensorInfo((), torch.float32),
        "n": TensorInfo((), torch.int64),
    }
    assert [info.numel for info in opened.infos.values()] == [6, 1, 1]
    read = opened.read(["b", "a"])
    assert list(read) == ["b", "a"] and torch.equal(read["a"], tensors()["a"])
    opened.check(tensors())
    opened.check({name: value.double() if value.is_floating_point() else value for name, value in tensors().items()})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a": torch.ones(3, 2)}, "a is 2x3 in the file and 3x2 in the network"),
        ({"b": torch.ones(1)}, "b is a scalar in the file and 1 in the network"),
        ({"c": torch.ones(1)}, "c is missing"),
        ({"a": None}, "'a' is not part of it"),
        ({"a": torch.ones(2, 3).long()}, "a is not of int64"),
        ({"n": torch.tensor(1.0)}, "n is not of float64 or float32 or float16 or bfloat16"),
    ],
)
def test_another_network(file: Path, change: dict[str, Tensor | None], says: str) -> None:
    expected = {name: value for name, value in {**tensors(), **change}.items() if value is not None}
    with pytest.raises(InputError) as caught:
        WeightsFile(file).check(expected)
    assert str(caught.value) == f"{file}: of another network than the description says ({says})"


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint8, torch.complex64, torch.float8_e4m3fn])
def test_numbers_that_no_network_has(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(2, 3).to(dtype)}, path)
    with pytest.raises(InputError, match="a is not of float64 or float32"):
        WeightsFile(path).check({"a": torch.ones(2, 3)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float, suffix: str) -> None:
    path, bad = tmp_path / f"w.{suffix}", torch.ones(2, 3, dtype=torch.float64)
    bad[1, 2] = value
    state = {"good": torch.ones(1), "bad": bad}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert refused(path) == f"{path}: bad has numbers that are not finite; the weights are damaged"
    assert WeightsFile(path).read(["good"])["good"] == 1


def test_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    assert "no such file" in refused(path)
    whole = save(tensors())
    contents = [
        b"",
        b"\0" * 7,
        b"\0" * 200,
        whole[:-1],
        whole[:20],
        whole + b"x",
        b"\xff" * 8 + whole,
        b"text of some length",
    ]
    for content in contents:
        path.write_bytes(content)
        assert "damaged, or not a safetensors file" in refused(path)
    path.write_bytes(whole)
    monkeypatch.setattr(module, "MAX_WEIGHTS_BYTES", len(whole) - 1)
    assert "too large" in refused(path)
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe" in refused(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "is a device" in refused(path)


def test_pickled_files_that_cannot_be_used(tmp_path: Path) -> None:
    """A packed one, in which few bytes may become many, and ones that are no tensors by name."""
    path, whole = tmp_path / "w.pth", io.BytesIO()
    torch.save(tensors(), whole)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, zipfile.ZipFile(whole) as plain:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "damaged, or no file of weights" in refused(path)
    for content in (whole.getvalue()[:-30], b"", b"no weights"):
        path.write_bytes(content)
        assert "damaged, or no file of weights" in refused(path)
    torch.save([1, 2], path)
    assert "damaged, or no file of weights (list)" in refused(path)
    torch.save({"a": torch.ones(2).to_sparse(), "b": torch.ones(2, device="meta"), "c": 5, 7: torch.ones(1)}, path)
    assert list(WeightsFile(path).infos) == ["7"]
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe" in refused(path)


# --- networks


INFOS = {"weight": TensorInfo((64, 64), torch.float32)}


def test_a_network_of_its_weights_is_made() -> None:
    with construction_limit(INFOS):
        nn.Sequential(*(nn.Linear(8, 8) for _ in range(50)))


def test_a_network_beyond_its_weights_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a great layer is initialized, which is what takes its memory; and before there are many."""
    touched: list[int] = []
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: touched.append(layer.weight.numel()))
    with pytest.raises(ValueError, match="much larger than the weights"), construction_limit(INFOS):
        nn.Linear(1 << 13, 1 << 13)
    assert touched == []
    for make in (lambda: nn.Linear(1, 1), nn.ReLU, lambda: nn.BatchNorm2d(1, affine=False)):
        modules: list[nn.Module] = []
        with pytest.raises(ValueError, match="much larger"), construction_limit(INFOS):
            nn.ModuleList(modules.append(make()) or modules[-1] for _ in range(10**9))  # type: ignore[func-returns-value]
        assert len(modules) < 2000
    nn.Linear(1 << 13, 1 << 13)


def test_another_thread_makes_what_it_likes() -> None:
    modules: list[nn.Module] = []
    with construction_limit({}):
        thread = threading.Thread(target=lambda: modules.append(nn.Sequential(*(nn.ReLU() for _ in range(2000)))))
        thread.start()
        thread.join()
    assert len(modules) == 1
