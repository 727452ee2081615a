"""Choice of backend: by argument, by FASTGAN_BACKEND, by default; and the report of it."""

import json
import logging
import os
import subprocess
import sys

import pytest
import torch

from fastgan import ops
from fastgan.ops import _native, _registry

X = torch.rand(1, 1, 12, 12)


def force(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    bare, by_op = _registry._parse(text)
    monkeypatch.setattr(_registry, "_FORCED_TEXT", text)
    monkeypatch.setattr(_registry, "_FORCED_ALL", bare)
    monkeypatch.setattr(_registry, "_FORCED", by_op)
    monkeypatch.setattr(_registry, "_told", set())


def test_environment_is_read_at_import() -> None:
    script = """
import torch
from fastgan import ops
from fastgan.ops._registry import select
x = torch.rand(1, 1, 12, 12)
print(select("ssim", x, x).name, select("psnr", x, x).name, ops.report()["forced"])
"""
    environment = {**os.environ, "FASTGAN_BACKEND": " ssim:reference, native"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    expected = "reference" if _native.unavailable() else "native"
    assert result.stdout.split(maxsplit=2)[:2] == ["reference", expected]


def test_forced_by_op_raises_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch, kernel_calls: list[str]) -> None:
    force(monkeypatch, "ssim:native")
    ops.ssim(X, X)
    assert kernel_calls == ["ssim_forward"]
    with (
        ops.second_order(),
        pytest.raises(ValueError, match="FASTGAN_BACKEND: ssim cannot use 'native' here: it has gradients"),
    ):
        ops.ssim(X.clone().requires_grad_(), X)
    with pytest.raises(ValueError, match="takes float32, bfloat16, not float64"):
        ops.ssim(X.double(), X.double())
    ops.ssim(X.double(), X.double(), backend="reference")


@pytest.fixture
def fuse_by_reference_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = _registry._OPS["fuse"].backends["reference"]
    monkeypatch.setitem(_registry._OPS, "fuse", _registry._Op({"reference": reference}, {}))


@pytest.mark.usefixtures("fuse_by_reference_alone")
def test_a_bare_name_is_followed_by_the_ops_that_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kernel_calls: list[str]
) -> None:
    force(monkeypatch, "reference")
    ops.ssim(X, X)
    assert kernel_calls == []
    force(monkeypatch, "native")
    with caplog.at_level(logging.INFO, "fastgan"):
        for _ in range(2):
            ops.fuse(X, X)
            ops.psnr(X.double(), X.double())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "is not followed by fuse: it has no such backend" in told[0]
    assert "is not followed by psnr: takes float32, bfloat16, not float64" in told[1]


@pytest.mark.usefixtures("fuse_by_reference_alone")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sism:native", "unknown op 'sism'; the ops are bias_act, check_finite, conv2d, discriminator_loss"),
        ("fuse:native", "the backends of fuse are reference"),
        ("cuda", "backends are native, reference"),
    ],
)
def test_a_wrong_name_in_the_environment_raises(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    force(monkeypatch, text)
    with pytest.raises(ValueError, match=message):
        ops.generator_loss(X)
    with pytest.raises(ValueError, match=message):
        ops.report()


def test_without_the_extension_the_reference_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "_loaded", (None, "is not available: gone"))
    assert _registry.select("ssim", X, X).name == "reference"
    with pytest.raises(ValueError, match="ssim cannot use 'native' here: it is not available: gone"):
        ops.ssim(X, X, backend="native")
    with pytest.raises(RuntimeError, match="the native backend is not available: gone"):
        _native.extension()
    assert _native.build_info() == {"unavailable": "is not available: gone"}
    native = next(b for row in ops.report()["ops"] for b in row["backends"] if b["name"] == "native")
    assert native["reason"] == "is not available: gone"


def test_tensors_must_share_a_device() -> None:
    with pytest.raises(ValueError, match="ssim needs its tensors on one device, got cpu, meta"):
        ops.ssim(X, X.to("meta"))


def test_report_is_plain_data_and_covers_every_op(kernel_calls: list[str]) -> None:
    report = json.loads(json.dumps(ops.report()))
    public = {name for name in ops.__all__ if name not in ("report", "second_order")}
    assert {row["op"] for row in report["ops"]} == public
    rows = {(row["op"], row["device"]): row for row in report["ops"]}
    row = rows["ssim", "cpu"]
    assert (row["forward"], row["gradient"]) == ("native", "native")
    assert [b["reason"] for b in row["backends"]] == ["slower here", "chosen"]
    row = rows["ssim", "cuda"]
    assert row["forward"] == "reference"
    assert row["backends"][1]["dtypes"] == ["float32", "bfloat16", "float16"]
    assert row["backends"][1]["limits"] == ["first-order gradients"]
    expected = _native.unavailable("cuda") or "not measured on cuda yet: FASTGAN_BACKEND asks for it"
    assert row["backends"][1]["reason"] == expected


def test_every_call_is_a_range_in_a_profile(kernel_calls: list[str]) -> None:
    with torch.profiler.profile() as profile:
        ops.ssim(X, X)
        ops.fuse(X, X)
    names = {event.key for event in profile.key_averages()}
    assert {"fastgan::ssim[native]", "fastgan::fuse[native]"} <= names
