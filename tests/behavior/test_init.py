"""``train.init``: a run that begins with the generator of another."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_runs import batch

import fastgan
from fastgan.config import Config, load_config
from fastgan.errors import InputError
from fastgan.training import Trainer

Make = Callable[..., Config]
FUSION: dict[str, Any] = {"model.name": "fusion", "model.generator.stem": None, "model.generator.layer": "relu2_1"}


@pytest.fixture(params=[{}, FUSION, FUSION | {"model.fusion": "wct"}], ids=["fast", "adain", "wct"])
def make(tiny: Make, request: pytest.FixtureRequest) -> Make:
    return lambda fields=None: tiny({**request.param, **(fields or {})})


@pytest.fixture
def first(make: Make, tmp_path: Path) -> Path:
    """A run of three steps."""
    out = tmp_path / "first"
    trainer = Trainer(make(), out=out)
    for number in range(3):
        trainer.train_step(batch(number))
    trainer.save()
    return out


def test_it_begins_with_the_generator(make: Make, first: Path) -> None:
    """And with nothing else: neither the discriminator nor a moment of an optimizer nor the count of steps."""
    weights = fastgan.load(first, device="cpu", precision="fp32").generator.state_dict()
    trainer, fresh = Trainer(make({"train.init": str(first)})), Trainer(make())
    assert trainer.state.global_step == 0
    for network in (trainer.state.generator, trainer.state.ema):
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name]), name
    for name, value in trainer.state.discriminator.state_dict().items():
        assert torch.equal(value, fresh.state.discriminator.state_dict()[name]), name
    different = [
        name for name, value in fresh.state.generator.state_dict().items() if not torch.equal(value, weights[name])
    ]
    assert different, "nothing was learned that could have been taken over"
    trainer.train_step(batch(0))
    assert trainer.state.global_step == 1
    for name, buffer in trainer.state.generator.named_buffers():  # scales and moments of the first run's photographs
        assert torch.equal(buffer, weights[name]), name


def test_a_resumed_run_does_not_need_it(make: Make, first: Path, tmp_path: Path) -> None:
    out = tmp_path / "second"
    trainer = Trainer(make({"train.init": str(first), "train.steps": 4}), out=out)
    trainer.train_step(batch(5))
    trainer.save()
    want = trainer.state.generator.state_dict()
    config = load_config(out / "config.yaml")
    assert config.train.init == str(first.resolve())
    shutil.rmtree(first)
    resumed = Trainer(config, out=out, resume=True)
    assert resumed.state.global_step == 1
    for name, value in resumed.state.generator.state_dict().items():
        assert torch.equal(value, want[name]), name


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model.generator.width": 6}, "train.init {first}: its network is another: width 4, and the run's has 6"),
        ({"model.generator.depth": 2}, "its network is another: depth 1, and the run's has 2"),
    ],
)
def test_another_network_is_refused(make: Make, first: Path, tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        Trainer(make({**fields, "train.init": str(first)}), out=tmp_path / "second")
    assert says.format(first=first) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "second").exists()


def test_another_fusion_or_model_is_refused(tiny: Make, tmp_path: Path) -> None:
    Trainer(tiny(FUSION), out=tmp_path / "first").save()
    for fields, says in (
        ({}, "model fusion, and the run's has fast"),
        (FUSION | {"model.fusion": "wct"}, "fusion adain, and the run's has wct"),
        (FUSION | {"model.features": "vgg19"}, "features random, and the run's has vgg19"),
    ):
        with pytest.raises(InputError, match=says):
            Trainer(tiny({**fields, "train.init": str(tmp_path / "first")}))


def test_no_model_is_refused(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder; give a run folder"):
        Trainer(tiny({"train.init": str(tmp_path / "none")}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_weights_are_refused(tiny: Make, tmp_path: Path) -> None:
    Trainer(tiny(), out=tmp_path / "first").save()
    file = tmp_path / "first" / "model" / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        Trainer(tiny({"train.init": str(tmp_path / "first")}))
