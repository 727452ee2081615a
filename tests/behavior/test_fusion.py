"""Any style in one network: its step, its pictures, its measures (SPEC S5 to S9)."""

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding
from helpers.networks import sums
from helpers.observed_step import close, luminance_difference, near
from helpers.quality_bounds import ssim_error
from helpers.tiny_runs import batch, differences, floats, picture, save_picture, untimed
from PIL import Image
from torch import Tensor

import fastgan
from fastgan import ops
from fastgan.config import Config
from fastgan.data.tensors import image_to_tensor
from fastgan.inference.model_files import save_model
from fastgan.inference.stylizer import Stylizer
from fastgan.losses import style_distance, style_grams
from fastgan.models import STYLE_LAYERS, FastGenerator, FusionGenerator, VGGEncoder
from fastgan.models.style_code import style_code
from fastgan.training import Trainer

Make = Callable[..., Config]
FUSION: dict[str, Any] = {"model.name": "fusion", "model.generator.stem": None, "model.generator.layer": "relu2_1"}
SIZES = {"red": (44, 40), "blue": (40, 52)}


def paint(name: str) -> np.ndarray:
    """Red in broad waves, blue in busy ones: told apart by each pixel."""
    pixels = picture(*SIZES[name], len(name), busy=name == "blue").astype(float)
    keep = np.array([1.0, 0.2, 0.2]) if name == "red" else np.array([0.1, 0.2, 1.0])
    return (pixels * keep).astype(np.uint8)


STYLES = {name: paint(name) for name in ("blue", "red")}  # in the order of a folder's names
TENSORS = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1 for image in STYLES.values()]


@pytest.fixture(scope="module")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles")
    for name, image in STYLES.items():
        save_picture(image, folder / f"{name}.png")
    return folder


@pytest.fixture
def fusion(tiny: Make, styles: Path) -> Make:
    return lambda fields=None: tiny({**FUSION, "data.style": str(styles), **(fields or {})})


def encoder_of(trainer: Trainer) -> VGGEncoder:
    return trainer.task.encoder  # type: ignore[attr-defined, no-any-return]


def grams(encoder: VGGEncoder, image: Tensor) -> dict[str, Tensor]:
    """f f^T / (C H W), of each style layer."""
    made = {}
    for layer, features in encoder(image, STYLE_LAYERS).items():
        f = features.flatten(2)
        made[layer] = f @ f.transpose(1, 2) / f[0].numel()
    return made


def distances(have: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    each = [(have[layer] - target[layer]).square().sum((1, 2)) / target[layer].square().sum((1, 2)) for layer in target]
    return torch.stack(each).mean(0)


def close_distance(want: float, encoder: VGGEncoder) -> Any:
    """A squared relative difference of Grams that are both off by rounding: of features of 48 x 52 pixels at most."""
    difference = math.sqrt(want)
    return approx(want, steps=2 * (sums(encoder) + 50), scale=2 * difference * (1 + difference))


@pytest.mark.parametrize("structure", [1.0, 2.3])
def test_one_step_is_its_formula(smooth_encoder: None, fusion: Make, structure: float) -> None:
    """Each image has its own style and strength in what G minimizes; D sees full strength alone, beside that style."""
    fields = {"loss.content": 0.5, "loss.tv": 0.3, "loss.psnr": 0.2, "loss.adversarial": 0.11, "loss.ssim": 2.0}
    fields |= {"loss.luminance": 0.6, "loss.style_window_weight": 0.0, "loss.identity": 4.0}
    target = {} if structure == 1 else {"quality.target_ssim": 0.5}
    trainer = Trainer(fusion({**fields, **target, "data.batch": 5, "train.steps": 40}))
    for number in range(3):
        trainer.train_step(batch(number, 5))
    state, encoder, config = trainer.state, encoder_of(trainer), trainer.config
    if state.controller is not None:
        state.controller.log_weight = math.log(structure)
    g = copy.deepcopy(state.generator)
    inputs: list[Any] = []
    shown: list[Tensor] = []
    passes: list[tuple[str, ...]] = []
    taken: list[Tensor] = []
    hooks = [
        state.generator.register_forward_pre_hook(lambda _, x: inputs.append(x)),
        state.discriminator.register_forward_pre_hook(lambda _, x: shown.append(x[0].detach().clone())),
        encoder.register_forward_pre_hook(lambda _, x: passes.append(tuple(x[1]))),
        state.optimizer_g.register_step_pre_hook(
            lambda *_: taken.extend(p.grad.clone() for p in state.generator.parameters() if p.grad is not None)
        ),
    ]
    metrics = trainer.train_step(batch(7, 5))
    for hook in hooks:
        hook.remove()
    assert len(passes) == 2, "the content's features are taken once, and the result's"
    features, codes, strength = inputs[0]
    values = strength.tolist()
    assert values[::2] == [1, 0, values[4]] and values[3] == 1 and 0 < values[1] < 1 and 0 < values[4] < 1
    own = [g.encode_style(encoder(style, ("relu2_1", "relu1_1"))) for style in TENSORS]
    assert codes.shape == (5, 128 + 64, 1, 2)
    which = [min((0, 1), key=lambda i, each=each: (each - own[i][0]).abs().max()) for each in codes]
    for each, index in zip(codes, which, strict=True):
        assert_close(each, own[index][0], steps=2 * (sums(encoder, g) + 46))  # 40 x 52 pixels
    assert {0, 1} == set(which), "another batch: this one has one style alone"
    content = floats(7, 5)
    for layer, have in features.items():
        assert_close(have, encoder(content, (layer,))[layer], steps=2 * sums(encoder))
    result = g({name: value.detach() for name, value in features.items()}, codes, strength)
    full = strength == 1
    real, fake, again = shown
    assert_close(fake, result[full], steps=2 * sums(encoder, g))
    assert torch.equal(again, fake)
    for crop, index in zip(real, torch.tensor(which)[full].tolist(), strict=True):
        red, _, blue = ((crop + 1) / 2).mean((1, 2)).tolist()
        assert (blue > 2 * red) if index == 0 else (red > 2 * blue)

    targets = [grams(encoder, style) for style in TENSORS]
    stacked = {layer: torch.cat([targets[i][layer] for i in which]) for layer in STYLE_LAYERS}
    style = distances(grams(encoder, result), stacked)
    a, b = encoder(result, ("relu2_1",))["relu2_1"], encoder(content, ("relu2_1",))["relu2_1"]
    unit, unit_content = (result + 1) / 2, (content + 1) / 2
    ssim = ops.ssim(unit, unit_content, reduction="none")
    terms = {
        "adversarial": F.softplus(-state.discriminator(result[full])).mean(),
        "style": (strength * style).mean(),
        "content": ((a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3))).mean(),
        "ssim": 1 - ssim.mean(),
        "psnr": (unit - unit_content).square().mean((1, 2, 3)).log10().mean() / 2,
        "tv": result.diff(dim=2).square().mean() + result.diff(dim=3).square().mean(),
        "luminance": luminance_difference(result, content).mean(),
    }
    scaled = {name: getattr(config.loss, name) * term for name, term in terms.items()}
    # What is missing to full strength draws to the photograph, image by image.
    away = [1 - ssim[i] + (result[i] - content[i]).abs().mean() for i in range(5)]
    scaled["missed"] = 4 * torch.stack([(1 - strength[i]) * away[i] for i in range(5)]).mean()
    assert min(scaled["missed"].item(), scaled["style"].item()) > 0.05
    kept = {"content", "ssim", "psnr", "luminance", "missed"}
    loss = sum(((structure if name in kept else 1) * term for name, term in scaled.items()), torch.zeros(()))
    passed = (g, encoder, encoder, state.discriminator)
    assert metrics["loss/g"] == near(loss, *passed)
    assert metrics["loss/style"] == near(style[full].mean(), *passed)
    error = 2 * ssim_error(unit[full], unit_content[full]) + rounding(1, 2 * sums(g, encoder))
    assert metrics["train/ssim"] == pytest.approx(ssim[full].mean().item(), abs=error)
    close(taken, torch.autograd.grad(loss, list(g.parameters())), *passed)


def test_strengths_take_turns(fusion: Make) -> None:
    """The first of a batch is full; the second in turn drawn, none, full: every kind within three batches of two."""
    trainer = Trainer(fusion({"train.steps": 6}))
    seen: list[list[float]] = []
    trainer.state.generator.register_forward_pre_hook(lambda _, x: seen.append(x[2].tolist()))
    for number in range(6):
        trainer.train_step(batch(number))
    assert all(first == 1 for first, _ in seen)
    drawn = [seen[0][1], seen[3][1]]
    assert all(0 < value < 1 for value in drawn) and drawn[0] != drawn[1]
    assert [second for _, second in seen][1:3] == [0, 1] and [second for _, second in seen][4:] == [0, 1]


def test_calibration(fusion: Make, tmp_path: Path) -> None:
    """Before the first step: root mean squares and moments of the photographs, in both networks, kept from then on."""
    config = fusion({"train.steps": 6})
    trainer = Trainer(config, out=tmp_path / "run")
    assert trainer.state.generator.scale == 1 and trainer.state.generator.surface_scale == 1
    trainer.train_step(batch(0))
    features = encoder_of(trainer)(floats(0), ("relu2_1", "relu1_1"))
    deep, surface = features["relu2_1"], features["relu1_1"]
    want = {"scale": deep.square().mean().sqrt(), "surface_scale": surface.square().mean().sqrt()}
    assert not any(torch.isclose(value, torch.ones(()), rtol=0.05) for value in want.values())
    unit = deep / want["scale"]
    means, deviations = unit.mean((0, 2, 3)), (unit.var((2, 3), correction=0) + 1e-5).sqrt().mean(0)
    want["moments.centre"] = torch.cat([means, deviations])
    like = FusionGenerator(**trainer.state.generator.config)
    like.calibrate(features)
    want["moments.unit"] = like.moments.unit
    assert not torch.isclose(like.moments.unit, torch.ones(256)).all()
    trainer.train_step(batch(1))
    trainer.save()
    resumed = Trainer(config, out=tmp_path / "run", resume=True)
    resumed.train_step(batch(2))
    for state in (trainer.state, resumed.state):
        for network in (state.generator, state.ema):
            for name, value in want.items():
                steps = 2 * (sums(encoder_of(trainer)) + 64)  # of 4 x 32 x 32 pixels at most
                assert_close(network.get_buffer(name), value, steps=steps)


@pytest.mark.parametrize("mode", ["adain", "convex", "additive", "mlp", "wct"])
def test_resumed(fusion: Make, tmp_path: Path, mode: str) -> None:
    config = fusion({"model.fusion": mode, "train.steps": 4, "quality.target_ssim": 0.5})
    whole, part = Trainer(config), Trainer(config, out=tmp_path / "run")
    for number in range(2):
        whole.train_step(batch(number))
        part.train_step(batch(number))
    part.save()
    resumed = Trainer(config, out=tmp_path / "run", resume=True)
    for number in (2, 3):
        assert untimed([whole.train_step(batch(number))]) == untimed([resumed.train_step(batch(number))])
    # Only a run folder keeps what the run was made from.
    assert differences(*({**trainer.state.state_dict(), "inputs": None} for trainer in (whole, resumed))) == []


# --- what is learned


@pytest.fixture(scope="module")
def learned(photos: Path, styles: Path) -> Trainer:
    """Two styles and one batch by heart."""
    from helpers.tiny_runs import TINY

    from fastgan.config import load_config

    fields = {
        **TINY,
        **FUSION,
        "data.content": str(photos),
        "data.style": str(styles),
        "loss.adversarial": 0,
        # Untrained features of the photograph weigh little: ninety steps are for the styles.
        "loss.content": 0.03,
        "loss.luminance": 0,
        "loss.style_window_weight": 0,
        "loss.ssim": 1.0,
        "model.generator.width": 8,
        "optim.generator.lr": 0.01,
        "train.steps": 90,
        "train.seed": 1,
    }
    trainer = Trainer(load_config(overrides=[("test", name, value) for name, value in fields.items()]))
    images = batch(0, 3)
    for _ in range(90):
        trainer.train_step(images)
    return trainer


def test_style_matters(learned: Trainer) -> None:
    stylizer, encoder = learned.model(), encoder_of(learned)
    assert isinstance(stylizer, Stylizer)
    x = (floats(0, 3) + 1) / 2
    results = [stylizer(x, style=image) for image in STYLES.values()]
    assert (results[0] - results[1]).abs().mean() > 0.05
    targets = [grams(encoder, style) for style in TENSORS]
    far = torch.stack(
        [torch.stack([distances(grams(encoder, r * 2 - 1), target).mean() for target in targets]) for r in results]
    )
    assert far[0, 0] < 0.7 * far[0, 1] and far[1, 1] < 0.7 * far[1, 0], far
    untouched = [distances(grams(encoder, x * 2 - 1), target).mean() for target in targets]
    assert far[0, 0] < untouched[0] and far[1, 1] < untouched[1]


def test_strength_is_a_way(learned: Trainer) -> None:
    """The stronger, the nearer to the style and the farther from the photograph, on average."""
    stylizer, encoder = learned.model(), encoder_of(learned)
    assert isinstance(stylizer, Stylizer)
    x = (floats(0, 3) + 1) / 2
    style, structure = [], []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        each = [stylizer(x, style=image, strength=strength) for image in STYLES.values()]
        far = [
            distances(grams(encoder, r * 2 - 1), grams(encoder, s)).mean().item()
            for r, s in zip(each, TENSORS, strict=True)
        ]
        style.append(float(np.mean(far)))
        structure.append(float(np.mean([ops.ssim(r, x).item() for r in each])))
    assert style == sorted(style, reverse=True) and style[-1] < 0.8 * style[0], style
    assert structure[0] > structure[-1], structure


def test_measures_pair_photographs_with_styles(fusion: Make, tmp_path: Path) -> None:
    """Photograph i in style i mod n, on the way and at the end."""
    for number in range(24):
        save_picture(picture(40, 48, number), tmp_path / f"{number}.png")
    trainer = Trainer(fusion({"data.val_images": 3, "data.content": str(tmp_path)}))
    trainer.train_step(batch(0))
    stylizer, held = trainer.model(), trainer.task.val_images
    encoder = encoder_of(trainer)
    assert isinstance(stylizer, Stylizer) and len(held) == 3
    pictures = list(STYLES.values())
    want, other = [], []
    for number, image in enumerate(held):
        result = stylizer(image, style=pictures[number % 2])
        x = torch.from_numpy(result).permute(2, 0, 1)[None].float() / 127.5 - 1
        far = [distances(grams(encoder, x), grams(encoder, style)).item() for style in TENSORS]
        want.append(far[number % 2])
        other.append(far[1 - number % 2])
    measured = trainer.task.evaluate(trainer.state).values["style_distance"]
    assert [close_distance(each, encoder) for each in want] == measured
    assert all(abs(a / b - 1) > 0.05 for a, b in zip(want, other, strict=True)), "which style it is would not show"
    observed = trainer.task.evaluate_quick(trainer.state)["val/style_distance"]
    assert observed == close_distance(float(np.mean(want)), encoder)
    start = trainer.task.evaluate_baseline().values["style_distance"]
    plain = [torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for image in held]
    targets = [style_grams(encoder, [style]) for style in TENSORS]
    expected = [style_distance(encoder(x, STYLE_LAYERS), targets[i % 2]).item() for i, x in enumerate(plain)]
    assert [close_distance(each, encoder) for each in expected] == start


# --- pictures


IMAGE = picture(37, 50, 5)


def test_a_style_may_be_given_in_any_way(learned: Trainer) -> None:
    stylizer, red = learned.model(), STYLES["red"]
    assert isinstance(stylizer, Stylizer) and stylizer.takes_any_style
    want = stylizer(IMAGE, style=red)
    unit = torch.from_numpy(red).permute(2, 0, 1).float() / 255
    assert np.array_equal(stylizer(IMAGE, style=Image.fromarray(red)), want)
    assert np.array_equal(stylizer(IMAGE, code=stylizer.code(red)), want)
    for tensor in (unit, unit[None], unit.double()):
        assert np.abs(stylizer(IMAGE, style=tensor).astype(int) - want).max() <= 1
    assert np.array_equal(stylizer(IMAGE), stylizer(IMAGE, style=STYLES["blue"]))  # the first of its training
    assert np.abs(stylizer(IMAGE).astype(int) - want).mean() > 5


def test_a_large_style_is_reduced_as_in_training(learned: Trainer) -> None:
    """To a short side of 384, whatever kind it is: arrays and tensors mean the same."""
    stylizer, large = learned.model(), picture(860, 1000, 8)
    assert isinstance(stylizer, Stylizer)
    array = stylizer.code(large)
    tensor = stylizer.code(torch.from_numpy(large).permute(2, 0, 1).float() / 255)
    reduced = stylizer.code(Image.fromarray(large).resize((446, 384), Image.Resampling.BICUBIC))
    whole = style_code(image_to_tensor(large), encoder_of(learned), stylizer.generator)
    # The filters differ, in what they leave of the finest detail: by far less than no reduction does.
    apart = (whole - array).abs().mean()
    assert (tensor - array).abs().mean() < 0.25 * apart and (reduced - array).abs().mean() < 0.25 * apart


@pytest.mark.parametrize("bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), torch.zeros(4, 9, 9), "red.png"])
def test_what_is_no_style(learned: Trainer, bad: Any) -> None:
    stylizer = learned.model()
    assert isinstance(stylizer, Stylizer)
    with pytest.raises(TypeError, match="a style"):
        stylizer(IMAGE, style=bad)


def test_strength_may_be_each_images_own(learned: Trainer) -> None:
    stylizer = learned.model()
    assert isinstance(stylizer, Stylizer)
    x = (floats(2, 3) + 1) / 2
    strength = torch.tensor([0.0, 0.4, 1.0])
    steps = 2 * sums(encoder_of(learned), stylizer.generator)
    both = stylizer(x, strength=strength)
    for index in range(3):
        assert_close(both[index], stylizer(x[index], strength=strength[index].item()), steps=steps, scale=1.0)
    blend = 0.6 * stylizer(x[1], strength=0) + 0.4 * stylizer(x[1])
    assert (both[1] - blend).abs().mean() > rounding(1, steps)  # features are fused: no blend of two pictures
    with pytest.raises(ValueError, match="strength must be between 0 and 1"):
        stylizer(x, strength=torch.tensor([0.0, 0.4, 1.4]))


@pytest.mark.parametrize("mode", ["adain", "additive", "mlp", "convex", "wct"])
@pytest.mark.parametrize("size", [(110, 151), (77, 190)])
def test_tiles_meet_without_seams(fusion: Make, mode: str, size: tuple[int, int]) -> None:
    trainer = Trainer(fusion({"model.fusion": mode}))
    trainer.train_step(batch(0))
    made = trainer.model()
    assert isinstance(made, Stylizer)
    tile, code = made.min_tile, made.code(STYLES["red"])
    x = torch.from_numpy(picture(*size, 4)).permute(2, 0, 1)[None].float() / 127.5 - 1
    strength = torch.tensor([0.7])
    tiled = made.run(x, strength, tile, code)
    with torch.inference_mode():
        frozen = made._with_frozen_norms(x, tile, code, strength)
        at_once = made._forward(x, code, strength, None, frozen)
    steps = 2 * sums(encoder_of(trainer), made.generator)
    assert_close(tiled, at_once, steps=steps, scale=1.0)
    assert all(getattr(module, "frozen", None) is None for module in made.generator.modules())
    two = torch.cat([x, x.flip(3)])
    codes = torch.cat([code, made.code(STYLES["blue"])])
    both = made.run(two, torch.tensor([0.7, 1.0]), tile, codes)
    assert_close(both[:1], tiled, steps=steps, scale=1.0)
    assert_close(both[1:], made.run(two[1:], 1.0, tile, codes[1:]), steps=steps, scale=1.0)


def test_round_trip(fusion: Make, tmp_path: Path) -> None:
    trainer = Trainer(fusion(), out=tmp_path / "run")
    for number in range(3):
        trainer.train_step(batch(number))
    trainer.save()
    made, loaded = trainer.model(), fastgan.load(tmp_path / "run", device="cpu", precision="fp32")
    assert isinstance(made, Stylizer) and isinstance(loaded, Stylizer)
    models = [loaded, copy.deepcopy(made), copy.deepcopy(loaded), pickle.loads(pickle.dumps(made))]
    models.append(pickle.loads(pickle.dumps(loaded)))
    for style in (None, STYLES["red"]):
        want = made(IMAGE, style=style)
        assert all(np.array_equal(model(IMAGE, style=style), want) for model in models)
        # Once the style of the training is encoded, too.
        assert np.array_equal(pickle.loads(pickle.dumps(copy.deepcopy(made)))(IMAGE, style=style), want)


def test_a_model_of_one_style_takes_no_other(tmp_path: Path) -> None:
    save_model(tmp_path / "model", FastGenerator(4, 1), {"size": 32})
    loaded = fastgan.load(tmp_path, device="cpu", precision="fp32")
    assert isinstance(loaded, Stylizer) and not loaded.takes_any_style
    for given in ({"style": STYLES["red"]}, {"code": torch.zeros(1, 192, 1, 2)}):
        with pytest.raises(ValueError, match=r"train with model\.name=fusion"):
            loaded(IMAGE, **given)  # type: ignore[arg-type]
