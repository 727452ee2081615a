"""``fastgan bench train``: the whole training step, fastgan beside plain PyTorch with the same weights and losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastgan.bench import harness
from fastgan.bench.harness import BenchmarkPlan, Check, Provider
from fastgan.bench.networks import conv_floor, step_setup
from fastgan.bench.networks.step_setup import StepSetup
from fastgan.bench.timing import TimingBudget
from fastgan.bench.worker_process import ReadyProvider
from fastgan.utils.format import round_significant

SUITE = "train"
_BUDGET = {
    "cpu": TimingBudget(seconds=150.0, min_rounds=5, max_rounds=15),
    "cuda": TimingBudget(seconds=10.0, min_rounds=5, max_rounds=30),
}

#: Largest relative errors with which a row is correct: of any loss, and of each network's whole gradient (norm of the
#: difference over norm). In float32 the gradient of G has passed a D whose first update of Adam's has the size of the
#: rate whatever the gradient's: rounding of gradients near zero shows there. In bfloat16 the baseline's own gradient
#: of G is 0.18 from float32's at 64 px.
TOLERANCES = {"float32": (2e-4, 5e-3), "tf32": (1e-2, 0.1), "bfloat16": (3e-2, 0.3), "float16": (3e-2, 0.3)}
_GRADIENTS = ("generator", "discriminator")
#: Names in ``metrics.jsonl`` of the losses compared; 1 - SSIM is compared too, as SSIM itself may be near 0.
LOSSES = ("loss/g", "loss/d", "loss/g_adversarial", "loss/content", "loss/style")


def plan(device: str, *, quick: bool = False, compiled: bool | None = None) -> BenchmarkPlan:
    """The case that is measured; ``compiled`` adds torch.compile, by default unless quick."""
    case = make_case(device, quick=quick)
    float32 = "tf32" if device == "cuda" else "float32"
    return BenchmarkPlan(
        SUITE,
        case.name,
        device,
        __name__,
        providers(case, not quick if compiled is None else compiled),
        images=case.batch,
        convolutions=conv_floor.of_step(case.size, case.batch),
        check=lambda result, reference, dtype: check_result(
            result, reference, float32 if dtype == "float32" else dtype
        ),
        budget=_BUDGET[device],
        facts={
            "features": case.features,
            "tf32": device == "cuda",
            "tolerances": {
                name: {"losses": loss, "gradients": gradient} for name, (loss, gradient) in TOLERANCES.items()
            },
        },
    )


def make_case(device: str, *, quick: bool = False) -> StepSetup:
    """``step-256-b4``, or for ``quick`` ``step-64-b2``."""
    size, batch = (64, 2) if quick else (256, 4)
    return StepSetup(size, batch, device, step_setup.available_features())


def check_result(result: dict[str, Tensor], reference: dict[str, Tensor], arithmetic: str) -> Check:
    """Compare every loss and the gradients of both networks in the first step with the reference's."""
    max_loss_error, max_gradient_error = TOLERANCES[arithmetic]
    losses = [name for name in reference if name not in _GRADIENTS]
    loss_error = max(_relative_error(result[name], reference[name]) for name in losses)
    errors = [_relative_error(result[name], reference[name]) for name in _GRADIENTS]
    cosines = [_cosine(result[name], reference[name]) for name in _GRADIENTS]
    measures = {
        "loss_error": _finite(loss_error),
        **{f"gradient_error_{name}": _finite(error) for name, error in zip(_GRADIENTS, errors, strict=True)},
        **{f"gradient_cosine_{name}": _finite(cosine) for name, cosine in zip(_GRADIENTS, cosines, strict=True)},
    }
    # Written so that NaN is wrong.
    return Check(loss_error <= max_loss_error and all(error <= max_gradient_error for error in errors), measures)


def outcome(losses: dict[str, Any], generator: nn.Module, discriminator: nn.Module) -> dict[str, Tensor]:
    """The values to compare: losses by name, and the gradient of each network as one vector in parameter order."""
    values = {name: torch.as_tensor(losses[name]).double().cpu() for name in LOSSES}
    values["loss/ssim"] = 1 - torch.as_tensor(losses["train/ssim"]).double().cpu()
    for name, network in zip(_GRADIENTS, (generator, discriminator), strict=True):
        parts = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in network.parameters()]
        values[name] = torch.cat(parts).float().cpu()
    return values


def make_provider(options: dict[str, Any]) -> ReadyProvider:
    """Build a provider in its worker process and take its first step. See ``fastgan.bench.worker_process``."""
    case = StepSetup(**options["case"])
    harness.allow_tf32(case.device)
    source = step_setup.batches(case)
    if "precision" in options:
        trainer = step_setup.trainer(case, options["precision"])
        losses: dict[str, Any] = trainer.train_step(next(source))
        result = outcome(losses, trainer.state.generator, trainer.state.discriminator)
        return ReadyProvider(result, lambda: trainer.train_step(next(source)))
    baseline = step_setup.baseline_step(case, getattr(torch, options["dtype"]), compiled=options["compiled"])
    losses = baseline(next(source))
    result = outcome(losses, baseline.generator, baseline.discriminator)
    return ReadyProvider(result, lambda: baseline(next(source)))


def providers(case: StepSetup, compiled: bool) -> list[Provider]:
    """The implementations that are compared."""
    setup = {"case": vars(case)}
    fastgan = [Provider(p.name, p.dtype, {**p.options, **setup}) for p in harness.fastgan_providers(case.device)]
    baselines = [("eager", "float32", False), ("eager", "bfloat16", False), ("compiled", "bfloat16", True)]
    return fastgan + [
        Provider(name, dtype, {"compiled": uses_compiler, **setup})
        for name, dtype, uses_compiler in baselines
        if compiled or not uses_compiler
    ]


def _relative_error(result: Tensor, reference: Tensor) -> float:
    if result.shape != reference.shape:
        return float("inf")
    return ((result.double() - reference.double()).norm() / reference.double().norm().clamp_min(1e-30)).item()


def _cosine(result: Tensor, reference: Tensor) -> float:
    if result.shape != reference.shape:
        return 0.0
    return torch.nn.functional.cosine_similarity(result.double(), reference.double(), dim=0).item()


def _finite(value: float) -> float | None:
    return round_significant(value, 4) if abs(value) < float("inf") else None
