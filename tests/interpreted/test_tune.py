"""The tuner and the file that it keeps, on kernels in the interpreter."""

import json
import logging
from pathlib import Path

import pytest
import torch

from fastgan import ops
from fastgan.bench.ops import op_benchmarks
from fastgan.bench.ops.op_benchmark import OpCase
from fastgan.bench.triton import tune
from fastgan.ops import _triton
from fastgan.ops.bias_act import triton as kernels


def case() -> OpCase:
    return next(each for each in op_benchmarks.cases("bias_act", "cpu", quick=True) if each.gradient)


def test_the_fastest_is_kept_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"bias_act_fwd_kernel": 2, "bias_act_bwd_kernel": 3}
    turn: list[_triton.Config] = []
    real = _triton.Launch.run

    def noted(self: _triton.Launch, chosen: _triton.Config) -> None:
        turn.append(chosen)
        fast.append(self.choices.index(chosen) == expected[self.name])
        real(self, chosen)

    fast: list[bool] = []
    monkeypatch.setattr(_triton.Launch, "run", noted)

    def timer(call: object) -> float:
        call()  # type: ignore[operator]
        return 1.0 if fast[-1] else 2.0

    path = tmp_path / "deep" / "some-gpu.json"
    lines: list[str] = []
    chosen = tune.tune([case(), case()], timer=timer, path=path, log=lines.append)
    assert len(chosen) == 2
    for key, best in chosen.items():
        name = key.partition(":")[0]
        assert best == kernels.NCHW[expected[name]]
    assert _triton.read_cache(path) == chosen
    assert json.loads(path.read_text())["device"] == "some-gpu"
    assert any("bias_act_fwd_kernel" in line and "default 2.0000 ms" in line for line in lines)

    monkeypatch.setattr(_triton, "_cache", lambda index: _triton.read_cache(path))
    inputs = case().inputs(0)
    with _triton.recorded(run=True) as launches:
        case().output(inputs, "triton")
    assert _triton._tuned(launches[0], torch.device("cuda", 0)) == kernels.NCHW[2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"choices": 3}', '{"choices": {"a": {"num_warps": 4}}}'])
def test_a_cache_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(text)
    assert _triton.read_cache(path) == {}
    _triton.write_cache(path, {"k": _triton.config(BLOCK=2)}, {})
    assert _triton.read_cache(path) == {"k": _triton.config(BLOCK=2)}
    assert [each.name for each in tmp_path.iterdir()] == ["gpu.json"]


def test_what_is_no_longer_a_choice_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1, 1, 4, 4)
    with _triton.recorded(run=True) as launches:
        ops.bias_act(x, backend="triton")
    launch = launches[0]
    stale = {f"{launch.name}:{launch.key}": _triton.config(BLOCK_C=7, BLOCK_P=8)}
    monkeypatch.setattr(_triton, "_cache", lambda index: stale)
    assert _triton._tuned(launch, torch.device("cuda", 0)) == launch.choices[0]


def test_a_configuration_that_the_gpu_refuses_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    with _triton.recorded() as launches:
        ops.bias_act(torch.ones(1, 1, 4, 4), backend="triton")
    launch = launches[0]

    def run(self: _triton.Launch, chosen: _triton.Config) -> None:
        if chosen == launch.choices[1]:
            raise RuntimeError("out of resources")

    monkeypatch.setattr(_triton.Launch, "run", run)
    _, medians = tune.fastest(launch, lambda call: 1.0)
    assert set(medians) == set(launch.choices) - {launch.choices[1]}


def test_cache_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert _triton.cache_file("NVIDIA H200 (SXM)") == tmp_path / "triton" / "nvidia-h200-sxm.json"
