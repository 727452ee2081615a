"""The uses of measurements on the way: the best generator, an early end, a rollback (SPEC S10)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_runs import Recorder, batch, differences, read_lines
from safetensors.torch import load_file

from fastgan.config import Config
from fastgan.errors import InputError
from fastgan.evaluation.score import picture_score
from fastgan.training import Callback, DivergenceError, Trainer
from fastgan.training.tasks import GenerateTask, StylizeTask

Make = Callable[..., Config]


class Kept(Callback):
    """The averaged generator after each step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def on_step(self, trainer: Trainer, event: Any) -> None:
        self.weights[event.step] = {name: value.clone() for name, value in trainer.state.ema.state_dict().items()}


def scripted(trainer: Trainer, scores: dict[int, float]) -> Trainer:
    """Measurements of these scores, by step: all of it style distance."""

    def observe(state: Any) -> dict[str, float]:
        return {"val/ssim": 1.0, "val/coverage": 1.0, "val/style_distance": scores[state.global_step]}

    trainer.task.evaluate_quick = observe  # type: ignore[method-assign]
    return trainer


def batches(count: int) -> Any:
    return (batch(number) for number in range(count))


def test_the_model_is_the_best_and_the_checkpoint_goes_on_from_the_last(
    tiny: Make, tmp_path: Path, no_plots: None
) -> None:
    kept, watch = Kept(), Recorder()
    config = tiny({"train.steps": 7, "quality.keep_best": True})
    trainer = Trainer(config, out=tmp_path / "run", callbacks=[kept, watch])
    report = scripted(trainer, {2: 0.5, 4: 0.2, 6: 0.4, 7: 0.3}).fit()
    assert report["best"] == {"step": 4, "score": pytest.approx(0.2)}
    saved = load_file(tmp_path / "run/model/generator.safetensors")
    assert not differences(saved, kept.weights[4]) and differences(saved, kept.weights[7])
    assert not differences(trainer.state.ema.state_dict(), kept.weights[7])
    assert any("step 4" in event.text for event in watch.of("on_message"))
    scores = {line["step"]: line.get("val/score") for line in read_lines(tmp_path / "run")}
    assert [step for step, score in scores.items() if score is not None] == [2, 4, 6]


def test_the_last_is_kept_where_it_is_the_best(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    kept = Kept()
    trainer = Trainer(tiny({"quality.keep_best": True}), out=tmp_path / "run", callbacks=[kept])
    scripted(trainer, {2: 0.5, 4: 0.2}).fit()
    assert not differences(load_file(tmp_path / "run/model/generator.safetensors"), kept.weights[4])


def test_nothing_is_measured_unless_asked_for(tiny: Make) -> None:
    trainer = Trainer(tiny(), data=batches(4))
    report = scripted(trainer, {}).fit()  # a measurement would raise KeyError
    assert report["best"] is None and report["steps"] == 4


def test_patience(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    """Ends after so many measurements without a better one, complete: evaluated and reported."""
    config = tiny({"train.steps": 40, "quality.patience": 2})
    trainer = Trainer(config, out=tmp_path / "run")
    scores = {2: 0.5, 4: 0.6, 6: 0.4, 8: 0.4, 10: 0.41} | {step: 0.1 for step in range(12, 42, 2)}
    report = scripted(trainer, scores).fit()
    assert report["steps"] == 10 and report["complete"] and report["best"]["step"] == 6
    assert json.loads((tmp_path / "run/report.json").read_text())["best"]["step"] == 6


def test_the_best_is_resumed(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    fields = {"quality.keep_best": True, "quality.patience": 2}
    first = scripted(Trainer(tiny({**fields, "train.steps": 4}), out=tmp_path / "run"), {2: 0.2, 4: 0.5})
    first.fit()
    config = tiny({**fields, "train.steps": 8})
    second = Trainer(config, out=tmp_path / "run", resume=True)
    assert second.state.best is not None and (second.state.best.step, second.state.best.evals_without_gain) == (2, 1)
    assert not differences(second.state.best.ema, first.state.best.ema)  # type: ignore[union-attr]
    assert scripted(second, {6: 0.6, 8: 0.1}).fit()["steps"] == 6
    third = Trainer(config, out=tmp_path / "run", resume=True)
    assert scripted(third, {8: 0.1}).fit()["steps"] == 6, "it has had enough already"


def test_measurements_need_photographs(tiny: Make) -> None:
    with pytest.raises(InputError, match="photographs held out"):
        Trainer(tiny({"quality.patience": 2}), data=batches(2))


def test_rollback_when_quality_falls(tiny: Make) -> None:
    """A score so many times the best takes the run back to the last measurement, at half the rates."""
    watch = Recorder()
    config = tiny({"train.steps": 6, "quality.rollback": 2.0})
    trainer = Trainer(config, callbacks=[watch])
    falls = iter([0.5, 1.2, 0.9, 0.8])
    trainer.task.evaluate_quick = lambda state: {  # type: ignore[method-assign]
        "val/ssim": 1.0,
        "val/coverage": 1.0,
        "val/style_distance": next(falls),
    }
    report = trainer.fit()
    (event,) = watch.of("on_rollback")
    assert (event.step, event.restored_step, event.lr_scale) == (4, 2, 0.5) and "quality fell" in event.fault
    assert [event.step for event in watch.of("on_step")] == [1, 2, 3, 3, 4, 5, 6] and report["rollbacks"] == 1


def test_a_quality_that_keeps_falling_ends_the_run(tiny: Make) -> None:
    trainer = Trainer(tiny({"train.steps": 40, "quality.rollback": 2.0}))
    falls = iter([0.1, *[1.0] * 10])
    trainer.task.evaluate_quick = lambda state: {  # type: ignore[method-assign]
        "val/ssim": 1.0,
        "val/coverage": 1.0,
        "val/style_distance": next(falls),
    }
    with pytest.raises(DivergenceError, match="quality fell"):
        trainer.fit()


def test_scores(tiny: Make) -> None:
    """The same for every recipe; what the user named a target for counts by what is missing to it."""
    measured = {"val/ssim": 0.4, "val/psnr": 12.0, "val/style_distance": 0.1, "val/coverage": 0.75}
    for fields, target in (
        ({}, None),
        ({"loss.style": 3, "loss.ssim": 0}, None),
        ({"quality.target_ssim": 0.5}, ("ssim", 0.5)),
        ({"quality.target_psnr": 14.0, "loss.psnr": 2.0}, ("psnr", 14.0)),
    ):
        task = Trainer(tiny(fields), data=[]).task
        want = picture_score({name.removeprefix("val/"): value for name, value in measured.items()}, target)
        assert isinstance(task, StylizeTask) and task.score(measured) == want
    assert GenerateTask.score(None, {"val/kid_vgg": 3.0}) == 3.0  # type: ignore[arg-type]


def test_the_best_is_saved_also_where_the_last_step_was(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    """A checkpoint of the last step has written the last generator already."""
    kept = Kept()
    fields = {"train.steps": 4, "quality.keep_best": True, "checkpoint.every": 2}
    scripted(Trainer(tiny(fields), out=tmp_path / "run", callbacks=[kept]), {2: 0.2, 4: 0.5}).fit()
    saved = load_file(tmp_path / "run" / "model" / "generator.safetensors")
    assert saved and all(torch.equal(value, kept.weights[2][name]) for name, value in saved.items())
