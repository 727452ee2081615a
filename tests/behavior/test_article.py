"""The article's own networks, trained and used as the others are (SPEC S11)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_runs import batch, differences, picture, untimed

import fastgan
from fastgan.config import Config, load_config
from fastgan.inference.stylizer import Stylizer
from fastgan.models import ArticleDiscriminator, ArticleGenerator
from fastgan.training import Trainer
from fastgan.training.setup import build_networks

Make = Callable[..., Config]


@pytest.fixture
def article(tiny: Make) -> Make:
    fields = {"model.name": "article", "model.generator.stem": None, "model.discriminator.name": "article"}
    return lambda more=None: tiny({**fields, **(more or {})})


def test_the_articles_sizes() -> None:
    """Its generator has 151,235 parameters, its discriminator at 256 px 327,713 (SPEC S11)."""
    networks = build_networks(load_config(overrides=[("--model", "model.name", "article")]))
    assert isinstance(networks[0], ArticleGenerator) and isinstance(networks[1], ArticleDiscriminator)
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [151_235, 327_713]


def test_it_learns(article: Make) -> None:
    """A photograph by heart: with the structure terms alone its result comes near to it."""
    fields: dict[str, float] = {
        "loss.style": 0,
        "loss.adversarial": 0,
        "loss.content": 0,
        "loss.ssim": 1,
        "loss.psnr": 1,
    }
    fields |= {"model.generator.width": 8, "optim.generator.lr": 0.01, "train.steps": 40}
    trainer = Trainer(article(fields))
    first, *_, last = [trainer.train_step(batch(0)) for _ in range(40)]
    assert last["train/ssim"] > first["train/ssim"] + 0.1 and last["train/psnr"] > first["train/psnr"] + 3


def test_both_networks_learn_and_go_on_to_the_same_bits(article: Make, tmp_path: Path) -> None:
    config = article({"train.steps": 4, "loss.adversarial": 1.0})
    whole, part = Trainer(config), Trainer(config, out=tmp_path / "run")
    before = whole.state.snapshot()
    for number in range(2):
        whole.train_step(batch(number))
        part.train_step(batch(number))
    changed = differences(before, whole.state.state_dict())
    for network in ("generator", "discriminator", "ema"):
        names = [f".{network}.{name}" for name, _ in getattr(whole.state, network).named_parameters()]
        assert set(names) <= set(changed)
    part.save()
    resumed = Trainer(config, out=tmp_path / "run", resume=True)
    for number in (2, 3):
        assert untimed([whole.train_step(batch(number))]) == untimed([resumed.train_step(batch(number))])
    # Only a run folder keeps what the run was made from.
    assert differences(*({**trainer.state.state_dict(), "inputs": None} for trainer in (whole, resumed))) == []


def test_batches_of_another_size_are_refused(article: Make) -> None:
    """Its discriminator ends in a fully connected layer."""
    trainer = Trainer(article())
    with pytest.raises(ValueError, match="a batch has 1 image or more, 32 to 32 px a side"):
        trainer.train_step(batch(0, size=36))


def test_pictures_of_any_size(article: Make, tmp_path: Path) -> None:
    trainer = Trainer(article(), out=tmp_path / "run")
    trainer.train_step(batch(0))
    trainer.save()
    made, loaded = trainer.model(), fastgan.load(tmp_path / "run", device="cpu", precision="fp32")
    assert isinstance(made, Stylizer) and isinstance(loaded, Stylizer)
    for size in ((11, 13), (37, 50), (64, 33), (150, 91)):
        image = picture(*size, 3)
        out = loaded(image)
        assert out.shape == image.shape and np.array_equal(out, made(image))
        assert np.abs(out.astype(int) - image).mean() > 2
    tile = loaded.min_tile
    image = picture(150, 91, 3)  # without norms a tile has nothing to hold: the same picture but for the last bit
    assert max(image.shape) > tile
    assert np.abs(loaded(image, tile=tile).astype(int) - loaded(image)).max() <= 1
