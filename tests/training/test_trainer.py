"""The trainer as others embed it: repeatable, without globals, told by events, fed by any iterable."""

import importlib
import itertools
import math
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.quality_bounds import psnr_error, ssim_error
from helpers.tiny_runs import (
    MEASURES_OF_ONE,
    METRICS,
    Recorder,
    batch,
    differences,
    floats,
    picture,
    read_lines,
    save_picture,
    stylizer_of,
    task_of,
)

import fastgan
from fastgan.config import Config
from fastgan.errors import InputError
from fastgan.training import Callback, Trainer, batch_source
from fastgan.training.callbacks import StepEvent, TensorBoard

Make = Callable[..., Config]


def trained(config: Config, steps: int = 3) -> dict[str, Any]:
    trainer = Trainer(config)
    for number in range(steps):
        trainer.train_step(batch(number))
    return trainer.state.snapshot()


@pytest.mark.parametrize("fields", [{}, {"quality.target_ssim": 0.5}, {"train.precision": "bf16"}])
def test_the_same_seed_gives_the_same_bits(tiny: Make, fields: dict[str, Any]) -> None:
    one, other = (trained(tiny(fields)) for _ in range(2))
    assert differences(one, other) == []
    assert differences(one, trained(tiny({**fields, "train.seed": 1})))


def test_fit_repeats_to_the_bit(tiny: Make) -> None:
    """Through the data loader with its thread, whatever it reads ahead."""
    states = []
    for prefetch in (0, 3):
        trainer = Trainer(tiny({"data.prefetch": prefetch, "quality.target_psnr": 15}))
        trainer.fit()
        states.append(trainer.state.state_dict())
    assert differences(*states) == []


def test_two_trainers_in_one_process(tiny: Make) -> None:
    """Step by step in turns, each as if alone."""
    configs = [tiny({"quality.target_ssim": 0.3}), tiny({"train.seed": 5, "loss.tv": 0.1, "data.batch": 1})]
    alone = [trained(config) for config in configs]
    together = [Trainer(config) for config in configs]
    for number in range(3):
        for trainer in together:
            trainer.train_step(batch(number))
    for trainer, want in zip(together, alone, strict=True):
        assert differences(trainer.state.state_dict(), want) == []


def test_nothing_global_changes(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    reseeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)

    def state() -> dict[str, Any]:
        return {
            "torch": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),
            "threads": torch.get_num_threads(),
            "grad": torch.is_grad_enabled(),
            "dtype": str(torch.get_default_dtype()),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }

    torch.default_generator.manual_seed(1)
    before = state()
    trainer = Trainer(tiny({"quality.target_ssim": 0.5}))
    assert differences(before, state()) == [], "building a trainer"
    trainer.train_step(batch(0))
    trainer.fit()
    assert differences(before, state()) == [], "training"
    stylizer_of(trainer)(np.zeros((16, 16, 3), np.uint8))
    assert differences(before, state()) == [], "stylizing"
    assert reseeded == [], "the GPUs' generators were reseeded"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fastgan")]


def test_the_users_own_random_state_does_not_matter(tiny: Make) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        states.append(trained(tiny(), 2))
    assert differences(*states) == []


# --- data


def batches(count: int) -> Iterator[torch.Tensor]:
    for number in range(count):
        yield batch(number) if number % 2 else floats(number)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_any_iterable_of_tensors(tiny: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A generator that ends too early ends the run, which is told and is not complete."""
    watch = Recorder()
    trainer = Trainer(tiny({"train.steps": 50}), data=batches(3), callbacks=[watch])
    report = trainer.fit()
    assert trainer.state.global_step == report["steps"] == 3 and not report["complete"]
    assert [event.step for event in watch.of("on_step")] == [1, 2, 3]
    assert report["content"]["source"] == "an iterable" and report["result"] is None
    text = "data ended after step 3, before the run did: it is not complete"
    assert [event.text for event in watch.of("on_message")] == [text] and text in caplog.messages
    assert not watch.of("on_end")[0].stopped


def test_a_list_is_taken_over_and_over(tiny: Make) -> None:
    trainer = Trainer(tiny({"train.steps": 7}), data=list(batches(3)))
    report = trainer.fit()
    assert report["steps"] == 7 and report["complete"]


@pytest.mark.parametrize("bad", ["pair", "nan", "bytes"])
def test_what_is_no_batch_is_told_before_anything_is_learned(tiny: Make, tmp_path: Path, bad: str) -> None:
    items: dict[str, Any] = {"pair": (floats(0), 1), "nan": floats(0) * math.nan, "bytes": 255 * floats(0)}
    trainer = Trainer(tiny(), out=tmp_path / "run", data=[items[bad]])
    with pytest.raises(InputError, match=r"^data: "):
        trainer.fit()
    assert trainer.state.global_step == 0 and trainer.state.rollbacks == 0
    # Nothing was learned, so nothing is in the way of the next try.
    assert Trainer(tiny({"train.steps": 1}), out=tmp_path / "run", data=[floats(0)]).state.global_step == 0


def test_an_iterable_is_cut_by_the_budget(tiny: Make) -> None:
    taken = []

    def endless() -> Iterator[torch.Tensor]:
        while True:
            taken.append(1)
            yield batch(len(taken))

    trainer = Trainer(tiny({"train.steps": 2}), data=endless())
    trainer.fit()
    assert trainer.state.global_step == 2 and len(taken) <= 3


def test_data_of_unknown_length_has_no_epochs(tiny: Make) -> None:
    with pytest.raises(ValueError, match=r"train\.steps or train\.minutes"):
        Trainer(tiny({"train.steps": None, "train.epochs": 1}), data=[batch(0)])


def test_epochs(tiny: Make) -> None:
    """Eight photographs, one of them held out: seven to train on, in batches of two."""
    trainer = Trainer(tiny({"train.steps": None, "train.epochs": 2, "data.val_images": 1}))
    assert trainer.run_length.steps == 2 * math.ceil(7 / 2)


# --- what it says


def test_events_in_order(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    fields = {"train.steps": 5, "eval.every": 2, "checkpoint.every": 3, "quality.target_ssim": 0.5}
    watch = Recorder()
    Trainer(tiny(fields), out=tmp_path / "run", callbacks=[watch]).fit()
    step, quality, saved = "on_step", "on_evaluation", "on_checkpoint"
    want = ["on_start", step, quality, step, step, saved, quality, step, step, saved]
    want += ["on_samples", "on_samples", "on_end", "close"]  # pictures, and the map of where they carry the style
    assert watch.names() == want
    assert [event.step for event in watch.of(step)] == [1, 2, 3, 4, 5]
    assert [event.progress for event in watch.of(step)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [event.step for event in watch.of(saved)] == [3, 5]
    assert all(event.path.is_file() for event in watch.of(saved))
    assert not watch.of("on_end")[0].stopped
    assert [event.step for event in watch.of(quality)] == [2, 4]
    for event in watch.of(quality):
        assert set(event.values) == {f"val/{name}" for name in MEASURES_OF_ONE - {"content_distance"}}
        assert 0 < event.values["val/ssim"] < 1 and all(map(math.isfinite, event.values.values()))
        line = watch.of(step)[event.step - 1].metrics
        assert {name: value for name, value in line.items() if name.startswith("val/")} == event.values
    assert not [name for number in (0, 2, 4) for name in watch.of(step)[number].metrics if "val/" in name]


def test_nothing_is_measured_on_the_way_without_a_target(tiny: Make) -> None:
    watch = Recorder()
    Trainer(tiny(), callbacks=[watch]).fit()
    assert "on_evaluation" not in watch.names()
    assert not [name for event in watch.of("on_step") for name in event.metrics if "val/" in name]


@pytest.mark.parametrize("where", ["data", "callback"])
def test_close_also_after_an_error(tiny: Make, tmp_path: Path, where: str) -> None:
    class Failing(Callback):
        def on_step(self, trainer: Trainer, event: Any) -> None:
            if where == "callback" and event.step == 2:
                raise KeyError("mine")

    def data() -> Iterator[torch.Tensor]:
        yield from batches(2)
        raise KeyError("mine")

    watch = Recorder()
    given = data() if where == "data" else None
    trainer = Trainer(tiny(), out=tmp_path / "run", data=given, callbacks=[Failing(), watch])
    with pytest.raises(KeyError, match="mine") as caught:
        trainer.fit()
    assert watch.names()[-1] == "close" and watch.names().count("close") == 1 and "on_end" not in watch.names()
    assert [line["step"] for line in read_lines(tmp_path / "run")] == [1, 2]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002.pt"]
    assert (tmp_path / "run" / "model" / "generator.safetensors").is_file()
    assert caught.value is not None  # the loader's thread ends also while somebody keeps the error and its frames
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fastgan")]


def test_request_stop(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer, event: Any) -> None:
            if event.step == 2:
                trainer.request_stop()

    watch = Recorder()
    trainer = Trainer(tiny({"train.steps": 50}), out=tmp_path / "run", callbacks=[Stop(), watch])
    report = trainer.fit()
    assert trainer.state.global_step == 2 and not report["complete"] and report["result"] is None
    assert watch.of("on_end")[0].stopped and watch.of("on_checkpoint")[0].step == 2


def test_metrics_of_a_line(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    """The run-folder contract, and nothing about control where nothing is controlled."""
    Trainer(tiny(), out=tmp_path / "run").fit()
    for number, line in enumerate(read_lines(tmp_path / "run"), 1):
        assert set(line) >= METRICS and line["step"] == number
        assert not [name for name in line if "control" in name]
        assert all(isinstance(value, int | float) for value in line.values())
        assert line["time/step"] > 0 and line["time/img_per_s"] == pytest.approx(2 / line["time/step"])
        assert line["time/data"] >= 0 and line["memory/peak_bytes"] > 2**25
        phases = [value for name, value in line.items() if name.startswith("time/phase/")]
        assert len(phases) >= 6 and 0 < sum(phases) <= line["time/step"]


def test_infinities_are_null(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    """PSNR is infinite where the result is its photograph, which a patched generator makes so."""
    trainer = Trainer(tiny({"train.steps": 2}), out=tmp_path / "run")
    trainer.state.generator.forward = lambda x: x + 0 * next(trainer.state.generator.parameters()).sum()  # type: ignore
    watch = Recorder()
    trainer.callbacks.append(watch)
    trainer.fit()
    assert [event.metrics["train/psnr"] for event in watch.of("on_step")] == [math.inf] * 2
    assert [line["train/psnr"] for line in read_lines(tmp_path / "run")] == [None] * 2
    assert "Infinity" not in (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("field", "low", "high"), [("target_ssim", 0.05, 0.95), ("target_psnr", 3, 50)])
def test_the_weight_moves_the_right_way(tiny: Make, field: str, low: float, high: float) -> None:
    """A target below what there is lowers the weight of the structure terms, one above raises it; every step logged."""
    moved = {}
    for target in (low, high):
        trainer = Trainer(tiny({f"quality.{field}": target, "train.steps": 30}))
        logged = [trainer.train_step(batch(number, 1))["controller/structure_weight"] for number in range(6)]
        assert logged[0] == 1 and all(a != b for a, b in itertools.pairwise(logged))
        moved[target] = logged[-1]
    assert moved[low] < 0.98 and moved[high] > 1.02


def test_a_target_ends_with_more_structure(tiny: Make) -> None:
    """The whole loop: a high target leaves the batches closer to their photographs than a low one."""
    ends = {}
    for target in (0.1, 0.9):
        fields = {"quality.target_ssim": target, "train.steps": 60, "quality.gain": 2.0, "loss.ssim": 3.0}
        trainer = Trainer(tiny({**fields, "data.batch": 1}))
        seen = [trainer.train_step(batch(number % 4, 1))["train/ssim"] for number in range(50)]
        ends[target] = float(np.mean(seen[-5:]))
    assert ends[0.9] > ends[0.1] + 0.05


def test_photographs_held_out_correct_the_controller(tiny: Make, tmp_path: Path) -> None:
    """The measure is of the averaged generator on whole photographs, and half of what it differs by is taken up."""
    for number in range(12):
        save_picture(picture(36, 40, number), tmp_path / f"{number}.png")
    metrics = importlib.import_module("skimage.metrics")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected: list[float] = []
    errors: list[float] = []

    class Measure(Recorder):
        def close(self) -> None:
            pass

        def __getattribute__(self, name: str) -> Any:
            if name == "on_evaluation":
                return measure
            return super().__getattribute__(name)

    def measure(trainer: Trainer, event: Any) -> None:
        photos = trainer.photographs.val_images  # type: ignore[union-attr]
        pairs = [(photo, stylizer_of(trainer)(photo)) for photo in photos]
        assert len(pairs) == 2
        expected.append(np.mean([metrics.structural_similarity(*pair, channel_axis=2, **options) for pair in pairs]))
        psnr = np.mean([metrics.peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs])
        units = [[torch.from_numpy(x.copy()).permute(2, 0, 1)[None] / 255 for x in pair] for pair in pairs]
        errors.append(max(ssim_error(*pair) for pair in units))
        assert event.values["val/ssim"] == pytest.approx(expected[-1], abs=errors[-1])
        assert event.values["val/psnr"] == pytest.approx(psnr, abs=psnr_error(units[0][0]))

    watch = Measure()
    fields = {"quality.target_ssim": 0.5, "eval.every": 3, "train.steps": 5, "quality.smoothing": 0.8}
    Trainer(tiny({**fields, "data.content": str(tmp_path)}), callbacks=[watch]).fit()
    lines = [event.metrics for event in watch.of("on_step")]
    q1, q2, q3 = (line["train/ssim"] for line in lines[:3])
    running = 0.8 * (0.8 * q1 + 0.2 * q2) + 0.2 * q3
    assert [line["controller/val_offset"] for line in lines[:3]] == [0, 0, 0]
    assert lines[3]["controller/val_offset"] == lines[4]["controller/val_offset"]
    assert lines[3]["controller/val_offset"] == pytest.approx(0.5 * (expected[0] - running), abs=0.5 * errors[0])


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision(tiny: Make, precision: str, dtype: torch.dtype) -> None:
    """Frozen features are cast once; what is trained, and what is measured against, stays in float32."""
    trainer = Trainer(tiny({"train.precision": precision}))
    assert trainer.dtype == task_of(trainer).encoder.dtype == dtype
    seen = []
    trainer.state.generator.to_rgb.register_forward_hook(lambda _, inputs, out: seen.append(out.dtype))
    trainer.train_step(batch(0))
    assert seen == [dtype]
    kept = [*trainer.state.generator.parameters(), *trainer.state.discriminator.parameters()]
    assert {p.dtype for p in (*kept, *task_of(trainer).styles.mean_targets.values())} == {torch.float32}


def test_profiler_ranges(tiny: Make) -> None:
    trainer = Trainer(tiny())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        trainer.train_step(batch(0))
    names = {event.key for event in trace.key_averages()}
    phases = {"data", "generator", "discriminator", "features", "losses", "backward", "optimizer"}
    assert {f"fastgan/{phase}" for phase in phases} <= names
    ops = ("ssim", "psnr", "gram_style_loss", "instance_norm", "from_pixels")
    assert all(any(name.startswith(f"fastgan::{op}[") for name in names) for op in ops)


# --- how it is made


def test_forms_of_a_config(tiny: Make, tmp_path: Path) -> None:
    config = tiny()
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    for form in (config, config.model_dump(mode="json"), file, str(file)):
        assert fastgan.Trainer(form).config == config
    with pytest.raises(InputError, match=r"data\.size"):
        Trainer({"data": {"size": "large"}})


def test_too_small_for_its_discriminator(tiny: Make) -> None:
    with pytest.raises(InputError, match=r"data\.size: 32 px is too small for a discriminator of depth 5.*96"):
        Trainer(tiny({"model.discriminator.depth": 5}))


def test_several_styles(tiny: Make, photos: Path) -> None:
    """A folder of styles of different sizes: D sees crops of all of them, the Grams are their mean."""
    folder = photos.parent / "several"
    for number, size in enumerate(((40, 52), (36, 33), (60, 35))):
        save_picture(picture(*size, number), folder / f"{number}.png")
    trainer = Trainer(tiny({"data.style": str(folder)}))
    assert len(task_of(trainer).styles) == 3
    for number in range(4):
        assert math.isfinite(trainer.train_step(batch(number))["loss/d"])


@pytest.mark.parametrize("content", ["demo", "folder"])
def test_quality_is_measured_on_photographs_held_out(tiny: Make, photos: Path, content: str) -> None:
    if content == "demo":
        importlib.import_module("skimage")
    trainer = Trainer(tiny({"data.content": "demo" if content == "demo" else str(photos)}))
    assert trainer.photographs is not None and not trainer.photographs.shared
    held = set(trainer.photographs.val_paths)
    assert held and not held & set(trainer.photographs.batches.folder.paths)


def test_the_seed_chooses_what_is_held_out(tiny: Make) -> None:
    chosen = [Trainer(tiny({"train.seed": seed})).photographs for seed in (0, 0, 1, 2, 3)]
    paths = [photographs.val_paths for photographs in chosen if photographs is not None]
    assert paths[0] == paths[1] and len({tuple(held) for held in paths}) > 1


def test_nan_in_a_batch_that_was_not_looked_at_is_not_learned(
    tiny: Make, tmp_path: Path, no_plots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, whose batches are not all waited for; and no learning rate is blamed."""
    monkeypatch.setattr(batch_source.BatchCheck, "__call__", lambda self, images: batch_source.check_kind(images))
    bad = floats(1)
    bad[0, 0, 3, 3] = math.nan
    trainer = Trainer(tiny({"train.steps": 4}), data=[floats(0), floats(1), bad, floats(2)], out=tmp_path / "run")
    with pytest.raises(InputError, match=r"^data: 1 of the 6,144 values of a batch are NaN or infinite$"):
        trainer.fit()
    assert trainer.state.is_finite() and trainer.state.lr_scale == 1


def test_a_full_disk_is_told_by_no_thread_of_tensorboard(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But by the call that follows."""
    records = importlib.import_module("tensorboard.summary.writer.record_writer")

    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    run, board = Trainer(tiny()), TensorBoard(tmp_path / "tb", 0)
    monkeypatch.setattr(records.RecordWriter, "write", write)
    refused = partial(pytest.raises, InputError, match=r"tb: cannot be written \(No space left on device\)$")
    with refused():
        for step in range(1000):
            board.on_step(run, StepEvent(step, {"loss/g": 1.0}, 0.0))
    with refused():
        board.close()
    assert told == []
