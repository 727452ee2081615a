"""The cases: right inputs, right work, and every provider gives what the float64 reference gives."""

import math

import pytest
import torch
from helpers.bounds import rounding
from helpers.machine import absence, needs, require

from fastgan.bench import timing
from fastgan.bench.ops import suite
from fastgan.bench.ops.op_benchmark import OpCase
from fastgan.bench.ops.op_benchmarks import cases, op_names
from fastgan.bench.ops.providers import providers

CHECKED = ("fastgan", "fastgan-reference", "fastgan-native", "eager")
QUICK = {
    f"{case.name}-{case.short_dtype}-{case.suite}": case for op in op_names() for case in cases(op, "cpu", quick=True)
}


def full(op: str, device: str = "cpu") -> list[OpCase]:
    return list(cases(op, device))


@pytest.mark.parametrize("name", QUICK)
def test_every_provider_is_right(name: str) -> None:
    case = QUICK[name]
    input_set = timing.input_sets(case, case.output(case.inputs(0), "reference").detach(), few=True)[0]
    functions, errors = suite.ready(case, input_set, compiled=False)
    assert {"fastgan", "fastgan-reference", "eager"} <= functions.keys()
    # Packages that blur in bfloat16 have gradients 3% off, and torch convolves by what the processor has, which may add
    # in bfloat16 too. They get no ratio there.
    checked = CHECKED
    if case.benchmark.op == "conv2d" and case.dtype == torch.bfloat16:
        checked = ("fastgan", "fastgan-native") if absence("native convolutions in bfloat16") is None else ()
    exact = [name for name in errors if name in checked or case.dtype == torch.float32]
    assert {name: errors[name] for name in exact if not errors[name] <= case.tolerance} == {}


def test_names_say_size_and_layout() -> None:
    names = [case.name for case in full("ssim")]
    assert names[0] == "ssim-8x3x256x256-nchw" and "ssim-8x3x256x256-channels_last" in names
    assert "instance_norm-8x64x128x128-relu-nchw" in [case.name for case in full("instance_norm")]
    everything = [(case.name, case.dtype, case.suite) for op in op_names() for case in full(op, "cuda")]
    assert len(everything) == len(set(everything))


def test_dtypes_suites_and_layouts() -> None:
    assert {case.dtype for case in full("gram")} == {torch.float32, torch.bfloat16}
    assert torch.float16 in {case.dtype for case in full("gram", "cuda")}
    assert {case.suite for case in full("gram")} == {"ops-forward", "ops-gradient"}
    assert {case.suite for case in full("to_pixels")} == {"ops-forward"}
    assert {case.layout for case in full("fuse")} == {"nchw", "channels_last"}
    assert {case.layout for case in full("optim_step")} == {"flat"}


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_inputs(layout: str) -> None:
    case = next(case for case in cases("ssim", "cpu", quick=True) if case.shape == (2, 3, 17, 37))
    case = OpCase(case.benchmark, case.shape, torch.bfloat16, layout, "ops-gradient", "cpu")
    first, again, other = case.inputs(0), case.inputs(0), case.inputs(1)
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert all(x.dtype == torch.bfloat16 and x.is_contiguous(memory_format=form) for x in first)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert [x.requires_grad for x in first] == [True, False]


def test_sets_are_fresh_and_gradients_begin_at_random_numbers() -> None:
    case = next(case for case in cases("instance_norm", "cpu", quick=True) if case.gradient)
    like = case.output(case.inputs(0), "reference").detach()
    sets = timing.input_sets(case, like)
    assert len(sets) == 8
    assert len({input_set.inputs[0].data_ptr() for input_set in sets}) == 8
    for input_set in sets:
        assert input_set.grad_output is not None
        assert input_set.grad_output.shape == like.shape and input_set.grad_output.std() > 0.5


def test_work_counts_each_tensor_once_a_pass() -> None:
    for case in cases("psnr", "cpu", quick=True):
        inputs = case.inputs(0)
        pixels = math.prod(case.shape)
        moved, operations, matrix = case.workload(inputs, torch.zeros(()))
        image = pixels * inputs[0].element_size()
        assert not matrix
        if case.gradient:
            assert (moved, operations) == (5 * image + 8, 5 * pixels)
        else:
            assert (moved, operations) == (2 * image + 4, 3 * pixels)


def test_work_in_place_counts_what_is_written() -> None:
    case = next(iter(cases("optim_step", "cpu")))
    moved, operations, _ = case.workload(case.inputs(0), torch.zeros(()))
    assert (moved, operations) == (4 * (5 + 4) * (1 << 20), 15 * (1 << 20))


@pytest.mark.parametrize("name", ["torch.optim foreach", "torch.optim fused", "eager", "fastgan-native"])
def test_an_update_in_place_is_checked_on_copies(name: str) -> None:
    if name == "fastgan-native":
        require("the extension")
    case = next(iter(cases("optim_step", "cpu", quick=True)))
    input_set = timing.input_sets(case, torch.empty(0), few=True)[0]
    before = [tensor.clone() for tensor in input_set.inputs]
    functions, errors = suite.ready(case, input_set, only=name)
    assert errors[name] <= rounding(steps=15)  # operations of an element, as the case's cost counts them
    assert all(torch.equal(now, then) for now, then in zip(input_set.inputs, before, strict=True))
    after = timing.call(case, functions[name], input_set)
    assert [torch.equal(now, before[index]) for now, index in zip(after, case.benchmark.mutated, strict=True)] == [
        False
    ] * 4


def test_what_leaves_the_parameters_as_they_are_is_wrong() -> None:
    case = next(iter(cases("optim_step", "cpu", quick=True)))
    input_set = timing.input_sets(case, torch.empty(0), few=True)[0]
    result = timing.call(case, lambda inputs: inputs[0], input_set.clone(case))
    assert timing.max_relative_error(result, timing.reference_result(case, input_set)) > case.tolerance


def test_gram_counts_one_triangle() -> None:
    case = next(iter(cases("gram", "cpu")))
    n, c, h, w = case.shape
    moved, operations, matrix = case.workload(case.inputs(0), torch.zeros(n, c, c))
    assert matrix and operations == n * c * (c + 1) * h * w
    assert moved == 4 * (n * c * h * w + n * c * c)


def test_a_provider_a_backend() -> None:
    case = next(iter(cases("ssim", "cpu", quick=True)))
    names = [name for name, _ in providers(case)]
    assert names[:2] == ["fastgan", "fastgan-reference"] and "fastgan-native" in names
    assert {"eager", "compiled", "kornia", "piq", "pytorch-msssim", "torchmetrics", "scikit-image"} <= set(names)
    assert "compiled" not in [name for name, _ in providers(case, compiled=False)]


@needs("a compiler for torch.compile", "torch's vector code")
def test_the_compiled_reference_is_right() -> None:
    case = next(iter(cases("to_pixels", "cpu", quick=True)))
    input_set = timing.input_sets(case, torch.empty(0), few=True)[0]
    skipped: list[str] = []
    _, errors = suite.ready(case, input_set, only="compiled", skipped=skipped)
    assert skipped == []
    assert errors["compiled"] <= case.tolerance
