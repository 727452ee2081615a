"""Trained models on pictures: kinds, strength, tiles."""

import copy
import pickle
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers.bounds import assert_close, rounding, unit
from helpers.networks import sums
from helpers.picture_files import rgb_profile
from helpers.tiny_runs import picture
from PIL import Image
from torch import nn

from fastgan.data import read_picture
from fastgan.errors import InputError
from fastgan.inference.stylizer import Stylizer
from fastgan.models import FastGenerator

CPU = torch.device("cpu")


def network(width: int = 4, depth: int = 1, stem: str = "unshuffle") -> FastGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = FastGenerator(width, depth, stem=stem)
        for parameter in made.parameters():
            if parameter.ndim == 1:  # norms as after training, not all ones and zeros
                nn.init.normal_(parameter, 0.5, 0.4)
    return made


@pytest.fixture(scope="module")
def stylizer() -> Stylizer:
    return Stylizer(network(), CPU, torch.float32)


IMAGE = picture(21, 34, 0)
DEEP = np.minimum(IMAGE.astype(np.uint32) * 257 + np.arange(34)[None, :, None], 65535).astype(np.uint16)


def as_kind(kind: str) -> Any:
    tensor = torch.from_numpy(DEEP.astype(np.float32) / 65535).permute(2, 0, 1)
    return {
        "pil": Image.fromarray(IMAGE),
        "uint8": IMAGE,
        "uint16": DEEP,
        "tensor": tensor[None].repeat(2, 1, 1, 1),
        "single": tensor,
        "half": tensor.half(),
        "double": tensor.double(),
    }[kind]


def values(image: Any) -> np.ndarray:
    """(H, W, 3) float in [0, 1]; of a batch the first."""
    if isinstance(image, torch.Tensor):
        return (image[0] if image.ndim == 4 else image).permute(1, 2, 0).double().numpy()
    array = np.asarray(image)
    return array / float(np.iinfo(array.dtype).max)


KINDS = ["pil", "uint8", "uint16", "tensor", "single", "half", "double"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_that_goes_in_comes_out(stylizer: Stylizer, kind: str) -> None:
    image = as_kind(kind)
    before = values(image).copy()
    out = stylizer(image)
    assert type(out) is type(image) or isinstance(out, Image.Image)
    if isinstance(image, Image.Image):
        assert out.size == image.size and out.mode == "RGB"
    else:
        assert out.shape == image.shape and out.dtype == image.dtype
    assert values(out).min() >= 0 and values(out).max() <= 1
    same = torch.from_numpy(before).permute(2, 0, 1)[None]
    want = values((stylizer.run(same * 2 - 1) + 1) / 2)
    step = {"pil": 1 / 255, "uint8": 1 / 255, "uint16": 1 / 65535, "half": 2 * unit(torch.half)}.get(kind, 0.0)
    assert np.abs(values(out) - want).max() <= step / 2 + rounding(1, 2 * sums(stylizer.generator))
    assert np.array_equal(values(image), before)  # the caller's picture is as it was
    assert np.abs(values(out) - before).max() > 0.05


@pytest.mark.filterwarnings("error")
def test_arrays_that_may_not_be_written(stylizer: Stylizer) -> None:
    """Such as ``np.asarray`` of a PIL image gives; and views of any stride."""
    locked = IMAGE.copy()
    locked.flags.writeable = False
    want = stylizer(IMAGE)
    assert np.array_equal(stylizer(locked), want)
    flipped = stylizer(IMAGE[:, ::-1])
    assert np.array_equal(flipped, stylizer(IMAGE[:, ::-1].copy()))
    assert np.array_equal(stylizer(np.asfortranarray(IMAGE)), want)


def test_deep_pictures_keep_their_depth(stylizer: Stylizer) -> None:
    out = stylizer(DEEP, strength=0.5)
    assert len(np.unique(out)) > 300


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_every_mode_of_pil(stylizer: Stylizer, mode: str) -> None:
    out = stylizer(Image.fromarray(IMAGE).convert(mode))
    assert out.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB") and out.size == (34, 21)


def test_pil_images_are_read_as_files_are(stylizer: Stylizer, tmp_path: Path) -> None:
    pixels = np.dstack([IMAGE, picture(21, 34, 1)[..., 0]])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif, icc_profile=rgb_profile(), dpi=(300, 150))
    read = read_picture(tmp_path / "a.png")
    out = stylizer(Image.open(tmp_path / "a.png"))
    assert out.size == (21, 34) and out.mode == "RGBA" and out.getexif().get(0x0112) is None
    assert np.array_equal(np.asarray(out)[..., :3], stylizer(read.pixels))
    assert np.array_equal(np.asarray(out)[..., 3], read.alpha)
    assert (out.info["icc_profile"], out.info["dpi"]) == (read.icc_profile, read.dpi)
    assert read.icc_profile == rgb_profile() and read.dpi == pytest.approx((150, 300), abs=0.02)


@pytest.mark.parametrize("kind", ["half", "bfloat16", "single", "double"])
def test_floats_are_computed_with_in_float32(stylizer: Stylizer, kind: str) -> None:
    dtype = {"half": torch.half, "bfloat16": torch.bfloat16, "single": torch.float32, "double": torch.float64}[kind]
    image = as_kind("single").to(dtype)
    precise = image if dtype == torch.float64 else image.float()
    assert torch.equal(stylizer(image), ((stylizer.run(precise[None] * 2 - 1) + 1) / 2)[0].to(dtype))


def test_results_are_ordinary_tensors(stylizer: Stylizer) -> None:
    """A caller may train with them and write to them."""
    x = as_kind("tensor")
    for out in (stylizer.run(x * 2 - 1), stylizer(x), stylizer.run(x, strength=0)):
        assert not out.is_inference() and not out.requires_grad
        weight = torch.ones((), requires_grad=True)
        (out * weight).sum().backward()
        out += 1


@pytest.mark.parametrize("bad", [255.0, -1.0, float("nan"), float("inf")])
def test_tensors_of_another_range_are_refused(stylizer: Stylizer, bad: float) -> None:
    image = as_kind("tensor").clone()
    image[1, 2, 3, 4] = bad
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\], got"):
        stylizer(image)


def test_a_thin_style_is_refused_before_its_features_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stylizer, "takes_any_style", True)
    encoder = Mock(side_effect=AssertionError)
    stylizer = Stylizer(network(), CPU, torch.float32, encoder=encoder)
    for style in (np.zeros((12, 60_000, 3), np.uint8), torch.zeros(3, 32, 160_000)):
        with pytest.raises(InputError, match=r"a style of 160000 x 32 px takes 4\.9 GiB"):
            stylizer.code(style)


def test_torch_that_gets_no_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = Stylizer(network(), CPU, torch.float32)
    message = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"
    for error in (RuntimeError(message), torch.OutOfMemoryError("CUDA out of memory.")):
        monkeypatch.setattr(stylizer, "_forward", Mock(side_effect=error))
        with pytest.raises(InputError, match=r"not enough memory for a picture of 34 x 21 px; give a tile"):
            stylizer(Image.fromarray(IMAGE))
    monkeypatch.setattr(stylizer, "_forward", Mock(side_effect=RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        stylizer(IMAGE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", [None, "smallest"])
def test_no_strength_is_the_picture_to_the_bit(stylizer: Stylizer, kind: str, tile: str | None) -> None:
    image = as_kind(kind)
    out = stylizer(image, strength=0, tile=stylizer.min_tile if tile else None)
    if isinstance(image, torch.Tensor):
        assert torch.equal(out, image) and out.data_ptr() != image.data_ptr()
    else:
        assert np.array_equal(np.asarray(out), np.asarray(image))


def test_strength_blends(stylizer: Stylizer) -> None:
    x = as_kind("single")
    full = stylizer(x, strength=1)
    assert torch.equal(full, stylizer(x))
    for strength in (0.25, 0.5, 0.9):
        want = (1 - strength) * x + strength * full
        assert_close(
            stylizer(x, strength=strength), want, steps=12, scale=1.0
        )  # there and back, three sums and products


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_out_of_range(stylizer: Stylizer, strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be between 0 and 1"):
        stylizer(IMAGE, strength=strength)


@pytest.mark.parametrize("size", [(11, 11), (12, 31), (15, 11), (27, 29), (64, 33)])
def test_any_size(stylizer: Stylizer, size: tuple[int, int]) -> None:
    assert stylizer(picture(*size, 1)).shape == (*size, 3)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((7, 20, 3), np.uint8), ValueError),
        (np.zeros((20, 20), np.uint8), TypeError),
        (np.zeros((20, 20, 4), np.uint8), TypeError),
        (np.zeros((20, 20, 3), np.float32), TypeError),
        (torch.zeros(3, 20, 20, dtype=torch.uint8), TypeError),
        (torch.zeros(20, 20, 3), TypeError),
        (torch.zeros(1, 3, 20, 7), ValueError),
        ("photo.jpg", TypeError),
    ],
)
def test_pictures_that_cannot_be_used(stylizer: Stylizer, image: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        stylizer(image)


# --- tiles


@pytest.mark.parametrize("stem", ["unshuffle", "conv9"])
@pytest.mark.parametrize("size", [(150, 203), (301, 40), (77, 260)])
def test_tiles_meet_without_seams(stem: str, size: tuple[int, int]) -> None:
    """With the norms' moments held, tiles give everywhere what the whole picture at once gives."""
    made = Stylizer(network(stem=stem), CPU, torch.float32)
    tile = made.min_tile
    x = torch.from_numpy(picture(*size, 4)).permute(2, 0, 1)[None].float() / 127.5 - 1
    passes: list[tuple[int, ...]] = []
    hook = made.generator.register_forward_pre_hook(lambda _, inputs: passes.append(tuple(inputs[0].shape[-2:])))
    tiled = made.run(x, tile=tile)
    hook.remove()
    assert len(passes) > 3 and max(max(shape) for shape in passes) <= tile
    with torch.inference_mode():
        frozen = made._with_frozen_norms(x, tile, None, torch.ones(1))
        at_once = made._forward(x, None, torch.ones(1), None, frozen)
    assert_close(tiled, at_once, steps=2 * sums(made.generator), scale=1.0)
    assert all(getattr(module, "frozen", None) is None for module in made.generator.modules())
    assert (
        made.run(x) - at_once
    ).abs().mean() < 0.2  # a tenth of tanh's range: near what the picture's own moments give


def test_a_picture_smaller_than_a_tile_goes_at_once(stylizer: Stylizer) -> None:
    assert np.array_equal(stylizer(IMAGE, tile=stylizer.min_tile), stylizer(IMAGE))


def test_a_batch_by_tiles_is_each_by_tiles(stylizer: Stylizer) -> None:
    x = torch.stack([torch.from_numpy(picture(40, 120, seed)).permute(2, 0, 1).float() / 255 for seed in range(2)])
    both = stylizer(x, tile=stylizer.min_tile)
    for index in range(2):
        one = stylizer(x[index], tile=stylizer.min_tile)
        assert_close(both[index], one, steps=2 * sums(stylizer.generator), scale=1.0)


def test_norms_are_released_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Stylizer(network(), CPU, torch.float32)
    image = picture(120, 120, 0)
    want = made(image)
    forward, calls = made._forward, []

    def failing(x: torch.Tensor, *others: Any) -> torch.Tensor:
        calls.append(x)
        if len(calls) == 2:
            raise MemoryError
        return forward(x, *others)

    monkeypatch.setattr(made, "_forward", failing)
    with pytest.raises(InputError, match="not enough memory for a picture of 120 x 120 px"):
        made(image, tile=made.min_tile)
    assert np.array_equal(made(image), want)


def test_tile_too_small(stylizer: Stylizer) -> None:
    with pytest.raises(ValueError, match=f"tile must be at least {stylizer.min_tile} px"):
        stylizer(IMAGE, tile=stylizer.min_tile - 1)


# --- what it is not


def test_noise_is_refused(stylizer: Stylizer) -> None:
    for call in (stylizer.generate, stylizer.interpolate):
        with pytest.raises(TypeError, match="this model stylizes pictures and takes no noise"):
            call(16)


def test_it_is_copied_and_pickled(stylizer: Stylizer) -> None:
    want = stylizer(IMAGE)
    for again in (copy.deepcopy(stylizer), pickle.loads(pickle.dumps(stylizer))):
        assert np.array_equal(again(IMAGE), want)
