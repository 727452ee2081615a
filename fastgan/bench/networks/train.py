"""``fastgan bench train``: the whole training step beside plain PyTorch's, same weights, same losses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.bench import harness, results
from fastgan.bench.harness import Plan, Provider, Tell, Verdict
from fastgan.bench.networks import conv_floor, step_setup
from fastgan.bench.networks.step_setup import Setting
from fastgan.bench.results import Result
from fastgan.bench.timing import QUICK, Effort
from fastgan.bench.worker_process import Opened
from fastgan.profiling.convolutions import total_operations
from fastgan.utils.format import round_significant

SUITE = "train"
_EFFORT = {"cpu": Effort(seconds=150.0, least=5, most=15), "cuda": Effort(seconds=10.0, least=5, most=30)}

#: Largest relative errors with which a row is correct: of any loss, and of each network's whole gradient (norm of the
#: difference over norm). In float32 the gradient of G has passed a D whose first update of Adam's has the size of the
#: rate whatever the gradient's: rounding of gradients near zero shows there. In bfloat16 the plain step's own gradient
#: of G is 0.18 from float32's at 64 px.
TOLERANCES = {"float32": (2e-4, 5e-3), "tf32": (1e-2, 0.1), "bfloat16": (3e-2, 0.3), "float16": (3e-2, 0.3)}
_GRADIENTS = ("generator", "discriminator")
#: Names of ``metrics.jsonl``; beside them comes 1 - SSIM, since SSIM itself may be near 0.
LOSSES = ("loss/g", "loss/d", "loss/adversarial", "loss/content", "loss/style")


def run(
    device: str = "cpu",
    *,
    quick: bool = False,
    effort: Effort | None = None,
    compiled: bool | None = None,
    tell: Tell = lambda _: None,
    keep: Callable[[Result], None] = lambda _: None,
    result: Result | None = None,
) -> Result:
    """Measure the step; the header and rows of ``bench --json``. Takes what ``ops.run`` takes."""
    begin = time.monotonic()
    result = result or {"header": results.header(device), "rows": []}
    case = case_of(device, quick=quick)
    harness.allow_tf32(device)
    chosen = providers(case, not quick if compiled is None else compiled)
    needed = conv_floor.of_step(case.size, case.batch)
    limits = harness.add_floor(result, case.name, needed, chosen, device, quick=quick, tell=tell)
    strict = "tf32" if device == "cuda" else "float32"
    plan = Plan(
        SUITE,
        case.name,
        device,
        __name__,
        chosen,
        images=case.batch,
        operations=total_operations(needed),
        floor=limits,
        judge=lambda have, truth, dtype: judge(have, truth, strict if dtype == "float32" else dtype),
    )
    header = result["header"]
    result["rows"] += harness.measured(plan, effort or (QUICK if quick else _EFFORT[device]), tell, header["skipped"])
    header["train"] = {
        "features": case.features,
        "tf32": device == "cuda",
        "tolerances": {name: {"losses": loss, "gradients": gradient} for name, (loss, gradient) in TOLERANCES.items()},
    }
    results.finish(result, begin)
    keep(result)
    return result


def case_of(device: str, *, quick: bool = False) -> Setting:
    """What is measured: ``step-256-b4``, or for ``quick`` ``step-64-b2``."""
    size, batch = (64, 2) if quick else (256, 4)
    return Setting(size, batch, device, step_setup.features_at_hand())


def judge(have: dict[str, Tensor], truth: dict[str, Tensor], arithmetic: str) -> Verdict:
    """Every loss and the gradients of both networks in the first step, against plain float32's."""
    loss_allowed, gradient_allowed = TOLERANCES[arithmetic]
    losses = [name for name in truth if name not in _GRADIENTS]
    loss_error = max(_distance(have[name], truth[name]) for name in losses)
    errors = [_distance(have[name], truth[name]) for name in _GRADIENTS]
    angles = [_cosine(have[name], truth[name]) for name in _GRADIENTS]
    measures = {
        "loss_error": _finite(loss_error),
        **{f"gradient_error_{name}": _finite(error) for name, error in zip(_GRADIENTS, errors, strict=True)},
        **{f"gradient_cosine_{name}": _finite(angle) for name, angle in zip(_GRADIENTS, angles, strict=True)},
    }
    # Written so that what is not a number is wrong.
    return Verdict(loss_error <= loss_allowed and all(error <= gradient_allowed for error in errors), measures)


def outcome(losses: dict[str, Any], generator: nn.Module, discriminator: nn.Module) -> dict[str, Tensor]:
    """What ``judge`` compares: losses by name, and each network's gradient as one vector in its parameters' order."""
    found = {name: torch.as_tensor(losses[name]).double().cpu() for name in LOSSES}
    found["loss/ssim"] = 1 - torch.as_tensor(losses["quality/ssim"]).double().cpu()
    for name, network in zip(_GRADIENTS, (generator, discriminator), strict=True):
        parts = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in network.parameters()]
        found[name] = torch.cat(parts).float().cpu()
    return found


def open_provider(options: dict[str, Any]) -> Opened:
    """One provider, in the worker's process, after its first step. See ``fastgan.bench.worker_process``."""
    case = Setting(**options["case"])
    harness.allow_tf32(case.device)
    source = step_setup.batches(case)
    if "precision" in options:
        trainer = step_setup.trainer(case, options["precision"])
        losses: dict[str, Any] = trainer.step(next(source))
        result = outcome(losses, trainer.state.generator, trainer.state.discriminator)
        return Opened(result, lambda: trainer.step(next(source)))
    plain = step_setup.plain_step(case, getattr(torch, options["dtype"]), compiled=options["compiled"])
    losses = plain(next(source))
    result = outcome(losses, plain.generator, plain.discriminator)
    return Opened(result, lambda: plain(next(source)))


def providers(case: Setting, compiled: bool) -> list[Provider]:
    """Who takes part."""
    known = {"case": vars(case)}
    ours = [Provider(p.name, p.dtype, {**p.options, **known}) for p in harness.ours(case.device)]
    peers = [("eager", "float32", False), ("eager", "bfloat16", False), ("compiled", "bfloat16", True)]
    return ours + [
        Provider(name, dtype, {"compiled": by_compiler, **known})
        for name, dtype, by_compiler in peers
        if compiled or not by_compiler
    ]


def _distance(have: Tensor, want: Tensor) -> float:
    if have.shape != want.shape:
        return float("inf")
    return ((have.double() - want.double()).norm() / want.double().norm().clamp_min(1e-30)).item()


def _cosine(have: Tensor, want: Tensor) -> float:
    if have.shape != want.shape:
        return 0.0
    return torch.nn.functional.cosine_similarity(have.double(), want.double(), dim=0).item()


def _finite(value: float) -> float | None:
    return round_significant(value, 4) if abs(value) < float("inf") else None
