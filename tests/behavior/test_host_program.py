"""Within someone else's program: what it has set for all of torch does not change what is computed here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_runs import batch, differences, floats, picture

import fastgan
from fastgan.config import Config
from fastgan.evaluation import NoiseEvaluator
from fastgan.evaluation.evaluator import Evaluator, StyleReference
from fastgan.inference import Sampler
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.training import Trainer

Make = Callable[..., Config]
MODELS: dict[str, dict[str, Any]] = {
    "fast": {"loss.r1": 1.0, "loss.augment": ["color", "translation", "cutout"]},
    "fusion": {"model.name": "fusion", "model.generator.stem": None, "model.generator.layer": "relu2_1"},
    "dcgan": {"model.name": "dcgan", "model.generator.z_dim": 6, "model.discriminator.depth": 1, "data.style": None},
}


@contextmanager
def _setting(turn: Callable[[Any], None], on: Any, off: Any) -> Iterator[None]:
    turn(on)
    try:
        yield
    finally:
        turn(off)


SETTINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: _setting(torch.set_default_dtype, torch.float64, torch.float32),
    "meta": lambda: _setting(torch.set_default_device, "meta", None),
    "on-meta": lambda: torch.device("meta"),
    "deterministic": lambda: _setting(torch.use_deterministic_algorithms, True, False),
    "no-grad": torch.no_grad,
    "inference": torch.inference_mode,
}
PLAIN: dict[str, dict[str, Any]] = {}


def computed(config: Config, folder: Path) -> dict[str, Any]:
    """All that a run computes: weights, metrics, measures, pictures, of the trainer's model and of the saved one."""
    trainer = Trainer(config, out=folder)
    steps = [trainer.train_step(batch(0)), trainer.train_step(floats(1))]
    results: dict[str, Any] = {"metrics": [{name: repr(value) for name, value in step.items()} for step in steps]}
    trainer.save()
    models = trainer.model(), fastgan.load(folder, device="cpu", precision="fp32")
    for name, model in zip(("own", "loaded"), models, strict=True):
        if isinstance(model, Sampler):
            results[name] = [model.generate(3), model.interpolate(3), model.run(model.noise(2))]
        else:
            x = torch.from_numpy(picture(90, 150, 3)).permute(2, 0, 1)[None].to("cpu", torch.float32) / 255
            results[name] = [model(picture(40, 30, 1)), model(x, strength=0.5), model(x, tile=model.min_tile)]
            if model.takes_any_style:
                results[name] += [model.code(picture(40, 44, 2)), model(x, style=picture(40, 44, 2))]
    if trainer.task.takes == "images":
        results["measures"] = trainer.task.evaluate_baseline().values, trainer.task.evaluate_quick(trainer.state)
    results |= trainer.state.state_dict()
    for name in ("own", "loaded"):
        results[name] = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in results[name]]
    return results


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        *(("fast", setting) for setting in SETTINGS),
        *((model, setting) for model in ("fusion", "dcgan") for setting in ("autocast", "float64", "meta")),
    ],
)
def test_a_run_computes_the_same_bits(tiny: Make, tmp_path: Path, model: str, setting: str) -> None:
    config = tiny(MODELS[model])
    if model not in PLAIN:
        PLAIN[model] = computed(config, tmp_path / "plain")
    with SETTINGS[setting]():
        have = computed(config, tmp_path / "run")
    assert differences(have, PLAIN[model]) == []


@pytest.mark.parametrize("setting", ["autocast", "float64", "meta", "inference"])
def test_fit_computes_the_same_bits(tiny: Make, setting: str) -> None:
    """With its loader's threads, and with what a callback computes."""

    class Own(fastgan.training.Callback):
        seen: list[torch.Tensor]

        def on_start(self, trainer: Any) -> None:
            self.seen = []

        def on_step(self, trainer: Any, event: Any) -> None:
            x = torch.linspace(0, 1, 12, dtype=torch.float32, requires_grad=True).view(3, 4)
            self.seen.append(torch.autograd.grad((x @ x.T).sum(), x)[0])

    results = []
    for context in (None, SETTINGS[setting]()):
        own = Own()
        trainer = Trainer(tiny({"train.steps": 2}), callbacks=[own])
        with context or torch.enable_grad():
            report = trainer.fit()
        measured = {"result": report["result"], "baseline": report["baseline"], "seen": own.seen}
        results.append(trainer.state.state_dict() | measured)
    assert differences(*results) == []


@pytest.mark.parametrize("setting", ["autocast", "float64", "meta", "inference"])
def test_measures_are_the_same_bits(setting: str) -> None:
    """By an encoder of the caller's own."""
    encoder = VGGEncoder((*STYLE_LAYERS, "relu4_1"), "random")
    style = floats(3, 1, 100)
    content, photographs, images = [picture(100, 104, 0)], batch(4, 8), floats(5, 8)

    def measured() -> list[Any]:
        return [
            Evaluator(encoder, StyleReference.from_images(encoder, [style])).measure(content, None).values,
            NoiseEvaluator(encoder, photographs).measure(images).values,
        ]

    want = measured()
    with SETTINGS[setting]():
        have = measured()
    assert differences(have, want) == []


def test_what_a_model_gives_is_an_ordinary_tensor(tiny: Make) -> None:
    """One that may be trained with and written to, also from within ``inference_mode``."""
    trainer = Trainer(tiny())
    x = floats(0, 1)
    for context in (torch.enable_grad(), torch.inference_mode()):
        with context:
            result = trainer.model()((x + 1) / 2)
        assert not result.is_inference() and not result.requires_grad
        result.mul_(2)
        weight = torch.ones(1, requires_grad=True)
        (weight * result).sum().backward()


def test_a_batch_made_in_inference_mode(tiny: Make) -> None:
    with torch.inference_mode():
        images = floats(0).contiguous(memory_format=torch.channels_last)
    assert images.is_inference()
    metrics = [Trainer(tiny({"loss.r1": 1.0})).train_step(x) for x in (images, floats(0))]
    assert differences(*metrics) == []
