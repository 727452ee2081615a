"""Choice of backend: by argument, by FASTGAN_BACKEND, by default; and the report of it."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers.bounds import assert_close

from fastgan import ops
from fastgan.ops import _native, _registry

X = torch.rand(1, 1, 12, 12)


def force(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    bare, by_op = _registry._parse(text)
    monkeypatch.setattr(_registry, "_FORCED_TEXT", text)
    monkeypatch.setattr(_registry, "_FORCED_ALL", bare)
    monkeypatch.setattr(_registry, "_FORCED", by_op)
    monkeypatch.setattr(_registry, "_logged", set())


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
    expected = "reference" if _native.unavailable_reason() else "native"
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


def test_arguments_can_be_refused_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kernel_calls: list[str]
) -> None:
    five = torch.rand(16, 16, 5, 5)  # no native kernel has this size
    x = torch.rand(1, 16, 12, 12)
    ops.conv2d(x, five)
    force(monkeypatch, "conv2d:native")
    with pytest.raises(ValueError, match="FASTGAN_BACKEND: conv2d cannot use 'native' here: it has no 5x5"):
        ops.conv2d(x, five)
    force(monkeypatch, "native")
    with caplog.at_level(logging.INFO, "fastgan"):
        ops.conv2d(x, five)
    assert "is not followed by conv2d: has no 5x5" in caplog.records[0].getMessage()
    assert kernel_calls == []


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
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "is not followed by fuse: it has no such backend" in messages[0]
    assert "is not followed by psnr: takes float32, bfloat16, not float64" in messages[1]


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
    with pytest.raises(ValueError, match="y must be on cpu as the first tensor is, got meta"):
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
    expected = _native.unavailable_reason("cuda") or "not measured on cuda yet: FASTGAN_BACKEND asks for it"
    assert row["backends"][1]["reason"] == expected


def ran(call: Callable[[], object]) -> list[str]:
    """The backends of the calls within."""
    with _registry.record_backends() as names:
        call()
    return names


@pytest.mark.usefixtures("kernel_calls")
def test_small_calls_take_what_is_faster_for_them() -> None:
    min_numel = _registry._OPS["instance_norm"].backends["native"].min_numel["cpu"]
    assert 0 < min_numel.forward < min_numel.gradient
    for elements, forward, gradient in (
        (min_numel.forward - 1, "reference", "reference"),
        (min_numel.forward, "native", "reference"),
        (min_numel.gradient - 1, "native", "reference"),
        (min_numel.gradient, "native", "native"),
    ):
        x = torch.rand(1, 1, 1, elements)
        assert ran(lambda x=x: ops.instance_norm(x)) == [forward]
        x.requires_grad_()
        assert ran(lambda x=x: ops.instance_norm(x)) == [gradient]
        with torch.no_grad():
            assert ran(lambda x=x: ops.instance_norm(x)) == [forward]


@pytest.mark.usefixtures("kernel_calls")
def test_a_size_matters_not_where_the_reference_is_dear() -> None:
    x = torch.rand(1, 2, 3, 3, requires_grad=True)
    last = torch.rand(1, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    assert ran(lambda: ops.fuse(x, x.detach(), mode="convex")) == ["reference"]
    assert ran(lambda: ops.fuse(x, x.detach(), mode="adain")) == ["native"]
    assert ran(lambda: ops.bias_act(x)) == ["reference"]
    assert ran(lambda: ops.bias_act(x, clamp=1.0)) == ["native"]
    assert ran(lambda: ops.instance_norm(last)) == ["native"]


@pytest.mark.usefixtures("kernel_calls")
def test_a_size_matters_not_to_who_asks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 2, 3, 3, requires_grad=True)
    assert ran(lambda: ops.bias_act(x, backend="native")) == ["native"]
    for text in ("native", "bias_act:native"):
        force(monkeypatch, text)
        assert ran(lambda: ops.bias_act(x)) == ["native"]


def test_a_small_call_is_differentiated_as_often_as_a_large_one() -> None:
    x = torch.rand(1, 2, 3, 3, requires_grad=True)
    with ops.second_order():
        (by_x,) = torch.autograd.grad(ops.bias_act(x, activation="tanh").sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(by_x.square().sum(), x)
    y = x.detach().double().tanh()
    assert_close(twice, -4 * y * (1 - y * y) ** 2, steps=8, scale=4.0)  # 1 - y * y cancels


@pytest.mark.usefixtures("kernel_calls")
def test_a_size_is_a_guard_of_compiled_code() -> None:
    compiled = torch.compile(lambda x: ops.instance_norm(x), fullgraph=True, dynamic=True, backend="eager")
    torch.compiler.reset()
    counted = torch._dynamo.utils.counters
    counted.clear()
    for side in (8, 9, 300, 310, 10, 320):
        x = torch.rand(1, 1, side, side)
        chosen = "reference" if side < 90 else "native"
        assert torch.equal(compiled(x), ops.instance_norm(x, backend=chosen))
    assert counted["stats"]["unique_graphs"] == 2


def test_the_report_tells_of_sizes(kernel_calls: list[str]) -> None:
    rows = {(row["op"], row["device"]): row for row in ops.report()["ops"]}
    reference, native = rows["instance_norm", "cpu"]["backends"][:2]
    assert reference["reason"] == (
        "faster here, and chosen, below 8,192 elements and 65,536 elements with gradients; slower beyond"
    )
    assert native["min_numel"] == {"forward": 1 << 13, "gradient": 1 << 16}
    assert rows["ssim", "cpu"]["backends"][1]["min_numel"] == {"forward": 0, "gradient": 0}
    assert rows["instance_norm", "cuda"]["backends"][0]["reason"] == "chosen"


def test_every_call_is_a_range_in_a_profile(kernel_calls: list[str]) -> None:
    with torch.profiler.profile() as profile:
        ops.ssim(X, X)
        ops.fuse(X, X)
    names = {event.key for event in profile.key_averages()}
    assert {"fastgan::ssim[native]", "fastgan::fuse[native]"} <= names
