"""``torch.compile`` is kept only where it computes what eager does, and where its time is won back."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.observed_step import NOISE
from helpers.tiny_runs import Recorder, StopAt, batch, differences
from torch import Tensor, nn

from fastgan.config import Config, load_config
from fastgan.errors import InputError
from fastgan.models import (
    ArticleDiscriminator,
    ArticleGenerator,
    DCGANDiscriminator,
    DCGANGenerator,
    FastGenerator,
    PatchGAN,
    VGGEncoder,
    spectral_norm,
)
from fastgan.training import Trainer
from fastgan.training import compilation as compiling
from fastgan.training.compilation import CallSpec, Compiler, compile_verified, random_images

CPU = torch.device("cpu")
IMAGES = random_images(2, 32)
TRAINED = [CallSpec((IMAGES,), param_grad=True), CallSpec((IMAGES,), input_grad=True)]
Make = Callable[..., Config]


def compiles_to(monkeypatch: pytest.MonkeyPatch, make: Callable[[nn.Module], Callable[..., Any]]) -> None:
    """``module.compile()`` calls what ``make`` gives instead of a compiled forward."""
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", make(self)))


@pytest.fixture
def front_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated for real, without a break, by the compiler's front half; its code generator takes too
    long here."""
    torch._dynamo.reset()
    monkeypatch.setattr(nn.Module, "compile", trace_whole)


def trace_whole(module: nn.Module) -> None:
    module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager_decomp_partition", fullgraph=True)


def normed() -> nn.Module:
    network = PatchGAN(4, 1)
    spectral_norm(network)
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[CallSpec]]] = {
    "fast": (partial(FastGenerator, 4, 1), TRAINED),
    "fast-conv9": (partial(FastGenerator, 4, 1, stem="conv9"), TRAINED),
    "article": (partial(ArticleGenerator, 4, 1), TRAINED),
    "dcgan": (partial(DCGANGenerator, 4, size=32, z_dim=6), [CallSpec((torch.randn(2, 6),), param_grad=True)]),
    "patch": (partial(PatchGAN, 4, 2), TRAINED),
    "patch-spectral": (normed, TRAINED),
    "article-d": (partial(ArticleDiscriminator, 4, 2, size=32), TRAINED),
    "dcgan-d": (partial(DCGANDiscriminator, 4, size=32), TRAINED),
    "vgg": (
        partial(VGGEncoder, ("relu1_1", "relu2_1"), "random"),
        [
            CallSpec((IMAGES, ("relu2_1",)), autocast=False),
            CallSpec((IMAGES, ("relu1_1", "relu2_1")), input_grad=True, autocast=False),
        ],
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kept_whole_where_it_agrees(front_half: None, name: str, dtype: torch.dtype) -> None:
    """Every network is one graph in every use, kernels included, and leaves no trace of the check."""
    make, uses = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    if isinstance(network, VGGEncoder):
        network.to_compute(dtype, torch.channels_last)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    required = [p.requires_grad for p in network.parameters()]
    assert compile_verified(network, uses, CPU, dtype) is None
    assert network._compiled_call_impl is not None
    after = network.state_dict()
    assert list(after) == list(before)  # a checkpoint fits with and without
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [p.requires_grad for p in network.parameters()] == required
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    "fields",
    [{}, {"loss.content": 0.0}, {"model.name": "article"}, NOISE, {**NOISE, "loss.augment": []}],
    ids=["fast", "no-content", "article", "noise", "noise-plain"],
)
def test_the_check_has_seen_all_that_a_step_does(front_half: None, tiny: Make, fields: dict[str, Any]) -> None:
    """No step after it compiles anything: what is measured is what runs."""
    fields = {**fields, "train.compile": True, "train.precision": "bf16", "train.steps": 2}
    watch = Recorder()
    trainer = Trainer(tiny(fields), data=[batch(0), batch(1)], callbacks=[watch])
    step, compiled = trainer.stepper, []

    def call(*args: Any) -> Any:
        with torch.compiler.set_stance("fail_on_recompile"):
            compiled.append(True)
            return step(*args)

    call.phases, call.graph_runner = step.phases, None  # type: ignore[attr-defined]
    trainer.stepper = call  # type: ignore[assignment]
    trainer.fit()
    assert len(compiled) == 2
    assert all(" is compiled, in " in event.text for event in watch.of("on_message"))
    assert all(made["compiled"] for made in trainer.state.decisions["compile"].values())


def wrong_output(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network.forward(x) + 0.01


def lying(factor: float) -> Callable[[Tensor], Tensor]:
    class Lying(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return factor * gradient

    return Lying.apply


def wrong_gradient(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network.forward(lying(1.01)(x))


def wrong_parameters(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Parameters wrong in one bias alone: the output and the input's gradient are right."""

    def call(x: Tensor) -> Tensor:
        parameters = dict(network.named_parameters())
        parameters["to_rgb.bias"] = lying(1.01)(parameters["to_rgb.bias"])
        compiled, network._compiled_call_impl = network._compiled_call_impl, None
        try:
            return torch.func.functional_call(network, parameters, (x,))
        finally:
            network._compiled_call_impl = compiled

    return call


def not_a_number(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network.forward(x) * float("nan")


def failing(network: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(*_: Any) -> Tensor:
        raise RuntimeError("no compiler was found\nlong trace")

    return call


def eager(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda *args: network.forward(*args)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (wrong_output, "its output is off by"),
        (wrong_gradient, "its gradient is off by 1.0e-02 of its size, eager's by "),
        (wrong_parameters, "its gradient of to_rgb.bias is off by 1.0e-02 of its size"),
        (not_a_number, "its output is off by nan"),
        (failing, "RuntimeError: no compiler was found"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_dropped_where_it_does_not(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], reason: str) -> None:
    compiles_to(monkeypatch, make)
    network = FastGenerator(4, 1)
    want, names = network(IMAGES), list(network.state_dict())
    told = compile_verified(network, TRAINED, CPU, torch.float32)
    assert told is not None and told.startswith(reason) and "\n" not in told
    assert torch.equal(network(IMAGES), want) and list(network.state_dict()) == names


def test_a_run_says_what_is_not_compiled_and_goes_on(monkeypatch: pytest.MonkeyPatch, tiny: Make) -> None:
    compiles_to(monkeypatch, failing)
    watch = Recorder()
    trainer = Trainer(tiny({"train.compile": True, "train.steps": 1}), data=[batch(0)], callbacks=[watch])
    report = trainer.fit()
    assert report["steps"] == 1
    told = [event.text.split(" is not compiled: ")[0] for event in watch.of("on_message")]
    assert told == ["the generator", "the discriminator", "the encoder"]
    assert [made["compiled"] for made in report["decisions"]["compile"].values()] == [False] * 3


@pytest.mark.parametrize("expected", [False, "auto"])
def test_not_compiled_where_it_cannot_pay(monkeypatch: pytest.MonkeyPatch, tiny: Make, expected: Any) -> None:
    """Four steps of milliseconds: not even tried, and nothing is said."""
    compiles_to(monkeypatch, failing)
    watch = Recorder()
    trainer = Trainer(tiny({"train.compile": expected}), data=[batch(n) for n in range(4)], callbacks=[watch])
    report = trainer.fit()
    assert watch.of("on_message") == []
    assert report["decisions"] == ({"compile": {}} if expected == "auto" else {})


def compiler_of(trainer: Trainer, told: list[str], networks: Mapping[str, Any] | None = None) -> Compiler:
    made = partial(trainer.task.networks, trainer.state) if networks is None else lambda: networks
    return Compiler("auto", trainer.state, made, CPU, torch.float32, told.append)


def seconds_of(monkeypatch: pytest.MonkeyPatch, eager: float, compiled: float) -> None:
    """The seconds that each network takes."""
    monkeypatch.setattr(
        Compiler, "_seconds", lambda _, network: eager if network[0]._compiled_call_impl is None else compiled
    )


def hope_for(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(
        compiling, "_EXPECTED_SPEEDUP", {"cpu": dict.fromkeys(("generator", "discriminator", "encoder"), share)}
    )


def test_on_cpu_only_the_generator_is_tried(monkeypatch: pytest.MonkeyPatch, tiny: Make) -> None:
    compiles_to(monkeypatch, eager)
    seconds_of(monkeypatch, 0.5, 0.4)
    trainer, told = Trainer(tiny(), data=[]), list[str]()
    compiler = compiler_of(trainer, told)
    compiler.start()
    for _ in range(3):
        compiler.on_step_end(1.0, lambda _: 10000)
    assert len(told) == 1 and told[0].startswith("the generator is compiled")
    made = trainer.state.decisions["compile"]
    assert made["discriminator"] == made["encoder"] == {"compiled": False}


@pytest.mark.parametrize(
    ("step", "left", "eager_s", "compiled_s", "tried", "kept"),
    [
        (1.0, 749, 0.5, 0.1, False, False),  # of 750 s of training, 30 s might be won
        (1.0, 751, 0.5, 0.1, False, False),  # the step might, the half of it that this network is cannot
        (1.0, 2000, 0.5, 0.4, True, True),
        (1.0, 2000, 0.5, 0.49, True, False),
        (1.0, 2000, 0.5, 0.6, True, False),
    ],
)
def test_auto_weighs_what_is_won_against_what_it_takes(
    monkeypatch: pytest.MonkeyPatch,
    tiny: Make,
    step: float,
    left: float,
    eager_s: float,
    compiled_s: float,
    tried: bool,
    kept: bool,
) -> None:
    compiles_to(monkeypatch, eager)
    seconds_of(monkeypatch, eager_s, compiled_s)
    told: list[str] = []
    trainer = Trainer(tiny(), data=[])
    compiler = compiler_of(trainer, told, {"generator": (trainer.state.generator, TRAINED)})
    compiler.start()
    for seconds in (9 * step, 1.1 * step):  # the first of all allocates
        compiler.on_step_end(seconds, lambda _: left)
        assert not compiler.decided and trainer.state.decisions == {}
    compiler.on_step_end(step, lambda _: left)
    assert compiler.decided
    made = trainer.state.decisions["compile"]
    assert [each["compiled"] for each in made.values()] == ([kept] if tried or 0.04 * step * left >= 30 else [])
    assert (trainer.state.generator._compiled_call_impl is not None) is kept
    assert len(told) == tried
    if kept:
        assert re.fullmatch(r"the generator is compiled, in \d+ s: 400.0 ms a step, eager 500.0", told[0])
    elif tried:
        assert told[0].startswith(f"the generator is not compiled: {1e3 * compiled_s:.1f} ms a step, eager 500.0")
        assert set(made["generator"]) == {"compiled", "time/compile", "time/eager", "time/compiled"}


def test_what_one_took_is_what_the_next_would(monkeypatch: pytest.MonkeyPatch, tiny: Make) -> None:
    compiles_to(monkeypatch, eager)
    seconds_of(monkeypatch, 0.5, 0.4)
    hope_for(monkeypatch, 0.05)
    clock = iter(range(0, 10000, 200))
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: float(next(clock)))
    trainer, told = Trainer(tiny(), data=[]), list[str]()
    compiler = compiler_of(trainer, told)
    compiler.start()
    for _ in range(3):
        compiler.on_step_end(1.0, lambda _: 2000)
    made = trainer.state.decisions["compile"]
    assert {name: each["compiled"] for name, each in made.items()} == {
        "generator": True,
        "discriminator": False,
        "encoder": False,
    }
    assert made["generator"]["time/compile"] == 200 and "time/compile" not in made["encoder"]


def test_a_resumed_run_does_as_was_decided(
    monkeypatch: pytest.MonkeyPatch, tiny: Make, tmp_path: Path, no_plots: None
) -> None:
    """Compiled from its first step on, without being timed; the bits are those of the run that went through."""
    marked: list[nn.Module] = []

    def call(network: nn.Module) -> Callable[..., Any]:
        marked.append(network)
        return lambda *args: network.forward(*args)

    compiles_to(monkeypatch, call)
    seconds_of(monkeypatch, 0.5, 0.4)
    hope_for(monkeypatch, 1e6)
    fields = {"train.steps": 8, "checkpoint.every": 4, "train.compile": "auto"}
    whole = Trainer(tiny(fields), out=tmp_path / "whole")
    whole.fit()
    Trainer(tiny(fields), out=tmp_path / "run", callbacks=[StopAt(5)]).fit()
    marked.clear()

    def untimed(*_: Any) -> float:
        raise AssertionError("timed again")

    monkeypatch.setattr(Compiler, "_seconds", untimed)
    watch = Recorder()
    trainer = Trainer(tiny(fields), out=tmp_path / "run", callbacks=[watch], resume=True)
    assert trainer.state.decisions["compile"]["generator"]["compiled"]
    trainer.fit()
    assert trainer.state.generator in marked and trainer.state.discriminator in marked
    assert differences(trainer.state.state_dict(), whole.state.state_dict()) == []
    assert load_config(tmp_path / "run" / "config.yaml").train.compile == "auto"


def test_a_rollback_keeps_what_was_decided(monkeypatch: pytest.MonkeyPatch, tiny: Make) -> None:
    trainer = Trainer(tiny({"train.compile": "auto"}), data=[batch(n) for n in range(4)])
    trainer.fit()
    trainer._rollback.restore(trainer, "a test")
    assert trainer.state.decisions == {"compile": {}}


def test_the_field(tiny: Make) -> None:
    assert Config().train.compile == "auto" and tiny({"train.compile": True}).train.compile is True
    with pytest.raises(InputError, match="compile: input should be 'auto', True or False, got 'maybe'"):
        tiny({"train.compile": "maybe"})
