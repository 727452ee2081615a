"""Learning to make images from noise: the step's formulas, its measures, its samples and its resume (SPEC S1 to S4)."""

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding
from helpers.networks import sums
from helpers.observed_step import DECIBELS, Seen, close, equal, near, weights
from helpers.quality_bounds import ssim_error
from helpers.tiny_runs import (
    METRICS,
    Recorder,
    StopAt,
    batch,
    differences,
    floats,
    picture,
    read_lines,
    save_picture,
    untimed,
)
from PIL import Image
from torch import Tensor

import fastgan
from fastgan.config import Config
from fastgan.evaluation import NoiseEvaluator
from fastgan.evaluation.evaluator import NUM_EVAL_IMAGES
from fastgan.inference import Sampler
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.training import Trainer
from fastgan.training.tasks import GenerateTask

Make = Callable[..., Config]
DCGAN: dict[str, Any] = {
    "model.name": "dcgan",
    "model.generator.z_dim": 6,
    "model.discriminator.depth": 1,
    "data.style": None,
    "data.batch": 4,
    "data.short_side": 34,
    "loss.augment": [],
    "train.steps": 40,
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Fewer images are measured, for the time it takes."""
    count = 24
    monkeypatch.setattr("fastgan.training.tasks.generate.NUM_EVAL_IMAGES", count)
    monkeypatch.setattr("fastgan.training.tasks.generate._NUM_QUICK_EVAL_IMAGES", 16)
    return count


@pytest.fixture
def warm(tiny: Make) -> Trainer:
    trainer = Trainer(tiny(DCGAN))
    for number in range(3):
        trainer.train_step(batch(number, 4))
    return trainer


# --- the step


def logits(discriminator: torch.nn.Module, images: Tensor) -> Tensor:
    out: Tensor = discriminator(images)
    assert out.shape == (len(images), 1)
    return out


def test_ds_gradient_is_of_its_own_loss(warm: Trainer) -> None:
    """L_D = -E[log D(x)] - E[log(1 - D(G(z)))] of the photographs and of images of N(0, I)."""
    seen = Seen(warm, batch(7, 4))
    real, fake, again = seen.inputs
    assert_close(real, floats(7, 4), steps=4)  # a division and a difference
    assert torch.equal(fake, again)
    z = torch.randn(4, 6, generator=seen.rng)
    assert_close(fake, copy.deepcopy(seen.g)(z), steps=2 * sums(seen.g))
    probability, of_fake = torch.sigmoid(logits(seen.d, real)), torch.sigmoid(logits(seen.d, fake))
    loss = -probability.log().mean() - (1 - of_fake).log().mean()
    assert seen.metrics["loss/d"] == near(loss, seen.d)
    close(seen.grads["discriminator"], torch.autograd.grad(loss, list(seen.d.parameters())), seen.d)


def test_gs_gradient_is_of_its_own_loss(tiny: Make) -> None:
    """w L_G with L_G = -E[log D(G(z))], by the D that has just been updated, through G in training."""
    trainer = Trainer(tiny({**DCGAN, "loss.adversarial": 0.7, "loss.lambda_d": 0.3}))
    trainer.train_step(batch(0, 4))
    seen = Seen(trainer, batch(7, 4))
    assert seen.g.training
    fake = seen.g(torch.randn(4, 6, generator=seen.rng))
    adversarial = -torch.sigmoid(logits(seen.d_updated, fake)).log().mean()
    m = seen.metrics
    assert m["loss/g_adversarial"] == near(adversarial, seen.g, seen.d)
    assert m["loss/g"] == near(0.7 * adversarial, seen.g, seen.d)
    assert m["loss/total"] == approx(m["loss/g_adversarial"] + 0.3 * m["loss/d"], steps=2)
    expected = torch.autograd.grad(0.7 * adversarial, list(seen.g.parameters()))
    close(seen.grads["generator"], expected, seen.g, seen.d_updated)


def test_d_first_and_each_optimizer_leaves_the_other_alone(warm: Trainer) -> None:
    state = warm.state
    order: list[str] = []
    g, d = weights(state.generator), weights(state.discriminator)
    after_d: list[Tensor] = []

    def d_stepped(*_: Any) -> None:
        order.append("step D")
        after_d.extend(weights(state.discriminator))
        assert equal(weights(state.generator), g), "D's step changed G"

    hooks = [
        state.generator.register_forward_pre_hook(lambda *_: order.append("G")),
        state.discriminator.register_forward_pre_hook(lambda *_: order.append("D")),
        state.optimizer_d.register_step_post_hook(d_stepped),
        state.optimizer_g.register_step_post_hook(lambda *_: order.append("step G")),
    ]
    warm.train_step(batch(7, 4))
    for hook in hooks:
        hook.remove()
    assert order == ["G", "D", "D", "step D", "D", "step G"]
    assert not equal(after_d, d) and equal(weights(state.discriminator), after_d)
    assert not equal(weights(state.generator), g)
    assert all(p.requires_grad for p in state.discriminator.parameters())


def test_the_average_has_the_buffers_of_batch_norm(warm: Trainer) -> None:
    """As they are, not averaged: and what the run gives as its model uses them."""
    state = warm.state
    before = {name: value.clone() for name, value in state.ema.named_buffers()}
    old = weights(state.ema)
    warm.train_step(batch(7, 4))
    live = dict(state.generator.named_buffers())
    assert {name.rpartition(".")[2] for name in live} == {"running_mean", "running_var", "num_batches_tracked"}
    for name, value in state.ema.named_buffers():
        assert torch.equal(value, live[name]) and not torch.equal(value, before[name]), name
    decay = min(warm.config.optim.ema, 4 / 13)
    for a, b, c in zip(old, weights(state.ema), weights(state.generator), strict=True):
        assert_close(b, decay * a + (1 - decay) * c, steps=8)  # two products, a sum, and a rounded factor


def test_metrics(warm: Trainer) -> None:
    """NaN for what there is not; SSIM and PSNR with the photograph in the same place; spread against theirs."""
    seen = Seen(warm, batch(7, 4))
    m = seen.metrics
    assert set(m) | {"step", "time/data"} >= METRICS
    nothing = {"loss/content", "loss/style", "train/style_distance"}
    assert {name for name, value in m.items() if not math.isfinite(value)} == nothing
    real, fake, _ = ((images + 1) / 2 for images in seen.inputs)
    mse = (real - fake).square().mean((1, 2, 3)).double()
    assert m["train/psnr"] == near((-10 * mse.log10()).mean(), scale=DECIBELS)
    error = 2 * ssim_error(fake, real)
    assert m["train/ssim"] == pytest.approx(fastgan.ops.ssim(fake, real).item(), abs=error)
    spread = [F.avg_pool2d(images, 4).std(0).mean().item() for images in (fake, real)]
    # Deviations of means of 4 x 4 pixels below 1, by two computations: each is off by that share of its size.
    assert m["train/diversity"] == approx(spread[0] / spread[1], terms=4 * 4, steps=2, scale=1 / min(spread))


def test_noise_is_new_every_step_and_of_the_seed(tiny: Make) -> None:
    trainers = [Trainer(tiny({**DCGAN, "train.seed": seed})) for seed in (0, 0, 1)]
    taken: list[list[Tensor]] = []
    for trainer in trainers:
        noises: list[Tensor] = []
        taken.append(noises)
        trainer.state.generator.register_forward_pre_hook(lambda _, z, noises=noises: noises.append(z[0].clone()))
        for number in range(2):
            trainer.train_step(batch(number, 4))
    one, again, other = taken
    assert len(one) == 2 and all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], one[1]) and not torch.equal(one[0], other[0])
    assert differences(trainers[0].state.state_dict(), trainers[1].state.state_dict()) == []


@pytest.mark.parametrize("size", [31, 33, 64])
def test_batches_of_another_size(tiny: Make, size: int) -> None:
    with pytest.raises(ValueError, match=r"32 to 32 px a side"):
        Trainer(tiny(DCGAN)).train_step(batch(0, 4, size))


def test_a_size_that_it_cannot_have(tiny: Make) -> None:
    with pytest.raises(fastgan.errors.InputError, match=r"the generator dcgan at data\.size 48: size must be one of"):
        Trainer(tiny({**DCGAN, "data.size": 48}))


# --- measures


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder(STYLE_LAYERS, "random")


def many(first: int, count: int = 48) -> Tensor:
    """uint8 (N, 32, 32, 3), all of one distribution."""
    return torch.from_numpy(np.stack([picture(32, 32, first + number) for number in range(count)]))


def scaled(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def means(evaluator: NoiseEvaluator, images: Tensor) -> dict[str, float]:
    measures = evaluator.measure(images)
    assert measures.n == 4 and {len(values) for values in measures.values.values()} == {4}
    return {name: float(np.mean(values)) for name, values in measures.values.items()}


def standard_error(evaluator: NoiseEvaluator, images: Tensor, name: str) -> float:
    """The standard error of the mean, by the spread of the four subsets."""
    return float(np.std(evaluator.measure(images).values[name], ddof=1)) / 2


def test_evaluator(encoder: VGGEncoder) -> None:
    """Near 0 and near 1 for others of the same kind; far and 0 for one image again and again; between for a mixture."""
    evaluator = NoiseEvaluator(encoder, many(0))
    alike, itself = means(evaluator, scaled(many(5000))), means(evaluator, scaled(many(0)))
    gray = means(evaluator, torch.zeros(48, 3, 32, 32))
    one = means(evaluator, scaled(many(3, 1)).expand(48, -1, -1, -1))
    assert set(alike) == {"kid_vgg", "diversity", "style_distance"}
    # Pictures of fixed seeds: at most five standard errors off, and those are small beside what a collapse is off by.
    for measured, images in ((alike, scaled(many(5000))), (itself, scaled(many(0)))):
        error = 5 * standard_error(evaluator, images, "kid_vgg")
        assert measured["kid_vgg"] < error < 2
        error = 5 * standard_error(evaluator, images, "diversity")
        assert measured["diversity"] == pytest.approx(1, abs=error) and error < 0.5
        assert measured["style_distance"] < 0.1 * gray["style_distance"]
    # Images that are compared with themselves come nearer than chance would bring them: below 0.
    assert alike["kid_vgg"] > -5 * standard_error(evaluator, scaled(many(5000)), "kid_vgg")
    for collapsed in (gray, one):
        # Rounding in units of the features' deviation, which counts as a tenth of their mean at least.
        assert collapsed["diversity"] == pytest.approx(0, abs=10 * rounding(1, 2 * sums(encoder)))
        assert collapsed["kid_vgg"] > 2
    assert gray["style_distance"] > 0.5
    half = means(evaluator, torch.stack([scaled(many(5000)), torch.zeros(48, 3, 32, 32)], 1).flatten(0, 1))
    assert alike["kid_vgg"] < half["kid_vgg"] < gray["kid_vgg"]


def test_measures_of_a_run(tiny: Make, few: int) -> None:
    """The photographs against others of them; the same images of noise every time, by the averaged generator."""
    trainer = Trainer(tiny(DCGAN))
    task = trainer.task
    assert isinstance(task, GenerateTask) and NUM_EVAL_IMAGES == 256
    start = task.evaluate_baseline()
    mean = {name: float(np.mean(values)) for name, values in start.values.items()}
    assert abs(mean["kid_vgg"]) < 1 and 0.5 < mean["diversity"] < 1.5
    before = task.evaluate(trainer.state)
    assert task.evaluate(trainer.state).values == before.values
    assert before.values["kid_vgg"][0] > mean["kid_vgg"] + 0.5
    observed = task.evaluate_quick(trainer.state)
    assert set(observed) == {f"val/{name}" for name in before.values}
    trainer.state.generator.to_rgb.bias.data += 1  # not what is measured
    assert task.evaluate_quick(trainer.state) == observed
    trainer.state.ema.to_rgb.bias.data += 1
    assert task.evaluate_quick(trainer.state) != observed
    assert (few, trainer.state.global_step) == (24, 0)


def test_the_photographs_measured_are_those_trained_on(tiny: Make) -> None:
    """Crops in the order of a run's batches; those of the start are others than the reference."""
    trainer = Trainer(tiny(DCGAN))
    assert trainer.photographs is not None and isinstance(trainer.task, GenerateTask)
    batches = trainer.photographs.batches
    row = torch.cat([batches.batch_at(step) for step in range(8)])
    assert torch.equal(trainer.task._crops(10), row[:10])
    for offset in (0, 3, 4, 11):
        assert torch.equal(trainer.task._crops(9, offset=offset), row[offset : offset + 9])


def test_measured_on_the_way(tiny: Make, few: int, tmp_path: Path, no_plots: None) -> None:
    """Every ``eval.every`` steps without any target, and in that step's line."""
    watch = Recorder()
    fields = {**DCGAN, "train.steps": 4}
    Trainer(tiny(fields), out=tmp_path / "run", callbacks=[watch]).fit()
    assert [event.step for event in watch.of("on_evaluation")] == [2, 4]
    lines = read_lines(tmp_path / "run")
    for event in watch.of("on_evaluation"):
        line = lines[event.step - 1]
        assert {name: value for name, value in line.items() if "val/" in name} == event.values
    assert not [name for line in lines[::2] for name in line if "val/" in name]
    assert all(line["loss/style"] is None and line["loss/content"] is None for line in lines)


def test_an_iterable_is_not_measured(tiny: Make) -> None:
    watch = Recorder()
    report = Trainer(tiny(DCGAN), data=(batch(n, 4) for n in range(4)), callbacks=[watch]).fit()
    assert report["steps"] == 4 and report["result"] is None and report["baseline"] is None
    assert "on_evaluation" not in watch.names()


# --- the run


def test_run_folder(tiny: Make, few: int, tmp_path: Path) -> None:
    fields = {**DCGAN, "train.steps": 4, "log.samples_every": 2}
    report = Trainer(tiny(fields), out=tmp_path / "run").fit()
    run = tmp_path / "run"
    assert report == json.loads((run / "report.json").read_text())
    assert report["complete"] and report["model"] == "dcgan" and report["style"] is None
    for name in ("kid_vgg", "diversity", "style_distance"):
        for which in ("baseline", "result"):
            assert len(report[which][name]["values"]) == report[which]["n"] == 4
            assert math.isfinite(report[which][name]["mean"])
    assert "ssim" not in report["result"]
    names = {f"{name}{kind}.png" for name in ("final", "step-000002", "step-000004") for kind in ("", "-interpolation")}
    assert {path.name for path in (run / "samples").iterdir()} == names
    page = (run / "report.html").read_text()
    assert f"{report['result']['diversity']['mean']:.3f}" in page and "subset of the images" in page
    assert "$" not in re.sub(r"base64,[^']+", "", page) and page.count("<figure>") >= 2 + 2

    model = fastgan.load(run, device="cpu", precision="fp32")
    assert isinstance(model, Sampler) and model.features == "random"
    sheet = np.asarray(Image.open(run / "samples" / "final.png"))
    assert sheet.shape == (4 * 34 - 2, 12 * 34 - 2, 3)
    images = model.generate(48)
    for index in (0, 11, 12, 47):
        top, left = index // 12 * 34, index % 12 * 34
        assert np.abs(sheet[top : top + 32, left : left + 32].astype(int) - images[index]).max() <= 1
    assert (sheet[32:34] == 255).all() and (sheet[:, 32:34] == 255).all()
    ways = np.asarray(Image.open(run / "samples" / "final-interpolation.png"))
    assert ways.shape == (3 * 34 - 2, 12 * 34 - 2, 3)
    for row in range(3):
        line = model.interpolate(12, seed=row)
        for column in (0, 5, 11):
            shown = ways[row * 34 : row * 34 + 32, column * 34 : column * 34 + 32]
            assert np.abs(shown.astype(int) - line[column]).max() <= 1
    assert not (run / "model" / "styles").exists()


PENALIZED = {"loss.r1": 0.5, "loss.r1_interval": 2, "model.discriminator.norm": "none"}


@pytest.mark.parametrize("fields", [{}, {"loss.augment": ["translation", "color"], **PENALIZED}])
def test_resume_to_the_same_bits(tiny: Make, few: int, tmp_path: Path, no_plots: None, fields: dict[str, Any]) -> None:
    config = tiny({**DCGAN, "train.steps": 6, **fields})
    whole, run = tmp_path / "whole", tmp_path / "run"
    ends = [Trainer(config, out=whole)]
    ends[0].fit()
    for step in (1, 4):
        Trainer(config, out=run, callbacks=[StopAt(step)], resume=step > 1).fit()
    ends.append(Trainer(config, out=run, resume=True))
    assert ends[1].state.global_step == 4
    reports = [ends[1].fit(), json.loads((whole / "report.json").read_text())]
    assert differences(ends[0].state.state_dict(), ends[1].state.state_dict()) == []
    assert untimed(read_lines(run)) == untimed(read_lines(whole))
    assert reports[0]["result"] == reports[1]["result"]
    name = "model/generator.safetensors"
    assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_it_learns(tiny: Make, tmp_path: Path) -> None:
    """Photographs of one color: the images come to have it."""
    for number in range(6):
        color = np.array([220, 40 + number, 60], np.uint8)
        save_picture(np.broadcast_to(color, (40, 40, 3)).copy(), tmp_path / f"{number}.png")
    fields = {**DCGAN, "data.content": str(tmp_path), "train.steps": 150, "optim.ema": 0.5}
    fields |= {"optim.generator.lr": 0.005, "optim.discriminator.lr": 0.002}
    trainer = Trainer(tiny(fields))
    assert trainer.photographs is not None

    def off() -> float:
        images = trainer.model().generate(16)  # type: ignore[union-attr]
        return float(np.abs(images.mean((0, 1, 2)) - [220, 42, 60]).mean())

    before = off()
    for step in range(150):
        trainer.train_step(trainer.photographs.batches.batch_at(step))
    # Runs that differ by rounding end some levels apart, of 255; the way is longer than a third by several times that.
    assert before > 60 and off() < before * 2 / 3
