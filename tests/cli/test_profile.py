"""``fastgan profile``."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.command_line import Command, started
from helpers.event_clock import ticked
from helpers.machine import needs
from helpers.tiny_runs import fingerprint
from helpers.waiting import HANG

from fastgan.cli.app import app
from fastgan.profiling import attribution

EFFORT = ("--warmup", 0, "--measure", 3, "--trace", 1)


@pytest.fixture
def given(photos: Path, style_file: Path, settings: Path) -> list[object]:
    return ["profile", "--content", photos, "--style", style_file, "--config", settings, *EFFORT]


def check(report: dict[str, Any]) -> None:
    step, phases = report["step"], report["phases"]
    assert list(phases) == ["data", "generator", "discriminator", "features", "losses", "optimizer", "other"]
    assert sum(each["seconds"] for each in phases.values()) == pytest.approx(step["seconds_median"], rel=1e-6)
    assert sum(each["share"] for each in phases.values()) == pytest.approx(1, rel=1e-6)
    for each in phases.values():
        assert each["seconds"] == pytest.approx(each["forward_seconds"] + each["backward_seconds"])
        assert all(math.isfinite(value) and value >= 0 for value in each.values())
    assert sum(report["ranges"].values()) == pytest.approx(step["seconds_median"], rel=1e-6)
    assert step["seconds_p20"] <= step["seconds_median"] <= step["seconds_p80"]
    assert report["memory"]["peak_bytes"] > 1e7 and report["floor"]["seconds"] > 0
    assert report["floor"]["fraction"] == pytest.approx(report["floor"]["seconds"] / step["seconds_median"])
    shares = sum(each["share"] for each in report["ops"])
    assert shares == pytest.approx(1) or (shares < 1 and len(report["ops"]) == 40)  # the first 40


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> list[list[attribution.Event]]:
    """The events of each profile that is attributed."""
    seen: list[list[attribution.Event]] = []
    events_of = attribution.events_of

    def spy(profile: Any) -> list[attribution.Event]:
        seen.append(events_of(profile))
        return seen[-1]

    monkeypatch.setattr(attribution, "events_of", spy)
    return seen


def test_profile(
    fastgan: Command, given: list[object], tmp_path: Path, profiled: list[list[attribution.Event]]
) -> None:
    out = tmp_path / "new" / "prof"
    done = fastgan(*given, "--out", out)
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == ["profile.json", "trace.json"]
    assert [path.name for path in out.parent.iterdir()] == ["prof"]
    report = json.loads((out / "profile.json").read_text())
    assert set(report) == {"header", "config", "step", "phases", "ranges", "ops", "memory", "floor", "trace"}
    check(report)
    assert report["trace"] == "trace.json" and report["step"]["steps_profiled"] == 1
    assert report["step"]["steps_measured"] == 3 and report["config"]["data"]["size"] == 32
    for name in ("generator", "discriminator", "features", "losses"):
        each = report["phases"][name]
        assert each["forward_seconds"] > 0 and each["backward_seconds"] > 0, name
        assert (each["conv_gflop"] > 0) is (name != "losses")
    assert report["phases"]["optimizer"]["seconds"] > 0 and report["phases"]["data"]["seconds"] > 0
    # G's and VGG's gradients are parts of what the ranges around the backward passes hold, D's own of its range too.
    networks, ranges = ("generator", "features", "discriminator"), report["ranges"]
    parts = [report["phases"][name]["backward_seconds"] for name in networks]
    assert sum(parts[:2]) <= ranges["backward"] and sum(parts) <= ranges["backward"] + ranges["discriminator"]
    (events,) = profiled
    backward = attribution.attribute(ticked(events)).host["backward"]
    assert sum(backward[name, "backward"] for name in networks) > 0.5 * sum(backward.values())

    lines = done.out.splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80  # the last names files
    for told in ("VGG-19", "optimizer", "img/s", "floor", "aten::convolution_backward", "ui.perfetto.dev"):
        assert told in done.out
    assert str(out / "trace.json") in lines[-1]

    trace = json.loads((out / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    phases = {"data", "generator", "discriminator", "features", "losses", "backward", "optimizer", "wait", "step"}
    assert {f"fastgan/{name}" for name in phases} <= names
    assert {"fastgan/part/discriminator", "fastgan/part/features"} <= names
    assert any(name.startswith("fastgan::instance_norm[") for name in names if name)


def test_from_noise(fastgan: Command, photos: Path, settings: Path, tmp_path: Path) -> None:
    sizes = ("--set", "model.generator.width=8", "--set", "model.discriminator.width=4", "--batch", 2, "--size", 32)
    done = fastgan(
        "profile",
        "--model",
        "dcgan",
        "--features",
        "random",
        "--content",
        photos,
        *EFFORT,
        *sizes,
        "--precision",
        "fp32",
        "--out",
        tmp_path / "p",
    )
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "p" / "profile.json").read_text())
    check(report)
    assert report["phases"]["features"]["seconds"] == 0


def test_nothing_is_left_on_the_networks(tiny: Any) -> None:
    from fastgan.profiling import profiler as profiling
    from fastgan.training import Trainer

    trainer = Trainer(tiny())
    networks = profiling._networks(trainer)
    assert set(networks) == {"generator", "discriminator", "features"}
    with profiling._ranges(trainer):
        assert all(network._compiled_call_impl is not None for network in networks.values())
    assert all(network._compiled_call_impl is None for network in networks.values())
    assert not any("zero_grad" in vars(each) for each in (trainer.state.optimizer_g, trainer.state.optimizer_d))


def test_a_large_trace_is_packed(
    fastgan: Command, given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    monkeypatch.setattr("fastgan.profiling.profiler._LARGE_TRACE", 1000)
    assert fastgan(*given, "--out", tmp_path / "p").code == 0
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["profile.json", "trace.json.gz"]
    assert json.loads((tmp_path / "p" / "profile.json").read_text())["trace"] == "trace.json.gz"
    assert "traceEvents" in json.loads(gzip.decompress((tmp_path / "p" / "trace.json.gz").read_bytes()))


def test_it_takes_the_options_of_train() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    of_train, own = (
        {
            each.name: (each.opts, each.secondary_opts, each.help, each.default, each.multiple, str(each.bare_type))
            for each in command.params
        }
        for command in (commands["train"], commands["profile"])
    )
    assert set(own) - set(of_train) == {"warmup", "measure", "trace"} and set(of_train) - set(own) == {"resume"}
    shared = set(of_train) - {"out", "resume"}
    assert len(shared) > 15 and all(own[name] == of_train[name] for name in shared)


BAD = {
    "missing folder": (["--content", "{p}/none"], ["{p}/none", "no such file or folder"]),
    "size": (["--size", "16"], ["--size", "greater than or equal to 32"]),
    "field": (["--set", "data.bacth=4"], ["data.bacth"]),
    "precision": (["--precision", "fp8"], ["--precision", "'bf16'"]),
    "no steps": (["--measure", "0"], ["--measure", "1"]),
    "too long a trace": (["--trace", "1000"], ["--trace", "100"]),
    "option of train alone": (["--resume"], ["--resume"]),
    "out exists": (["--out", "{p}/there"], ["--out {p}/there", "already exists"]),
    "out is a file": (["--out", "{p}/file"], ["--out {p}/file", "already exists"]),
    "out under a file": (["--out", "{p}/file/x/y"], ["--out {p}/file/x/y", "cannot be created"]),
    "out not writable": (["--out", "/proc/fastgan-profile"], ["--out /proc/fastgan-profile", "cannot be created"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, fastgan: Command, given: list[object], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    before = fingerprint(tmp_path)
    options, says = ([part.replace("{p}", str(tmp_path)) for part in parts] for parts in BAD[case])
    complaint = fastgan(*given, "--out", tmp_path / "out", *options).complaint
    assert all(part in complaint for part in says), complaint
    assert fingerprint(tmp_path) == before


def test_it_needs_an_out(fastgan: Command) -> None:
    assert "--out" in fastgan("profile").complaint


def test_a_full_disk(fastgan: Command, given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastgan.profiling.profiler._write_trace", refuse)
    done = fastgan(*given, "--out", tmp_path / "new" / "p")
    assert done.code == 2 and "No space left on device" in done.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(given: list[object], tmp_path: Path, number: signal.Signals) -> None:
    with started([*given, "--measure", 10_000, "--out", tmp_path / "p"]) as process:
        assert process.stderr is not None
        assert "to warm up" in process.stderr.readline()
        process.send_signal(number)
        _, told = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number and "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@needs("a GPU")
def test_on_a_gpu(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    done = fastgan(*given, "--set", "train.device=cuda", "--out", tmp_path / "p")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "p" / "profile.json").read_text())
    check(report)
    assert report["header"]["device"] == "cuda" and report["phases"]["generator"]["backward_seconds"] > 0
