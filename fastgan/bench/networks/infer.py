"""``fastgan bench infer``: stylizing a picture by the network of Johnson et al., beside PyTorch and ONNX Runtime."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.bench import harness
from fastgan.bench.baselines import ops as eager_ops
from fastgan.bench.baselines.networks import BaselineGenerator, copy_weights
from fastgan.bench.harness import BenchmarkPlan, Check, Provider
from fastgan.bench.networks import conv_floor
from fastgan.bench.networks.step_setup import pictures
from fastgan.bench.timing import TimingBudget
from fastgan.bench.worker_process import ReadyProvider
from fastgan.inference import Stylizer
from fastgan.models import FastGenerator
from fastgan.precision import autocast, select_device, select_dtype
from fastgan.utils.format import round_significant

SUITE = "infer"
_BUDGET = {
    "cpu": TimingBudget(seconds=60.0, min_rounds=5, max_rounds=25),
    "cuda": TimingBudget(seconds=5.0, min_rounds=5, max_rounds=30),
}
#: Seed of the weights, which stand for trained ones.
SEED = 0
#: A picture is correct with a PSNR above this to that of eager float32; the peak is the range of the pictures.
MIN_PSNR = 48.0
#: PSNR that is written for identical pictures.
_IDENTICAL_PSNR = 200.0
_PICTURES = 4


def plan(device: str, *, quick: bool = False, compiled: bool | None = None) -> BenchmarkPlan:
    """The case that is measured; ``compiled`` adds torch.compile, by default unless quick."""
    size = 64 if quick else 512
    return BenchmarkPlan(
        SUITE,
        f"stylize-{size}-b1",
        device,
        __name__,
        providers(device, size, not quick if compiled is None else compiled),
        images=1,
        convolutions=conv_floor.of_picture(size),
        check=check_result,
        budget=_BUDGET[device],
        facts={"weights": f"not trained, seed {SEED}", "least_psnr_db": MIN_PSNR, "tf32": device == "cuda"},
    )


def check_result(result: dict[str, Tensor], reference: dict[str, Tensor], dtype: str) -> Check:
    """Compare the first picture with the reference's: PSNR in dB, of images in [-1, 1]."""
    if result["picture"].shape != reference["picture"].shape:
        return Check(False, {"psnr_db": None})
    mse = (result["picture"].double() - reference["picture"].double()).square().mean().item()
    psnr = (
        _IDENTICAL_PSNR
        if mse == 0
        else min(_IDENTICAL_PSNR, 10 * math.log10(4 / mse))
        if math.isfinite(mse)
        else -math.inf
    )
    return Check(psnr > MIN_PSNR, {"psnr_db": round_significant(psnr, 4) if math.isfinite(psnr) else None})


def generators() -> tuple[FastGenerator, BaselineGenerator]:
    """The networks of fastgan and of the baselines with the same random weights.

    With torch's default initialization filters are noise: the PSNR of eager bfloat16 to float32 is 41 dB, and 58 to
    61 dB for four trained networks. Blurred filters, random gains and shifts of the norms, and a contrast like that of
    trained networks give 56 dB.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(SEED)
        fastgan = FastGenerator(32, 5, stem="conv9")
        baseline = BaselineGenerator(32, 5)
        for name, parameter in fastgan.named_parameters():
            if parameter.dim() == 4:
                taps = torch.hann_window(parameter.shape[-1] + 2, periodic=False)[1:-1]
                blurred = parameter.mean((2, 3), keepdim=True) * parameter.shape[-1] * taps[:, None] * taps
                parameter.copy_(0.2 * parameter + 0.8 * blurred)
            elif not name.startswith("to_rgb"):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        copy_weights(fastgan, baseline)
        logits = torch.atanh(baseline(next(_inputs(64, "cpu"))))
        fastgan.to_rgb.weight *= 0.5 / logits.std()
        copy_weights(fastgan, baseline)
    return fastgan, baseline


def make_provider(options: dict[str, Any]) -> ReadyProvider:
    """Build a provider in its worker process and run its first picture. See ``fastgan.bench.worker_process``."""
    device, size = options["device"], options["size"]
    harness.allow_tf32(device)
    fastgan, baseline = generators()
    source = _inputs(size, device)
    run: Callable[[Tensor], Tensor]
    if "precision" in options:
        target = select_device(device)
        run = Stylizer(fastgan, target, select_dtype(options["precision"], target)).run
    elif options["runtime"] == "onnxruntime":
        run = _onnxruntime(baseline, next(source))
        source = _inputs(size, device)
    else:
        run = _torch(baseline, device, getattr(torch, options["dtype"]), options["runtime"] == "compiled")
    picture = run(next(source)).float().cpu()
    return ReadyProvider({"picture": picture}, lambda: run(next(source)))


def _torch(network: nn.Module, device: str, dtype: torch.dtype, compiled: bool) -> Callable[[Tensor], Tensor]:
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    network.to(device=device, memory_format=layout).eval().requires_grad_(False)  # type: ignore[call-overload]
    forward = torch.compile(network, dynamic=False) if compiled else network

    @torch.inference_mode()
    def run(x: Tensor) -> Tensor:
        with autocast(torch.device(device), dtype):
            return forward(x.contiguous(memory_format=layout))

    return run


def _onnxruntime(network: nn.Module, example: Tensor) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network.eval(), (example,), file, input_names=["x"], output_names=["y"], dynamo=True)
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(file), session_options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["y"], {"x": x.numpy()})[0])


def _inputs(size: int, device: str) -> Iterator[Tensor]:
    inputs = [
        eager_ops.from_pixels(pictures(1, size, seed), torch.float32, False).to(device) for seed in range(_PICTURES)
    ]
    return itertools.cycle(inputs)


def providers(device: str, size: int, compiled: bool) -> list[Provider]:
    """The implementations that are compared; ONNX Runtime only on a CPU."""
    case = {"size": size}
    fastgan = [Provider(p.name, p.dtype, {**p.options, **case}) for p in harness.fastgan_providers(device)]
    baselines = [(name, dtype) for name in ("eager", "compiled")[: 1 + compiled] for dtype in ("float32", "bfloat16")]
    if device == "cpu":
        baselines.append(("onnxruntime", "float32"))
    return fastgan + [Provider(name, dtype, {"runtime": name, **case}) for name, dtype in baselines]
