"""Attribution of profiled time: on synthetic events, and on those of a real profiler."""

import pytest
import torch
from helpers.event_clock import ticked
from torch.profiler import ProfilerActivity, record_function

from fastgan.profiling.attribution import (
    ENGINE,
    PYTHON,
    STEP,
    Attribution,
    Event,
    Work,
    attribute,
    events_of,
    scale_to_unprofiled,
    top,
)

NODE = "autograd::engine::evaluate_function: "


def range_(name: str, start: float, end: float) -> Event:
    return Event(name, start, end, annotation=True)


def synthetic_step() -> list[Event]:
    """A step of 100 us: VGG 2, G forward 10, losses 12 of which D has 8, backward 60, the optimizer 5."""
    return [
        range_(STEP, 0, 100),
        range_("fastgan/features", 0, 2),
        Event("aten::relu", 0, 2, sequence=7),  # without a gradient: it sees the number that the next op uses up
        range_("fastgan/generator", 2, 12),
        Event("aten::conv2d", 2, 12, sequence=7),
        Event("aten::convolution", 3, 11, sequence=7),
        range_("fastgan/losses", 12, 24),
        range_("fastgan/part/discriminator", 13, 21),
        Event("aten::conv2d", 13, 21, sequence=8),
        Event("aten::mean", 22, 24, sequence=9),
        range_("fastgan/backward", 24, 88),
        Event(f"{NODE}MeanBackward0", 25, 30, sequence=9),
        Event(f"{NODE}ConvolutionBackward0", 30, 50, sequence=8),
        Event("aten::convolution_backward", 32, 49),
        Event(f"{NODE}ConvolutionBackward0", 50, 80, sequence=7),
        Event("aten::convolution_backward", 52, 79),
        Event(f"{NODE}torch::autograd::AccumulateGrad", 80, 85),
        range_("fastgan/optimizer", 90, 95),
        Event("aten::after_the_step", 100, 110),
    ]


def test_backward_work_goes_to_the_network_of_its_forward() -> None:
    found = attribute(synthetic_step())
    assert found.steps == 1 and found.seconds == pytest.approx(100e-6)
    micro = {(phase, *share): round(1e6 * s, 6) for phase, of in found.host.items() for share, s in of.items() if s}
    assert micro == {
        ("", "other", "forward"): 7.0,
        ("features", "features", "forward"): 2.0,
        ("generator", "generator", "forward"): 10.0,
        ("losses", "losses", "forward"): 4.0,
        ("losses", "discriminator", "forward"): 8.0,
        ("backward", "losses", "backward"): 5.0,
        ("backward", "discriminator", "backward"): 20.0,
        ("backward", "generator", "backward"): 35.0,  # with adding it to the parameter's gradient
        ("backward", "other", "forward"): 4.0,
        ("optimizer", "optimizer", "forward"): 5.0,
    }
    assert sum(micro.values()) == pytest.approx(100)


def test_ops_count_their_own_time() -> None:
    events = [
        *synthetic_step(),
        Event("fastgan::ssim", 95, 99, sequence=20),
        Event("GeneratedBackwardFor_fastgan_ssim_default", 96, 99, sequence=20),  # the kernel runs in it
    ]
    ops = attribute(events).ops
    assert "aten::after_the_step" not in ops
    assert ops["aten::convolution_backward"].seconds == pytest.approx(44e-6)
    assert ops["aten::convolution_backward"].calls == 2
    assert ops["fastgan::ssim"] == Work(pytest.approx(4e-6), 1)
    assert ops[ENGINE].calls == 4 and ops[PYTHON].calls == 7
    assert sum(work.seconds for work in ops.values()) == pytest.approx(100e-6)
    assert [name for name, _ in top(ops, 1)] == ["aten::convolution_backward"]


def test_phases_divide_as_the_profile_does() -> None:
    # Without a profiler all is half as long, and there is a phase that it has not seen.
    unprofiled = {
        "": 3.5,
        "features": 1.0,
        "generator": 5.0,
        "losses": 6.0,
        "backward": 32.0,
        "optimizer": 2.5,
        "wait": 1.0,
    }
    seconds = scale_to_unprofiled(unprofiled, attribute(synthetic_step()))
    assert seconds["generator"] == {"forward": pytest.approx(5.0), "backward": pytest.approx(17.5)}
    assert seconds["discriminator"] == {"forward": pytest.approx(4.0), "backward": pytest.approx(10.0)}
    assert seconds["losses"] == {"forward": pytest.approx(2.0), "backward": pytest.approx(2.5)}
    assert seconds["data"]["forward"] == 1.0
    assert sum(sum(each.values()) for each in seconds.values()) == pytest.approx(sum(unprofiled.values()))
    assert scale_to_unprofiled({"features": 2.0, "new": 1.0}, Attribution())["features"]["forward"] == 2.0


def test_kernels_of_another_thread() -> None:
    """On a GPU the backward pass has a thread of its own, and time is the kernels'."""
    events = [
        range_(STEP, 0, 50),
        range_("fastgan/generator", 0, 10),
        Event("aten::conv2d", 1, 9, sequence=3, kernels=(("conv", 20.0),)),
        range_("fastgan/features", 10, 20),
        Event("aten::conv2d", 11, 19, sequence=4, kernels=(("conv", 5.0),)),
        Event(f"{NODE}ConvolutionBackward0", 22, 26, thread=2, sequence=4, forward_thread=1),
        Event("aten::convolution_backward", 23, 25, thread=2, kernels=(("dgrad", 7.0),)),
        Event(f"{NODE}ConvolutionBackward0", 26, 30, thread=2, sequence=3, forward_thread=1),
        Event("aten::convolution_backward", 27, 29, thread=2, kernels=(("dgrad", 30.0), ("wgrad", 40.0))),
    ]
    found = attribute(events)
    assert {share: round(1e6 * seconds, 6) for share, seconds in found.kernels.items()} == {
        ("generator", "forward"): 20.0,
        ("features", "forward"): 5.0,
        ("features", "backward"): 7.0,
        ("generator", "backward"): 70.0,
    }
    assert found.kernel_ops["dgrad"] == Work(pytest.approx(37e-6), 2)
    assert sum(sum(of.values()) for of in found.host.values()) == pytest.approx(50e-6)


def profiled(small: int, large: int, *, twice: bool = False) -> Attribution:
    """A step of a discriminator of ``small`` products and a generator of ``large``, with its events for a clock."""
    first, second = torch.randn(2, 4, 4, requires_grad=True).unbind(0)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(STEP):
        with record_function("fastgan/generator"):
            x = first
            for _ in range(large):
                x = torch.tanh(x @ first)
        with record_function("fastgan/losses"):
            with record_function("fastgan/part/discriminator"):
                y = second
                for _ in range(small):
                    y = torch.tanh(y @ second)
            if twice:
                (gradient,) = torch.autograd.grad(y.sum(), second, create_graph=True)
                y = gradient.square()
            loss = x.mean() + y.mean()
        with record_function("fastgan/backward"):
            loss.backward()
    return attribute(ticked(events_of(profiler)))


def test_a_real_profile() -> None:
    found = profiled(2, 12)
    assert sum(sum(of.values()) for of in found.host.values()) == pytest.approx(found.seconds, rel=1e-6)
    backward = found.host["backward"]
    generator, discriminator = (backward[name, "backward"] for name in ("generator", "discriminator"))
    assert discriminator > 0 and backward["losses", "backward"] > 0
    assert generator > 4 * discriminator


def test_a_penalty_on_gradients_belongs_to_its_network() -> None:
    once, twice = (profiled(8, 2, twice=penalty) for penalty in (False, True))
    backward, losses = twice.host["backward"], twice.host["losses"]
    assert ("discriminator", "backward") not in once.host["losses"]
    assert losses["discriminator", "backward"] > losses["losses", "forward"]
    assert backward["discriminator", "backward"] > 1.5 * once.host["backward"]["discriminator", "backward"]
    assert backward["discriminator", "backward"] > 4 * backward["generator", "backward"]
