"""``fastgan bench infer``: a picture through the network of Johnson et al., beside plain PyTorch and ONNX Runtime."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.bench import harness, results
from fastgan.bench.baselines import ops as eager_ops
from fastgan.bench.baselines.networks import PlainGenerator, copy_weights
from fastgan.bench.harness import Plan, Provider, Tell, Verdict
from fastgan.bench.networks import conv_floor
from fastgan.bench.networks.step_setup import pictures
from fastgan.bench.results import Result
from fastgan.bench.timing import QUICK, Effort
from fastgan.bench.worker_process import Opened
from fastgan.inference import Stylizer
from fastgan.models import FastGenerator
from fastgan.precision import autocast, select_device, select_dtype
from fastgan.profiling.convolutions import total_operations
from fastgan.utils.format import round_significant

SUITE = "infer"
_EFFORT = {"cpu": Effort(seconds=60.0, least=5, most=25), "cuda": Effort(seconds=5.0, least=5, most=30)}
#: Of the weights, which stand for trained ones.
SEED = 0
#: A picture nearer than this to eager float32's is right: the peak is the range of the pictures.
LEAST_PSNR = 48.0
#: What is written for the same picture to the bit.
_SAME = 200.0
_PICTURES = 4


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
    """Measure the network; the header and rows of ``bench --json``. Takes what ``eager_ops.run`` takes."""
    begin = time.monotonic()
    result = result or {"header": results.header(device), "rows": []}
    size = size_of(quick=quick)
    harness.allow_tf32(device)
    chosen = providers(device, size, not quick if compiled is None else compiled)
    name, needed = case_of(size), conv_floor.of_picture(size)
    limits = harness.add_floor(result, name, needed, chosen, device, quick=quick, tell=tell)
    plan = Plan(
        SUITE,
        name,
        device,
        __name__,
        chosen,
        images=1,
        operations=total_operations(needed),
        floor=limits,
        judge=judge,
    )
    header = result["header"]
    result["rows"] += harness.measured(plan, effort or (QUICK if quick else _EFFORT[device]), tell, header["skipped"])
    header["infer"] = {"weights": f"not trained, seed {SEED}", "least_psnr_db": LEAST_PSNR, "tf32": device == "cuda"}
    results.finish(result, begin)
    keep(result)
    return result


def size_of(*, quick: bool = False) -> int:
    """Pixels a side of the picture."""
    return 64 if quick else 512


def case_of(size: int) -> str:
    """``stylise-512-b1``."""
    return f"stylise-{size}-b1"


def judge(have: dict[str, Tensor], truth: dict[str, Tensor], dtype: str) -> Verdict:
    """The first picture against eager float32's: PSNR, dB, of images in [-1, 1]."""
    if have["picture"].shape != truth["picture"].shape:
        return Verdict(False, {"psnr_db": None})
    off = (have["picture"].double() - truth["picture"].double()).square().mean().item()
    psnr = _SAME if off == 0 else min(_SAME, 10 * math.log10(4 / off)) if math.isfinite(off) else -math.inf
    return Verdict(psnr > LEAST_PSNR, {"psnr_db": round_significant(psnr, 4) if math.isfinite(psnr) else None})


def generators() -> tuple[FastGenerator, PlainGenerator]:
    """fastgan's network and the plain one with the same weights, drawn from ``SEED``.

    Drawn as torch draws them, filters are noise: eager bfloat16 is 41 dB from float32 then, and 58 to 61 dB with four
    networks that were trained. Blurred filters, gains and shifts of the norms, and a contrast like that of trained
    networks give 56 dB.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(SEED)
        ours = FastGenerator(32, 5, stem="conv9")
        theirs = PlainGenerator(32, 5)
        for name, parameter in ours.named_parameters():
            if parameter.dim() == 4:
                taps = torch.hann_window(parameter.shape[-1] + 2, periodic=False)[1:-1]
                blurred = parameter.mean((2, 3), keepdim=True) * parameter.shape[-1] * taps[:, None] * taps
                parameter.copy_(0.2 * parameter + 0.8 * blurred)
            elif not name.startswith("to_rgb"):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        copy_weights(ours, theirs)
        before = torch.atanh(theirs(next(_inputs(64, "cpu"))))
        ours.to_rgb.weight *= 0.5 / before.std()
        copy_weights(ours, theirs)
    return ours, theirs


def open_provider(options: dict[str, Any]) -> Opened:
    """One provider, in the worker's process, after its first picture. See ``fastgan.bench.worker_process``."""
    device, size = options["device"], options["size"]
    harness.allow_tf32(device)
    ours, theirs = generators()
    source = _inputs(size, device)
    run: Callable[[Tensor], Tensor]
    if "precision" in options:
        target = select_device(device)
        run = Stylizer(ours, target, select_dtype(options["precision"], target)).run
    elif options["by"] == "onnxruntime":
        run = _onnxruntime(theirs, next(source))
        source = _inputs(size, device)
    else:
        run = _torch(theirs, device, getattr(torch, options["dtype"]), options["by"] == "compiled")
    picture = run(next(source)).float().cpu()
    return Opened({"picture": picture}, lambda: run(next(source)))


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
        wanted = onnxruntime.SessionOptions()
        wanted.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(file), wanted, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["y"], {"x": x.numpy()})[0])


def _inputs(size: int, device: str) -> Iterator[Tensor]:
    made = [
        eager_ops.from_pixels(pictures(1, size, seed), torch.float32, False).to(device) for seed in range(_PICTURES)
    ]
    return itertools.cycle(made)


def providers(device: str, size: int, compiled: bool) -> list[Provider]:
    """Who takes part; ONNX Runtime on a CPU alone."""
    known = {"size": size}
    ours = [Provider(p.name, p.dtype, {**p.options, **known}) for p in harness.ours(device)]
    peers = [(name, dtype) for name in ("eager", "compiled")[: 1 + compiled] for dtype in ("float32", "bfloat16")]
    if device == "cpu":
        peers.append(("onnxruntime", "float32"))
    return ours + [Provider(name, dtype, {"by": name, **known}) for name, dtype in peers]
