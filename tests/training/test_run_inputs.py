"""The inputs of a run are part of its state; a resumed run keeps the split, and tells what has changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_runs import Recorder, picture, save_picture
from safetensors.torch import save_file

from fastgan.config import Config
from fastgan.data import Split
from fastgan.training import Trainer, run_inputs
from fastgan.training.run_length import RunLength

Make = Callable[..., Config]
FIELDS: dict[str, Any] = {"train.steps": 2, "eval.every": 50, "data.val_images": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        save_picture(picture(40, 40, number), tmp_path / "photos" / f"p{number:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(tiny: Make, folder: Path, tmp_path: Path, no_plots: None) -> Path:
    """A run of twelve photographs, two of them held out."""
    Trainer(tiny({**FIELDS, "data.content": str(folder)}), out=tmp_path / "run").fit()
    return tmp_path / "run"


def resumed(config: Config, run: Path) -> tuple[Trainer, list[str], dict[str, Any]]:
    """The trainer after its end, what it told of changes, and ``report.json``."""
    watch = Recorder()
    trainer = Trainer(config, out=run, callbacks=[watch], resume=True)
    trainer.fit()
    report = json.loads((run / "report.json").read_text())
    lines = [event.text for event in watch.of("on_message")]
    assert [change["text"] for change in report["changes"]] == lines
    return trainer, lines, report


def resumed_unchanged(config: Config, run: Path) -> tuple[Trainer, dict[str, Any]]:
    watch = Recorder()
    trainer = Trainer(config, out=run, callbacks=[watch], resume=True)
    trainer.fit()
    assert watch.of("on_message") == []
    return trainer, json.loads((run / "report.json").read_text())


def held_out(report: dict[str, Any]) -> set[str]:
    return set(report["content"]["val_images"])


def test_each_file_is_hashed_once(tiny: Make, folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    true_hash = run_inputs._sha256
    monkeypatch.setattr(run_inputs, "_sha256", lambda path: hashed.append(path.name) or true_hash(path))
    trainer = Trainer(tiny({**FIELDS, "data.content": str(folder)}), out=run, resume=True)
    assert trainer.photographs is not None
    held = {path.name for path in trainer.photographs.val_paths}
    assert len(held) == 2 and held < set(hashed) and len(hashed) == len(set(hashed)) == 3  # and the style


def test_a_photograph_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.png")
    assert run_inputs.Digests()[tmp_path / "0.png"] == ""


def test_what_is_held_out_stays_so_when_photographs_are_added(tiny: Make, folder: Path, run: Path) -> None:
    before = json.loads((run / "report.json").read_text())
    config = tiny({**FIELDS, "data.content": str(folder), "train.seed": 7, "train.steps": 4})
    for number in range(28):
        save_picture(picture(40, 40, 100 + number), folder / f"a{number:02}.png")
    trainer, lines, report = resumed(config, run)
    assert held_out(report) == held_out(before) and len(held_out(before)) == 2
    assert report["content"]["train"] == 38 and report["content"]["val_is_trained_on"] is False
    assert trainer.photographs is not None
    assert held_out(report).isdisjoint(path.name for path in trainer.photographs.batches.folder.paths)
    assert lines[0] == "the photographs are others: 12 before, 40 now"
    assert len(lines) == 2 and "the run has 4 steps, before 2 steps" in lines[1]
    # The next time nothing has changed, and the report still has what did.
    _, report = resumed_unchanged(config, run)
    assert held_out(report) == held_out(before) and len(report["changes"]) == 2


@pytest.mark.parametrize("how", ["one gone", "one replaced", "all gone", "another folder", "unknown"])
def test_none_that_may_have_been_trained_on_is_said_not_to_be(
    tiny: Make, folder: Path, run: Path, tmp_path: Path, how: str
) -> None:
    first, second = sorted(held_out(json.loads((run / "report.json").read_text())))
    content = folder
    if how == "one gone":
        (folder / first).unlink()
    elif how == "one replaced":  # by one that was trained on
        other = next(path for path in sorted(folder.iterdir()) if path.name not in (first, second))
        shutil.copyfile(other, folder / first)
    elif how == "all gone":
        for name in (first, second):
            (folder / name).unlink()
    elif how == "another folder":  # the same pictures under other names
        content = tmp_path / "moved"
        for number, path in enumerate(sorted(folder.iterdir())):
            save_picture(picture(40, 40, number), content / f"x{path.name}")
    else:
        path = run / "checkpoints" / "step-00000002.pt"
        values = torch.load(path, weights_only=True)
        del values["inputs"], values["changes"]
        torch.save(values, path)
    config = tiny({**FIELDS, "data.content": str(content), "train.steps": 3})
    trainer, lines, report = resumed(config, run)
    assert trainer.photographs is not None
    if how in ("one gone", "one replaced"):
        assert held_out(report) == {second} and report["content"]["val_is_trained_on"] is False
        assert "of 2 validation photographs 1 are no longer used: the others are measured" in lines
    else:
        assert report["content"]["val_is_trained_on"] is True and lines
        if how != "unknown":
            assert "count as trained on" in " ".join(lines)
    # So it stays: what is trained on, and what is said of it.
    again, report = resumed_unchanged(config, run)
    assert again.photographs is not None and again.photographs.split == trainer.photographs.split
    assert [change["text"] for change in report["changes"]] == lines


def test_fewer_to_hold_out_are_some_of_those_held_out(tiny: Make, folder: Path, run: Path) -> None:
    before = held_out(json.loads((run / "report.json").read_text()))
    _, lines, report = resumed(tiny({**FIELDS, "data.content": str(folder), "data.val_images": 1}), run)
    assert held_out(report) < before and len(held_out(report)) == 1 and len(lines) == 1


def test_a_style_that_was_replaced_and_other_weights_are_told(
    tiny: Make, photos: Path, tmp_path: Path, no_plots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    style, weights = save_picture(picture(44, 40, 1), tmp_path / "wave.png"), tmp_path / "vgg.safetensors"
    fields = {**FIELDS, "data.style": str(style), "train.steps": 1}
    monkeypatch.setattr(run_inputs, "weights_sha256", lambda _: weights.read_text())
    weights.write_text("a" * 64)
    run = tmp_path / "run"
    Trainer(tiny(fields), out=run).fit()
    save_picture(picture(44, 40, 2), style)
    weights.write_text("b" * 64)
    monkeypatch.setattr(run_inputs, "__version__", "0.0.1")
    _, lines, _ = resumed(tiny(fields), run)
    assert len(lines) == 3 and "is 0.0.1" in lines[0]
    assert lines[1] == f"the VGG-19 weights are others: sha256 {'a' * 12}... before, sha256 {'b' * 12}... now"
    assert lines[2] == "style wave.png: was replaced since the run was saved"


def test_an_extended_run_says_what_its_learning_rate_does(tiny: Make, run: Path, folder: Path) -> None:
    watch = Recorder()
    config = tiny({**FIELDS, "data.content": str(folder), "train.steps": 8})
    Trainer(config, out=run, callbacks=[watch], resume=True).fit()
    (text,) = [event.text for event in watch.of("on_message")]
    lines = [json.loads(line)["lr/g"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[2] > lines[1]
    assert text.startswith("the run has 8 steps, before 2 steps: the learning rates follow the new length")
    assert f"at {lines[2]:.2g} for the generator, after {lines[1]:.2g}" in text


def test_names_are_the_same_wherever_the_folder_lies(tiny: Make, tmp_path: Path) -> None:
    described = []
    for place in ("a", "b/c"):
        paths = [save_picture(picture(40, 40, n), tmp_path / place / "more" / f"{n}.png") for n in range(3)]
        config = tiny({"data.content": str(tmp_path / place)})
        described.append(run_inputs.describe(config, RunLength(steps=3), Split(paths[:2], paths[2:], False)))
    assert described[0] == described[1] and list(described[0]["val"]) == ["more/2.png"]
    assert run_inputs.changes(*described) == []


def test_the_weights_of_a_file(tmp_path: Path) -> None:
    from fastgan.models.vgg import weights_sha256

    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "b.safetensors")
    one, other = (weights_sha256(str(tmp_path / f"{name}.safetensors")) for name in "ab")
    assert one is not None and len(one) == 64 and one != other and weights_sha256("random") is None
