"""Trained models on disk: what is written, what is read back, and files that cannot be used."""

import json
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from helpers.bounds import unit
from helpers.tiny_runs import picture
from safetensors.torch import load_file, save_file
from torch import nn

import fastgan
from fastgan.errors import InputError
from fastgan.inference import Sampler, Stylizer
from fastgan.inference.model_files import StyleImages, find_model, load, save_model, save_styles
from fastgan.models import ArticleGenerator, DCGANGenerator, FastGenerator, FusionGenerator, VGGEncoder

CPU = torch.device("cpu")
Network = TypeVar("Network", bound=nn.Module)
IMAGE = picture(24, 36, 0)


def settled(network: Network) -> Network:
    """Parameters and buffers as after training, not all ones and zeros."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.ndim == 1:
                value.copy_(torch.rand(value.shape, generator=rng) + 0.2)
    return network


def network() -> FastGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = FastGenerator(4, 1)
        settled(made)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "run" / "model", network(), {"size": 32})
    return tmp_path / "run" / "model"


def test_round_trip(model: Path) -> None:
    want = Stylizer(network(), CPU, torch.float32)(IMAGE)
    for path in (model.parent, model, model / "generator.safetensors", str(model)):
        before = torch.get_rng_state()
        loaded = fastgan.load(path, device="cpu", precision="fp32")
        assert torch.equal(torch.get_rng_state(), before)
        assert isinstance(loaded, Stylizer) and np.array_equal(loaded(IMAGE), want)
        assert find_model(Path(path)) == model


def test_round_trip_of_the_article(tmp_path: Path) -> None:
    generator = settled(ArticleGenerator(4, 2))
    save_model(tmp_path, generator, {})
    loaded = load(tmp_path, device="cpu", precision="fp32")
    assert isinstance(loaded, Stylizer) and not loaded.takes_any_style and loaded.encoder is None
    assert np.array_equal(loaded(IMAGE), Stylizer(generator, CPU, torch.float32)(IMAGE))


def test_round_trip_of_noise(tmp_path: Path) -> None:
    """With the buffers of its BatchNorm: they make the images in use."""
    generator = settled(DCGANGenerator(4, 1, size=16, z_dim=7))
    save_model(tmp_path, generator, {"features": "random"})
    want = Sampler(generator, CPU, torch.float32).generate(3, seed=4)
    before = torch.get_rng_state()
    loaded = load(tmp_path, device="cpu", precision="fp32")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(loaded, Sampler) and loaded.features == "random"
    assert np.array_equal(loaded.generate(3, seed=4), want)


def test_half_precision(tmp_path: Path) -> None:
    """Halves the file, and changes no pixel by more than the rounding of its weights can."""
    full, half = tmp_path / "full", tmp_path / "half"
    save_model(full, network(), {})
    save_model(half, network(), {}, half=True)
    kept, rounded = (load_file(folder / "generator.safetensors") for folder in (full, half))
    for name, value in kept.items():
        assert rounded[name].dtype == (torch.float16 if value.ndim > 1 else torch.float32)
        assert torch.equal(rounded[name], value.to(rounded[name].dtype))
    assert load(half, device="cpu", precision="fp32").generator.to_rgb.weight.dtype == torch.float32


def test_the_shipped_model_is_small_and_near_what_was_trained() -> None:
    """At most 4 MB, in halves. A pixel is within two levels of 256 of any full-precision weights that round to them,
    and on average within a fifth of a level."""
    folder = find_model("any-style")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 4_000_000
    stylizer = load("any-style", device="cpu", precision="fp32")
    assert isinstance(stylizer, Stylizer) and stylizer.takes_any_style
    photograph, painting = picture(96, 128, 1), picture(96, 96, 2, busy=True)
    want = stylizer(photograph, style=painting).astype(int)
    rng = torch.Generator().manual_seed(0)
    kept = load_file(folder / "generator.safetensors")
    assert any(value.dtype == torch.float16 for value in kept.values())
    for name, parameter in stylizer.generator.named_parameters():
        if kept[name].dtype == torch.float16:
            draws = torch.rand(parameter.shape, generator=rng) * 2 - 1
            parameter.data += parameter.data * draws * unit(torch.float16)
    assert stylizer.generator is not None
    difference = np.abs(stylizer(photograph, style=painting).astype(int) - want)
    assert difference.max() <= 2 and 0 < difference.mean() <= 0.2


def test_the_shipped_model_has_no_style_of_its_own() -> None:
    stylizer = load("any-style", device="cpu", precision="fp32")
    with pytest.raises(InputError, match="name the style image"):
        stylizer(picture(32, 32, 0))


def test_round_trip_of_fusion(tmp_path: Path) -> None:
    """With the scale of its features, its encoder and its styles, of which the first is its own."""
    generator = settled(FusionGenerator(4, 1, fusion="mlp", layer="relu2_1"))
    generator.scale.fill_(2.5)
    styles = [picture(30, 40, 5, busy=True), picture(33, 31, 6, busy=True)]
    save_model(tmp_path, generator, {"features": "random"})
    photo = picture(20, 24, 7)
    bare = load(tmp_path, precision="fp32")
    assert isinstance(bare, Stylizer) and bare(photo, style=styles[0]).shape == photo.shape  # needs none of its own
    with pytest.raises(InputError, match="styles is missing"):
        bare(photo)
    save_styles(tmp_path, styles)
    encoder = VGGEncoder(generator.layers, "random")
    whole = Stylizer(generator, CPU, torch.float32, encoder=encoder, styles=lambda: styles)
    loaded = load(tmp_path, device="cpu", precision="fp32")
    assert isinstance(loaded, Stylizer) and loaded.takes_any_style
    one, other = (loaded(IMAGE, style=style) for style in styles)
    assert np.abs(one.astype(int) - whole(IMAGE, style=styles[0])).max() <= 1
    assert np.array_equal(loaded(IMAGE), one) and not np.array_equal(one, other)


def test_styles(tmp_path: Path, model: Path) -> None:
    """Back in their order, to the bit; fewer of them leave none of the others behind."""
    styles = [picture(20 + number, 30, number) for number in range(12)]
    save_styles(model, styles)
    for path in (model, model.parent, model / "generator.safetensors"):
        assert all(np.array_equal(a, b) for a, b in zip(StyleImages(path), styles, strict=True))
    save_styles(model, styles[3:5])
    assert [image.shape[0] for image in StyleImages(model)] == [23, 24]
    save_model(tmp_path / "bare", network(), {})
    with pytest.raises(InputError, match=r"^style: .*styles is missing; name the style image"):
        StyleImages(tmp_path / "bare")


def test_half_precision_is_near(model: Path) -> None:
    exact, rounded = (fastgan.load(model, device="cpu", precision=name) for name in ("fp32", "bf16"))
    assert isinstance(exact, Stylizer) and isinstance(rounded, Stylizer)
    difference = np.abs(exact(IMAGE).astype(int) - rounded(IMAGE))
    # Each layer rounds what comes in, its weights and what goes out, of 127.5 levels to either side.
    layers = sum(parameter.ndim > 1 for parameter in exact.generator.parameters())
    assert difference.max() > 0 and difference.mean() < 3 * layers * unit(torch.bfloat16) * 127.5


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"{", "not readable as JSON"),
        ("config.json", b"[1]", "not a fastgan model description"),
        ("config.json", b"\xff\xfe", "not readable as JSON"),
        ("config.json", b'{"format": 1, "model": "fast"}', "not a fastgan model description"),
        ("config.json", b'{"format": 1, "model": "fast", "generator": {"width": "a"}}', "not a fastgan model"),
        ("config.json", b'{"format": 1, "model": "fast", "generator": {"color": 1}}', "not a fastgan model"),
        ("config.json", b'{"format": 1, "model": "fast", "generator": {"width": 0}}', "not a fastgan model"),
        ("config.json", b'{"format": 1, "model": "fusion", "generator": {"fusion": "x"}}', "not a fastgan model"),
        ("config.json", b'{"format": 2, "model": "fast", "generator": {}}', "of format 2; this fastgan reads fast"),
        ("config.json", b'{"format": 1, "model": "fission", "generator": {}}', "model 'fission' of format 1"),
        ("config.json", None, "cannot be read"),
        ("generator.safetensors", b"", "damaged, or not a safetensors file"),
        ("generator.safetensors", b"\0" * 200, "damaged, or not a safetensors file"),
        ("generator.safetensors", None, "has no trained model"),
    ],
)
def test_damaged_files(model: Path, name: str, content: bytes | None, says: str) -> None:
    (model / name).unlink() if content is None else (model / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        fastgan.load(model)
    message = str(caught.value)
    assert says in message and str(model) in message and "\n" not in message
    assert content is None or name in message


def test_cut_short_or_another_network(model: Path) -> None:
    file = model / "generator.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-100])
    with pytest.raises(InputError, match="damaged, or not a safetensors file"):
        fastgan.load(model)
    file.write_bytes(data)
    tensors = load_file(file)
    save_file({name: value for name, value in tensors.items() if "to_rgb" not in name}, file)
    with pytest.raises(InputError, match=r"of another network .*to_rgb\.bias is missing") as caught:
        fastgan.load(model)
    assert "\n" not in str(caught.value)


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder; give a run folder"):
        fastgan.load(tmp_path / "none")
    with pytest.raises(InputError, match="has no trained model"):
        fastgan.load(tmp_path)


def test_description_is_plain_json(model: Path) -> None:
    description = json.loads((model / "config.json").read_text())
    assert description["format"] == 1 and description["model"] == "fast"
    assert description["generator"]["width"] == 4 and description["size"] == 32
