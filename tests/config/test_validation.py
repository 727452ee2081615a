"""Fields that do not go together: refused by what was typed, and what is proposed instead works."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastgan.config import Config, load_config, parse_set
from fastgan.errors import InputError
from fastgan.models import GENERATORS

#: Options of the command line that the tests type, as fastgan.cli.train names them.
OPTIONS = {
    "--model": "model.name",
    "--fusion": "model.fusion",
    "--style": "data.style",
    "--batch": "data.batch",
    "--target-ssim": "quality.target_ssim",
    "--target-psnr": "quality.target_psnr",
    "--target-coverage": "quality.target_coverage",
    "--target-lpips": "quality.target_lpips",
}
MODELS = ("fast", "fusion", "article", "dcgan")
PRESETS = {spec.name: spec.preset for spec in GENERATORS.values() if spec.preset}
Typed = tuple[str, str, Any]


def typed(text: str) -> list[Typed]:
    """``--model dcgan --set loss.tv=1`` as load_config gets it."""
    words, given = text.split(), []
    for option, value in zip(words[::2], words[1::2], strict=True):
        given.append(parse_set(value) if option == "--set" else (option, OPTIONS[option], yaml.safe_load(value)))
    return given


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_config(overrides=typed(text))
    message = str(caught.value)
    assert "\n" not in message
    return message


#: What is typed; which part of it the line begins with; the field at fault; what may be typed instead: added, or in
#: place of an option of the same field ("" takes the part at fault away).
CASES: list[tuple[str, str, str, list[str]]] = [
    (
        "--model fusion --set model.fusion=null",
        "--set model.fusion=null",
        "model.fusion",
        [f"--set model.fusion={mode}" for mode in ("adain", "convex", "additive", "mlp", "wct")],
    ),
    ("--fusion adain", "--fusion", "model.fusion", ["--model fusion"]),
    ("--model article --fusion mlp", "--fusion", "model.fusion", ["--model fusion"]),
    ("--model dcgan --fusion mlp", "--fusion", "model.fusion", ["--model fusion"]),
    ("--set model.generator.stem=null", "--set model.generator.stem=null", "model.generator.stem", [""]),
    (
        "--model fusion --set model.generator.layer=null",
        "--set model.generator.layer=null",
        "model.generator.layer",
        [""],
    ),
    (
        "--model dcgan --set model.generator.z_dim=null",
        "--set model.generator.z_dim=null",
        "model.generator.z_dim",
        [""],
    ),
    ("--set model.generator.z_dim=5", "--set model.generator.z_dim=5", "model.generator.z_dim", ["", "--model dcgan"]),
    (
        "--set model.generator.layer=relu3_1",
        "--set model.generator.layer=relu3_1",
        "model.generator.layer",
        ["", "--model fusion"],
    ),
    (
        "--model article --set model.generator.stem=conv9",
        "--set model.generator.stem=conv9",
        "model.generator.stem",
        ["", "--model fast"],
    ),
    ("--model fusion --batch 1", "--batch", "data.batch", ["--batch 2"]),
    (
        "--set model.discriminator.norm=batch",
        "--set model.discriminator.norm=batch",
        "model.discriminator.norm",
        ["", "--set model.discriminator.name=dcgan"],
    ),
    (
        "--set data.size=32 --set loss.style_window_weight=0.3 --set loss.style_windows=5",
        "--set loss.style_windows=5",
        "loss.style_windows",
        ["", "--set loss.style_windows=4", "--set loss.style_window_weight=0"],
    ),
    (
        "--set loss.adversarial=0.1 --set loss.kind=wgan",
        "--set loss.kind=wgan",
        "loss.kind",
        [
            "--set optim.discriminator.clip_weights=0.01",
            "--set loss.r1=1",
            "--set model.discriminator.spectral_norm=true",
        ],
    ),
    (
        "--model dcgan --set loss.kind=wgan",
        "--set loss.kind=wgan",
        "loss.kind",
        [
            "--set optim.discriminator.clip_weights=0.01",
            "--set loss.r1=1 --set model.discriminator.norm=none",
            "--set model.discriminator.spectral_norm=true",
        ],
    ),
    (
        "--model dcgan --set loss.r1=1",
        "--set loss.r1=1",
        "loss.r1",
        ["--set loss.r1=1 --set model.discriminator.norm=none", "--set loss.r1=0"],
    ),
    (
        "--set loss.adversarial=0 --set loss.r1=1",
        "--set loss.r1=1",
        "loss.r1",
        ["--set loss.r1=1 --set loss.adversarial=0.1", "--set loss.r1=0"],
    ),
    (
        "--target-ssim 0.5 --set loss.content=0 --set loss.luminance=0",
        "--set loss.content=0",
        "loss.content",
        ["--set loss.content=1"],
    ),
    (
        "--set loss.augment=[color,color]",
        "--set loss.augment=[color,color]",
        "loss.augment",
        ["--set loss.augment=[color]"],
    ),
    (
        "--set loss.kind=hinge --set loss.real_label=0.9",
        "--set loss.real_label=0.9",
        "loss.real_label",
        ["--set loss.kind=bce", "--set loss.kind=lsgan"],
    ),
    (
        "--set loss.fake_label=0.1 --set loss.adversarial=0.1 --set loss.kind=wgan --set loss.r1=1",
        "--set loss.fake_label=0.1",
        "loss.fake_label",
        ["--set loss.kind=bce", "--set loss.kind=lsgan"],
    ),
    ("--set loss.real_label=0.0", "--set loss.real_label=0.0", "loss.real_label", ["--set loss.real_label=0.1"]),
    ("--set loss.fake_label=1.0", "--set loss.fake_label=1.0", "loss.real_label", ["--set loss.fake_label=0.1"]),
    ("--set data.style=null", "--set data.style=null", "data.style", ["--style demo", "--style painting.jpg"]),
    ("--model fusion --set data.style=null", "--set data.style=null", "data.style", ["--style demo"]),
    ("--model dcgan --style painting.jpg", "--style", "data.style", [""]),
    *(
        (
            f"--model dcgan --target-{name} 0.5",
            f"--target-{name}",
            f"quality.target_{name}",
            ["", "--model fast", "--model fusion", "--model article"],
        )
        for name in ("ssim", "psnr", "coverage", "lpips")
    ),
    *(
        (
            f"--model dcgan --set loss.{name}=0.5",
            f"--set loss.{name}=0.5",
            f"loss.{name}",
            ["", f"--set loss.{name}=0", "--model fast"],
        )
        for name in ("content", "style", "ssim", "psnr", "luminance", "tv")
    ),
    (
        "--model dcgan --set loss.adversarial=0",
        "--set loss.adversarial=0",
        "loss.adversarial",
        ["", "--set loss.adversarial=0.5"],
    ),
]


@pytest.mark.parametrize(("text", "said", "field", "instead"), CASES, ids=[case[0] for case in CASES])
def test_refused_by_name_and_the_way_out_works(text: str, said: str, field: str, instead: list[str]) -> None:
    message = refusal(text)
    assert message.startswith(f"{said}: {field}: ") and len(message) > len(f"{said}: {field}: ") + 20
    for more in instead:
        kept = [each for each in typed(text) if more or each[0] != said]
        load_config(overrides=[*kept, *typed(more)])  # a later one of a field is what counts


SUGGESTED = re.compile(r"[a-z]\w*(?:\.\w+)+=[\w.]+")


def suggestions(message: str) -> Iterator[str]:
    """The settings that a message suggests: each ``field=value`` in it, and each of "a, b or c"."""
    said = message.split(": ", 2)[2]
    for found in SUGGESTED.finditer(said):
        option = found.group().replace("FILE", "demo")
        yield option
        head = option[: max(option.rfind("="), option.rfind(" ")) + 1]
        more = re.match(r"((?:, \w+)*),? or (?!more|demo)(\w+)(?=[;,]|$)", said[found.end() :])
        for word in re.findall(r"\w+", " ".join(more.groups())) if more else ():
            yield head + word


@pytest.mark.parametrize("text", [case[0] for case in CASES])
def test_every_setting_that_a_message_names_is_accepted(text: str) -> None:
    message = refusal(text)
    for option in suggestions(message):
        load_config(overrides=[*typed(text), parse_set(option)])


def test_suggestions_are_found() -> None:
    """The parser above finds the suggestions of real messages."""
    wgan = list(suggestions(refusal("--set loss.adversarial=0.1 --set loss.kind=wgan")))
    assert wgan == [
        "optim.discriminator.clip_weights=0.01",
        "model.discriminator.spectral_norm=true",
        "loss.r1=1",
    ]
    label = refusal("--set loss.kind=hinge --set loss.real_label=0.9")
    assert list(suggestions(label)) == ["loss.kind=bce", "loss.kind=lsgan"]
    target = refusal("--model dcgan --target-ssim 0.5")
    assert list(suggestions(target)) == ["model.name=fast", "model.name=article", "model.name=fusion"]
    assert list(suggestions(refusal("--fusion adain"))) == ["model.name=fusion"]
    assert list(suggestions(refusal("--model fusion --batch 1"))) == ["data.batch=2"]
    assert list(suggestions(refusal("--set data.style=null"))) == ["data.style=demo"]


def test_wgan_without_an_adversarial_part_needs_no_bound() -> None:
    load_config(overrides=typed("--set loss.kind=wgan"))


def test_a_file_at_fault_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {name: dcgan}\nquality: {target_ssim: 0.5}\n")
    with pytest.raises(InputError, match=re.escape(f"{file}: line 2: quality.target_ssim: the model dcgan")):
        load_config(file)
    with pytest.raises(InputError, match=re.escape("config: quality.target_ssim: the model dcgan")):
        load_config(base=yaml.safe_load(file.read_text()))


# --- recipes


def of(name: str, *more: Typed) -> Config:
    return load_config(overrides=[("--model", "model.name", name), *more])


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_every_model_has_its_defaults() -> None:
    plain = dict(leaves(of("fast").model_dump()))
    assert dict(leaves(Config().model_dump())) == plain and set(PRESETS) == {"fusion", "article", "dcgan"}
    for name, preset in PRESETS.items():
        expected = dict(leaves(preset))
        have = dict(leaves(of(name).model_dump()))
        assert {field: have[field] for field in expected} == expected
        differing = {field for field in have if have[field] != plain[field]}
        assert differing <= {"model.name", "model.generator.stem", *expected} and len(differing) > 3


#: Another value of each kind of field that a recipe sets; where one alone would be refused, with what goes with it.
OTHER: dict[str, Any] = {
    "model.fusion": "mlp",
    "model.generator.layer": "relu4_1",
    "model.discriminator.name": "patch",
    "model.discriminator.norm": "instance",
    "model.discriminator.depth": 4,
    "loss.augment": ["cutout"],
}


@pytest.mark.parametrize("name", PRESETS)
def test_defaults_are_overridden_field_by_field(name: str) -> None:
    base = dict(leaves(of(name).model_dump()))
    fixed = {"model.generator.stem", "data.style", "loss.content", "loss.style", "loss.ssim"}
    for field, value in leaves(PRESETS[name]):
        if field in fixed:
            continue
        other = OTHER.get(
            field, value * 2 if isinstance(value, int) else value / 2 if isinstance(value, float) else None
        )
        changes = {field: other}
        if (name, field) == ("dcgan", "model.discriminator.name"):
            changes["model.discriminator.norm"] = None
        have = dict(leaves(of(name, *(("test", key, change) for key, change in changes.items())).model_dump()))
        assert have == {**base, **changes}, field


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    """The config.yaml of a run is the whole of it, as a file and as a base; what is typed then still counts."""
    config = of(name, ("--set", "optim.generator.lr", 0.0123), ("--set", "loss.lambda_d", 2.0))
    text = config.to_yaml()
    assert load_config(base=yaml.safe_load(text)) == config
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml") == config
    again = load_config(overrides=typed("--batch 7"), base=yaml.safe_load(text))
    assert again.data.batch == 7 and again.optim.generator.lr == 0.0123
    assert dict(leaves(again.model_dump())) == {**dict(leaves(config.model_dump())), "data.batch": 7}


@pytest.mark.parametrize("discriminator", ["patch", "article", "dcgan"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_with_every_discriminator(model: str, discriminator: str) -> None:
    config = of(model, ("--set", "model.discriminator.name", discriminator))
    assert (config.model.name, config.model.discriminator.name) == (model, discriminator)
