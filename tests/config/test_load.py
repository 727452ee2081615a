"""The config: bounds, precedence, and errors that name what the user typed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.tiny_runs import flat

from fastgan.config import Config, load_config, parse_set
from fastgan.config.load import RENAMED
from fastgan.config.yaml_core import read_yaml
from fastgan.errors import InputError


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = load_config(overrides=[("x", "quality.target_ssim", 0.5), ("x", "loss.content_layer", "relu2_1")])
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert load_config(file) == load_config(str(file)) == config != Config()
    assert load_config(base=yaml.safe_load(config.to_yaml())) == config


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: {batch: 7, size: 64}\n")
    base = {"data": {"batch": 3, "size": 48, "short_side": 100}}
    config = load_config(file, [("--size", "data.size", 96)], base)
    assert (config.data.size, config.data.batch, config.data.short_side) == (96, 7, 100)
    assert config.data.val_images == Config().data.val_images
    assert base == {"data": {"batch": 3, "size": 48, "short_side": 100}}  # the caller's own


def test_every_field_can_be_given_alone() -> None:
    """A section given in part keeps its other defaults."""
    leaves = [(name[1:], value) for name, value in flat(Config().model_dump())]
    assert len(leaves) > 40 and "optim.generator.lr" in dict(leaves)
    for field, value in leaves:
        assert load_config(overrides=[("--set", field, value)]) == Config(), field
    assert load_config(base={"optim": {"generator": {"lr": 0.5}}}).optim.generator.beta1 == 0.9


def test_last_override_wins() -> None:
    overrides = [("--batch", "data.batch", 2), ("--set data.batch=5", "data.batch", 5)]
    assert load_config(overrides=overrides).data.batch == 5


def test_a_rate_may_be_written_as_one_does() -> None:
    assert load_config(overrides=[parse_set("optim.generator.lr=1e-3")]).optim.generator.lr == 0.001


def test_a_date_is_a_text() -> None:
    for text in ("2020-01-02", "2020-13-45"):
        assert load_config(overrides=[parse_set(f"data.content={text}")]).data.content == text


def test_a_conflict_names_what_was_typed(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("train: {steps: 3, minutes: 1}")
    with pytest.raises(InputError) as caught:
        load_config(file, overrides=[("--set train.seed=3", "train.seed", 3)])
    assert str(caught.value).startswith(f"{file}: line 1: train: ")


def test_a_psnr_target_brings_its_term() -> None:
    config = load_config(overrides=[("--target-psnr", "quality.target_psnr", 15)])
    assert config.loss.psnr > 0
    assert load_config().loss.psnr == 0


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("a.b=1", "a.b", 1),
        ("a=0.001", "a", 0.001),
        ("a=1e5", "a", 1e5),
        ("a=0200", "a", 200),
        ("a=1:30", "a", "1:30"),
        ("a=yes", "a", "yes"),
        ("a=0x1F", "a", 31),
        ("a=1_000", "a", "1_000"),
        ("a=[relu1_1, relu2_1]", "a", ["relu1_1", "relu2_1"]),
        ("a=true", "a", True),
        ("a=null", "a", None),
        ("a=x=y", "a", "x=y"),
        (" a =demo", "a", "demo"),
    ],
)
def test_set_reads_yaml(text: str, field: str, value: Any) -> None:
    said, got_field, got = parse_set(text)
    assert (got_field, got, type(got)) == (field, value, type(value)) and said == f"--set {text}"


@pytest.mark.parametrize("text", ["a", "=1", " =1", "a=[1", "a={b: c: d}", "a=&x [*x]", "a={b: 1, b: 2}", "a=*x"])
def test_bad_set(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_set(text)
    assert f"--set {text}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("data.batch", "four", ["data.batch", "valid integer", "'four'"]),
        ("data.batch", 0, ["data.batch", "greater than or equal to 1", "got 0"]),
        ("data.batch", 1.5, ["data.batch", "integer"]),
        ("data.size", 31, ["data.size", "32"]),
        ("data.siez", 64, ["data.siez", "no field", "short_side"]),
        ("datas.size", 64, ["datas", "no field", "data", "loss", "checkpoint"]),
        ("data.size.x", 64, ["data.size"]),
        ("data", 3, ["data"]),
        ("model.name", "fussion", ["model.name", "must be one of fast, ", "'fussion'"]),
        ("loss.style", float("nan"), ["loss.style", "finite"]),
        ("loss.style", -1, ["loss.style", "greater than or equal to 0"]),
        ("optim.generator.lr", 0, ["optim.generator.lr", "greater than 0"]),
        ("quality.target_ssim", 1.0, ["quality.target_ssim", "less than 1"]),
        ("train.precision", "fp8", ["train.precision", "'bf16'"]),
        ("checkpoint.keep", 0, ["checkpoint.keep"]),
        ("model.generator.widht", 4, ["model.generator.widht", "width, depth"]),
    ],
)
def test_errors_name_the_field_and_what_is_allowed(field: str, value: Any, says: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(overrides=[("--what-was-typed", field, value)])
    message = str(caught.value)
    assert message.startswith("--what-was-typed: ") and "\n" not in message
    assert all(part in message for part in says), message

    nested: Any = value
    for part in reversed(field.split(".")):
        nested = {part: nested}
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(nested))
    with pytest.raises(InputError) as caught:
        load_config(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and "\n" not in message
    assert all(part in message for part in says), message


def test_an_error_names_the_option_at_fault_among_several() -> None:
    good = [("--size", "data.size", 64), ("--batch", "data.batch", 0), ("--seed", "train.seed", 1)]
    with pytest.raises(InputError, match=r"^--batch: data\.batch"):
        load_config(overrides=good)


def test_one_target_and_one_length() -> None:
    with pytest.raises(InputError, match="give one target, got target_ssim and target_psnr"):
        load_config(base={"quality": {"target_ssim": 0.5, "target_psnr": 20}})
    for pair in (("steps", "minutes"), ("steps", "epochs"), ("epochs", "minutes")):
        with pytest.raises(InputError, match="one of steps, epochs and minutes"):
            load_config(base={"train": dict.fromkeys(pair, 1)})


@pytest.mark.parametrize("content", [b"a: [1", b"- 1\n- 2\n", b"text", b"\xff\xfe\x00", b"a: b: c"])
def test_bad_yaml_files(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_missing_yaml_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="cannot read this config file"):
            load_config(path)


def test_empty_yaml_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("")
    assert load_config(file) == Config()


def test_defaults_are_the_contract() -> None:
    config = Config()
    assert (config.data.size, config.data.batch, config.data.short_side, config.train.seed) == (256, 4, 384, 0)
    assert (config.data.content, config.data.style, config.model.name, config.task) == (
        "demo",
        "demo",
        "fast",
        None,
    )
    assert config.model.features == "vgg19" and config.train.precision == "auto"
    assert config.quality.target_ssim is None and config.quality.target_psnr is None


def test_two_configs_share_nothing() -> None:
    one, other = Config(), Config()
    one.loss.style = 123.0
    assert other.loss.style != 123.0 and Config().loss.style != 123.0


def test_renamed_fields_are_named(tmp_path: Path) -> None:
    """A run folder from before the renaming is refused in one line that says what the fields are called now."""
    file = tmp_path / "config.yaml"
    file.write_text("data: {held_out: 4}\nquality: {every: 10}\n")
    with pytest.raises(InputError) as refusal:
        load_config(file)
    assert str(refusal.value) == (
        f"{file}: has fields of an older fastgan: data.held_out is now data.val_images, quality.every is now eval.every"
    )
    with pytest.raises(InputError, match=r"^--set optim.final_lr=0: .*optim.final_lr is now optim.min_lr_ratio$"):
        load_config(overrides=[("--set optim.final_lr=0", "optim.final_lr", 0)])


@pytest.mark.parametrize("field", RENAMED.values())
def test_new_names_exist(field: str) -> None:
    section, name = field.split(".")
    assert name in type(getattr(Config(), section)).model_fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.steps", "200"),
        ("train.steps", 3.0),
        ("train.steps", True),
        ("loss.psnr", True),
        ("loss.psnr", "1"),
        ("train.minutes", "1:30"),
        ("log.tensorboard", 1),
        ("log.tensorboard", "off"),
        ("train.compile", 1),
        ("train.cuda_graphs", 0),
        ("train.compile", "false"),
        ("data.style", 12),
        ("data.content", ""),
        ("model.features", "a\0b"),
        ("loss.extra.term", "1"),
    ],
)
def test_a_value_of_another_type_is_refused(field: str, value: Any) -> None:
    """A text is no number, a number no truth value: what a program or a file says is not guessed at."""
    with pytest.raises(InputError, match=rf"^typed: {field}[:.]"):
        load_config(overrides=[("typed", field, value)])


def test_numbers_of_numpy_are_taken() -> None:
    config = load_config(
        base={"train": {"steps": np.int64(5), "seed": np.uint32(7)}, "loss": {"style": np.float32(1.5)}}
    )
    assert (config.train.steps, config.train.seed, config.loss.style) == (5, 7, 1.5)
    assert {type(config.train.steps), type(config.loss.style)} == {int, float}
    assert load_config(base=read_yaml(config.to_yaml())[0]) == config
    assert load_config(base={"loss": {"augment": ("color",)}}).loss.augment == ["color"]


def test_paths_are_taken(tmp_path: Path) -> None:
    """As they are meant: a ``Path`` is never a reserved word."""
    for config in (
        load_config(base={"data": {"content": tmp_path, "style": Path("demo")}, "model": {"features": Path("vgg19")}}),
        Config(data={"content": tmp_path, "style": Path("demo")}, model={"features": Path("vgg19")}),
    ):
        assert config.data.content == str(tmp_path)
        assert (config.data.style, config.model.features) == ("./demo", "./vgg19")


def test_reserved_words_are_saved_as_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the working folder; a path that is written as one is saved whole."""
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "vgg19", "torchvision", "random"):
        (tmp_path / name).mkdir()
    for features in ("vgg19", "torchvision", "random"):
        config = Config(model={"features": features})
        saved = load_config(base=read_yaml(config.to_yaml())[0])
        assert saved == config and (saved.data.content, saved.data.style) == ("demo", "demo")
    paths = {"data": {"content": "./demo", "style": "vgg19"}, "model": {"features": "demo"}}
    saved = load_config(base=read_yaml(load_config(base=paths).to_yaml())[0])
    assert (saved.data.content, saved.data.style, saved.model.features) == (
        str(tmp_path / "demo"),
        str(tmp_path / "vgg19"),
        str(tmp_path / "demo"),
    )


def test_errors_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for text, line in {
        "data:\n  size: 64\n  batch: 0\n": 3,
        "data:\n  size: 64\n  bacth: 1\n": 3,
        "data: {size: 64}\nloss:\n  augment: [color, sepia]\n": 3,
        "data: {size: 64}\n\ndata: {batch: 2}\n": 3,
        "data:\n  size: [\n": 3,
        "model:\n  name: fast\n  fusion: mlp\n": 3,
    }.items():
        file.write_text(text)
        with pytest.raises(InputError, match=rf"^{file}: line {line}: "):
            load_config(file)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load_config(Path("/dev/zero"))


def test_a_mapping_that_holds_itself() -> None:
    base: dict[str, Any] = {}
    base["data"] = base
    with pytest.raises(InputError, match="holds itself"):
        load_config(base=base)
