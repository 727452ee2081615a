"""Training of a network for any style: variants of styles, and the photograph at strength 0."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_runs import batch, picture, save_picture

from fastgan.config import Config
from fastgan.errors import InputError
from fastgan.training import Trainer

Make = Callable[..., Config]
FUSION: dict[str, Any] = {"model.name": "fusion", "model.generator.stem": None, "model.generator.layer": "relu2_1"}


@pytest.fixture
def make(tiny: Make, tmp_path: Path) -> Make:
    for number in range(2):
        save_picture(picture(44, 40, number), tmp_path / "styles" / f"{number}.png")
    return lambda fields=None: tiny({**FUSION, "data.style": str(tmp_path / "styles"), **(fields or {})})


def test_the_photograph_at_strength_0_has_a_weight_of_its_own(make: Make) -> None:
    def loss(**weights: float) -> float:
        trainer = Trainer(make({f"loss.{name}": value for name, value in weights.items()}))
        return trainer.train_step(batch(0, 4))["loss/g"]

    without, with_one, with_three = (loss(ssim=0.0, identity=weight) for weight in (0.0, 1.0, 3.0))
    assert without < with_one < with_three
    assert math.isclose(with_three - without, 3 * (with_one - without), rel_tol=1e-4)


def test_variants_are_trained_on_and_not_measured_nor_saved(make: Make, tmp_path: Path) -> None:
    trainer = Trainer(make({"data.style_variants": 3}), out=tmp_path / "run")
    task: Any = trainer.task
    assert len(task.styles) == 2 and len(task.training_styles) == 5
    drawn: set[int] = set()
    real = task.training_styles.targets
    task.training_styles.targets = lambda indices: drawn.update(indices) or real(indices)
    for number in range(8):
        assert math.isfinite(trainer.train_step(batch(number, 4))["loss/g"])
    assert drawn == set(range(5))
    trainer.save()
    assert len(list((tmp_path / "run" / "model" / "styles").iterdir())) == 2


def test_variants_follow_the_seed(make: Make) -> None:
    def images(seed: int) -> list[bytes]:
        task: Any = Trainer(make({"data.style_variants": 2, "train.seed": seed})).task
        return [image.tobytes() for image in task.training_styles.images]

    assert images(1) == images(1)
    assert images(1)[:2] == images(2)[:2] and images(1)[2:] != images(2)[2:]


def test_a_network_of_one_style_has_none(tiny: Make) -> None:
    with pytest.raises(InputError, match=r"data.style_variants: the model fast learns one style"):
        tiny({"data.style_variants": 1})
