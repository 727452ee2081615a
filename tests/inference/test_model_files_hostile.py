"""Model folders from strangers: each is refused in one line that names the file, before memory or time is taken."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_runs import picture
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fastgan
from fastgan.errors import InputError
from fastgan.inference.model_files import StyleImages, save_model, save_styles
from fastgan.models import ArticleGenerator, DCGANGenerator, FastGenerator, FusionGenerator

WEIGHTS, DESCRIPTION = "generator.safetensors", "config.json"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fast": lambda: FastGenerator(4, 1),
    "article": lambda: ArticleGenerator(4, 1),
    "dcgan": lambda: DCGANGenerator(4, 1, size=16, z_dim=5),
    "fusion": lambda: FusionGenerator(2, 1, layer="relu2_1"),
}


def make(folder: Path, name: str = "fast") -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_model(folder, NETWORKS[name](), {"features": "random"})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make(tmp_path / "model")


def refused(model: Path, file: str) -> str:
    with pytest.raises(InputError) as caught:
        fastgan.load(model, device="cpu", precision="fp32")
    message = str(caught.value)
    assert message.startswith(f"{model / file}: ") and "\n" not in message and len(message) < 700
    return message


def describe(model: Path, /, **fields: Any) -> None:
    description = json.loads((model / DESCRIPTION).read_text())
    (model / DESCRIPTION).write_text(json.dumps({**description, **fields}))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("number", [100_000, 10**9, 10**30, 1e400, -(10**9)], ids=str)
def test_numbers_beyond_the_weights(tmp_path: Path, name: str, number: float) -> None:
    """In every option: none makes a network that the weights do not fill, and few modules are made to find out."""
    model = make(tmp_path / "model", name)
    options = json.loads((model / DESCRIPTION).read_text())["generator"]
    for option in [option for option, value in options.items() if isinstance(value, int)]:
        describe(model, generator={**options, option: number})
        if abs(number) <= 1_000_000:
            with pytest.raises(InputError, match=r"much larger than|of another network|must be one of|can't allocate"):
                fastgan.load(model)
            continue
        message = refused(model, DESCRIPTION)
        if number != 1e400:
            assert f"'generator.{option}' is {number}"[:40] in message and "at most 1,000,000 is allowed" in message


@pytest.mark.parametrize("option", ["width", "depth"])
def test_a_network_a_little_larger_than_its_weights(model: Path, option: str) -> None:
    options = json.loads((model / DESCRIPTION).read_text())["generator"]
    describe(model, generator={**options, option: options[option] + 2})
    message = refused(model, WEIGHTS)
    assert "of another network than the description says (" in message


@pytest.mark.parametrize(
    "fields",
    [
        {"generator": []},
        {"generator": {"width": [4]}},
        {"generator": {"width": "4" * 100_000}},
        {"generator": {"width": 4.5, "depth": 1}},
        {"generator": {"w\n\x1b[31midth": 10**9}},
        {"model": ["fast"]},
        {"model": {}},
        {"model": "x" * 100_000},
        {"model": None},
        {"features": 7},
        {"features": ["vgg19"]},
    ],
    ids=lambda fields: str(fields)[:30],
)
def test_values_of_other_types(model: Path, fields: dict[str, Any]) -> None:
    describe(model, **fields)
    assert "\x1b" not in refused(model, DESCRIPTION)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 50_000, "nested too deep"),
        (b'{"a":' * 50_000, "nested too deep"),
        (b" " * (1 << 20) + b"{}", "too large"),
    ],
)
def test_descriptions_that_take_too_much(model: Path, content: bytes, says: str) -> None:
    (model / DESCRIPTION).write_bytes(content)
    assert says in refused(model, DESCRIPTION)


def test_deep_options(model: Path) -> None:
    """As deep as JSON may be, and no deeper."""
    for depth in (10, 100, 300, 900):
        options = '{"width":' + "[" * depth + "]" * depth + "}"
        (model / DESCRIPTION).write_text(f'{{"format": 1, "model": "fast", "generator": {options}}}')
        refused(model, DESCRIPTION)


@pytest.mark.parametrize("file", [DESCRIPTION, WEIGHTS])
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "nowhere", "loop"])
def test_files_that_are_none(model: Path, file: str, kind: str) -> None:
    path = model / file
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"endless": "/dev/zero", "nowhere": "none", "loop": file}[kind])
    says = {"pipe": "is a pipe", "endless": "is a device", "folder": "is a folder", "nowhere": "no such file"}
    assert says.get(kind, "Too many levels of symbolic links") in refused(model, file)


def change(model: Path, name: str, value: Tensor) -> None:
    tensors = load_file(model / WEIGHTS)
    save_file({**tensors, name: value}, model / WEIGHTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(model: Path, value: float) -> None:
    change(model, "to_rgb.bias", torch.tensor([0, value, 0]))
    assert "to_rgb.bias has numbers that are not finite" in refused(model, WEIGHTS)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.complex64])
def test_weights_of_another_kind(model: Path, dtype: torch.dtype) -> None:
    change(model, "to_rgb.bias", torch.ones(3).to(dtype))
    assert "to_rgb.bias is not of float64 or float32 or float16 or bfloat16" in refused(model, WEIGHTS)


def test_weights_of_other_floats_are_read(model: Path) -> None:
    want = fastgan.load(model, device="cpu", precision="fp32").generator.state_dict()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        save_file({name: value.to(dtype) for name, value in want.items()}, model / WEIGHTS)
        have = fastgan.load(model, device="cpu", precision="fp32").generator.state_dict()
        assert all(torch.equal(value, want[name].to(dtype).float()) for name, value in have.items())


@pytest.mark.parametrize("shape", [(), (0,), (4,), (3, 1), (1, 3), (1 << 20,)], ids=str)
def test_weights_of_another_shape(model: Path, shape: tuple[int, ...]) -> None:
    change(model, "to_rgb.bias", torch.zeros(shape))
    assert "to_rgb.bias is " in refused(model, WEIGHTS)


def test_weights_that_make_no_picture(tmp_path: Path) -> None:
    """Numbers, each of which is one: together they divide by zero, or take the root of less."""
    for name, changes in {
        "dcgan": {"head.0.running_var": -1.0},
        "fusion": {"scale": 0.0},
        "fast": {"to_rgb.weight": 3e38, "up.1.1.weight": 3e38},
    }.items():
        model = make(tmp_path / name, name)
        for tensor, value in changes.items():
            change(model, tensor, torch.full_like(load_file(model / WEIGHTS)[tensor], value))
        assert "the weights make no picture" in refused(model, WEIGHTS)


# --- styles


def png(path: Path, width: int, height: int) -> None:
    """A gray picture of so many pixels, in few bytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


@pytest.fixture
def styled(tmp_path: Path) -> Path:
    model = make(tmp_path / "model", "fusion")
    save_styles(model, [picture(40, 44, 1), picture(44, 40, 2)])
    return model


@pytest.mark.parametrize("kind", ["large", "pipe", "endless", "no picture", "cut"])
def test_a_style_that_cannot_be_used(styled: Path, kind: str) -> None:
    path = styled / "styles" / "000.png"
    content = path.read_bytes()
    path.unlink()
    if kind == "large":
        png(path, 15_000, 15_000)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"no picture" if kind == "no picture" else content[: len(content) // 2])
    loaded = fastgan.load(styled, device="cpu", precision="fp32")
    with pytest.raises(InputError) as caught:
        loaded(picture(24, 24, 3))  # type: ignore[operator]
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_styles_are_read_when_they_are_asked_for(styled: Path) -> None:
    """In the order of their numbers: 1000 comes after 999, and what is not of this package is left alone."""
    first, second = ((styled / "styles" / name).read_bytes() for name in ("000.png", "001.png"))
    for name, content in (("999.png", first), ("1000.png", second), ("note.txt", b"mine"), ("mine.png", b"mine")):
        (styled / "styles" / name).write_bytes(content)
    styles = StyleImages(styled)
    assert [path.name for path in styles.paths] == ["000.png", "001.png", "999.png", "1000.png"]
    assert styles[2].shape == (40, 44, 3) and [style.shape[0] for style in styles[1:]] == [44, 40, 44]
    (styled / "styles" / "001.png").write_bytes(b"broken")
    assert np.array_equal(styles[0], styles[2])
    with pytest.raises(InputError, match=r"001\.png: damaged, or not a PNG"):
        _ = styles[1]
    save_styles(styled, [picture(40, 44, 1)])
    assert sorted(path.name for path in (styled / "styles").iterdir()) == ["000.png", "mine.png", "note.txt"]


def test_a_folder_of_styles_that_leads_elsewhere(styled: Path, tmp_path: Path) -> None:
    """Nothing is looked through but the folder itself."""
    save_styles(tmp_path / "elsewhere", [picture(40, 44, 1)])
    for path in (styled / "styles").iterdir():
        path.unlink()
    (styled / "styles" / "000.png").mkdir()
    (styled / "styles" / "below").symlink_to(tmp_path / "elsewhere" / "styles")
    assert len(StyleImages(styled)) == 1
    with pytest.raises(InputError, match=r"000\.png: is a folder"):
        _ = StyleImages(styled)[0]
