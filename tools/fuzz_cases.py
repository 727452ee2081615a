"""The cases of fuzz_kernels.py, which starts this script with the sanitizers loaded."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzz_memory import Finding, Memory
from fuzz_spied import Spied, must_raise
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fastgan import ops
from fastgan.ops import _native

OPS = torch.ops.fastgan
ACTIVATIONS = (None, "relu", "leaky_relu", "tanh")
_PADDINGS = ("zeros", "reflect")


class Case:
    def __init__(self, random: Random) -> None:
        self.random, self.memory = random, Memory(random)

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def run(self, op: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        with self.memory.walled():
            made = op(*arguments)
        results = made if isinstance(made, tuple) else (made,)
        if any(result.isnan().any() for result in results):
            raise Finding(f"{op} gave NaN for finite inputs")
        return results

    def pair(self, elements: int, smallest: int = 1) -> tuple[Tensor, Tensor]:
        shape = self.memory.shape(elements, smallest)
        return self.memory.place(shape, self.memory.dtype()), self.memory.place(shape, self.memory.dtype())

    def ssim_options(self) -> tuple[float, str, int, float]:
        window_size = self.random.choice((11, 11, 11, 7, 7, 1, 3, 5, 9, 13, 29))
        window = "gaussian" if window_size == 1 else self.random.choice(("gaussian", "uniform"))
        return self.random.choice((1.0, 4.0, 255.0)), window, window_size, self.random.uniform(0.3, 5)


def ssim(case: Case) -> None:
    options = case.ssim_options()
    x, y = case.pair(60_000, options[2])
    case.run(OPS.ssim, x, y, *options, False, False)
    _, *gradients = case.run(OPS.ssim, x, y, *options, case.flag(), case.flag())
    for gradient in gradients:
        if gradient.numel():
            case.run(OPS.ssim_scale_backward, case.memory.numbers(x.shape[0]), gradient, case.memory.dtype())


def psnr(case: Case) -> None:
    x, y = case.pair(200_000)
    data_range = case.random.choice((1.0, 255.0, 65535.0))
    (value,) = case.run(OPS.psnr, x, y, data_range)
    grad = case.memory.numbers(x.shape[0])
    case.run(OPS.psnr_backward, grad, x, y, value, data_range, case.flag(), case.flag())


def features(case: Case) -> Tensor:
    n, c, h, w = case.memory.shape(100_000)
    while c * c * h * w * n > 4_000_000:
        c, h = c * 2 // 3, max(1, h * 2 // 3)
    return case.memory.place((n, c, h, w), case.memory.dtype())


def gram(case: Case) -> None:
    x = features(case)
    (matrix,) = case.run(OPS.gram, x)
    grad = case.memory.numbers(*matrix.shape)
    case.run(OPS.gram_backward, grad[:, :1].expand(matrix.shape) if case.flag() else grad.mT, x)


def gram_style_loss(case: Case) -> None:
    x = features(case)
    n, c = x.shape[:2]
    target = case.memory.numbers(n, c, c) if case.flag() else case.memory.numbers(c, c)
    windows = [case.random.randint(1, min(side, 4)) for side in x.shape[2:]]
    *_, difference = case.run(OPS.gram_style_loss, x, target, *windows, case.random.random())
    needs = case.flag(), case.flag()
    case.run(OPS.gram_style_loss_backward, case.memory.numbers(n), x, target, difference, *windows, *needs)


def instance_norm(case: Case) -> None:
    shape = case.memory.shape(60_000)
    n, c = shape[:2]
    x = case.memory.place(shape, case.memory.dtype())

    def parameter() -> Tensor | None:
        return case.random.choice((None, case.memory.numbers(c), case.memory.numbers(n, c)))

    weight, bias = parameter(), parameter()
    residual = case.memory.place(shape, case.memory.dtype()) if case.flag() else None
    activation, slope = case.random.choice(ACTIVATIONS), case.random.uniform(0, 1)
    _, mean, rstd = case.run(OPS.instance_norm, x, weight, bias, residual, activation, slope, 1e-5)
    grad = case.memory.place(shape, case.memory.dtype())
    needs = case.flag(), case.flag(), case.flag()
    case.run(OPS.instance_norm_backward, grad, x, weight, bias, mean, rstd, activation, slope, *needs)


def bias_act(case: Case) -> None:
    shape = case.memory.shape(60_000)
    x = case.memory.place(shape, case.memory.dtype())
    bias = case.memory.numbers(shape[1]) if case.flag() else None
    clamp = case.random.uniform(0.1, 3) if case.flag() else None
    options = case.random.choice(ACTIVATIONS), case.random.uniform(0, 1), case.random.uniform(-2, 2), clamp
    case.run(OPS.bias_act, x, bias, *options)
    grad = case.memory.place(shape, case.memory.dtype())
    case.run(OPS.bias_act_backward, grad, x, bias, *options, case.flag(), case.flag())


def pixels(case: Case) -> None:
    n, c, h, w = case.memory.shape(60_000)
    x = case.memory.place((n, h, w, c), torch.uint8)
    height, width = case.random.randint(1, h), case.random.randint(1, w)
    top, left = (torch.randint(-3, side + 3, (n,)) for side in (h, w))
    flip = torch.rand(n) < 0.5 if case.flag() else None
    cut = (top, left, height, width) if case.flag() else (None, None, h, w)
    case.run(OPS.from_pixels, x, case.memory.dtype(), case.flag(), *cut, flip, case.flag())
    case.run(OPS.to_pixels, case.memory.place((n, c, h, w), case.memory.dtype()))


def fuse(case: Case) -> None:
    mode = case.random.choice(("additive", "convex", "adain"))
    shape = case.memory.shape(60_000)
    n, c = shape[:2]
    planes = (n, c, *case.memory.shape(60_000 // (n * c) + 1)[2:]) if mode == "adain" else shape
    content: Tensor | None = case.memory.place(shape, case.memory.dtype())
    style: Tensor | None = case.memory.place(planes, case.memory.dtype())
    alpha, number = case.memory.numbers(n) if case.flag() else None, case.random.uniform(-2, 2)
    _, moments = case.run(OPS.fuse, content, style, alpha, mode, number)
    grad = case.memory.place(shape, case.memory.dtype())
    needs = case.flag(), case.flag(), case.flag()
    if not needs[2] and mode != "adain" and case.flag():
        content, style, planes = None, None, shape
    options = mode, number, case.memory.dtype() if style is None else style.dtype
    case.run(OPS.fuse_backward, grad, content, style, alpha, moments, *options, *needs)


def conv2d(case: Case) -> None:
    draw, widths = case.random, (16, 32, 48, 64, 80)
    inputs, outputs = draw.choice(widths), draw.choice(widths)
    kernel, stride, padding, upsample, activation = draw.choice(
        (
            *((3, 1, padding, upsample, draw.choice(ACTIVATIONS[:3])) for padding in _PADDINGS for upsample in (0, 1)),
            *((4, stride, "zeros", 0, draw.choice(ACTIVATIONS[:3])) for stride in (1, 2)),
        )
    )
    few = draw.choice(("", "", "from", "to"))
    if few:
        kernel, stride, padding, upsample = draw.choice((1, 3, 5, 9)), 1, draw.choice(_PADDINGS), 0
        inputs, outputs = (3, outputs) if few == "from" else (inputs, 3)
        activation = activation if few == "from" else None
    least = max(2, kernel // 2 + 1 if padding == "reflect" else 1)
    n, _, h, w = case.memory.shape(4000, least)
    dtype = case.memory.dtype() if _native.extension().conv2d_serves(1) else torch.float32
    if not _native.extension().conv2d_serves(0):
        return

    def image(channels: int, *sides: int) -> Tensor:
        return torch.randn(n, channels, *sides).to(dtype).contiguous(memory_format=torch.channels_last)

    x, weight = image(inputs, h, w), case.memory.numbers(outputs, inputs, kernel, kernel)
    options = stride, padding, bool(upsample), activation, draw.uniform(0, 1)
    bias = case.memory.numbers(outputs) if case.flag() else None
    (out,) = case.run(OPS.conv2d, x, weight, bias, *options)
    needs = case.flag(), case.flag(), case.flag()
    grad = image(outputs, *out.shape[2:])
    case.run(OPS.conv2d_backward, grad, x, out, weight, [n, h, w], *options, *needs)
    if not few:
        (pooled,) = case.run(OPS.max_pool, x)
        case.run(OPS.max_pool_backward, torch.randn_like(pooled), x, pooled)


def optim_step(case: Case) -> None:
    length = case.random.randint(1, 60_000)
    kind, states, momentum = case.random.choice(
        (("adam", 2, 0.5), ("rmsprop", 2, 0.5), ("rmsprop", 1, 0.0), ("sgd", 1, 0.5), ("sgd", 0, 0.0))
    )
    param, *state = (case.memory.numbers(length).abs() for _ in range(1 + states))
    averaged: dict[str, Any] = {}
    if case.flag():
        averaged = {"ema": case.memory.numbers(length), "ema_decay": case.random.random()}
    grad = case.memory.numbers(length).to(case.memory.dtype())
    found = torch.zeros(())
    ops.check_finite(grad, found, backend="native")
    ops.optim_step(
        param,
        grad,
        tuple(state),
        kind=kind,
        step=case.random.randint(1, 100),
        lr=case.random.uniform(0, 0.1),
        beta1=momentum,
        beta2=case.random.uniform(0.1, 0.99),
        weight_clip=case.random.uniform(0.01, 3) if case.flag() else None,
        found_inf=found,
        backend="native",
        **averaged,
    )
    if not param.isfinite().all() or found != 0:
        raise Finding("optim_step made of finite numbers what is not")


def module_itself(case: Case) -> None:
    module: Any = _native.extension()
    if module.fma_loop(case.random.choice((1, 2, 3)), 0.01) <= 0:
        raise Finding("fma_loop gave no speed")
    if module.build_info()["cpu_level"] not in module.build_info()["cpu_levels"]:
        raise Finding("build_info names a level that is not there")
    if module.vector_lanes() not in (4, 8, 16):
        raise Finding("vector_lanes is no vector's width")
    module.set_idle_limit(case.random.choice((0, 1, 5 << 20, 1 << 40)))
    rooms = [_native.empty_like(torch.zeros(case.random.randrange(1, 4), 3, 300, 305)).fill_(1) for _ in range(3)]
    if module.buffer_bytes()["used"] < sum(room.numel() * 4 for room in rooms):
        raise Finding("buffer_bytes does not count what is used")
    must_raise("a negative limit", module.set_idle_limit, -1)
    must_raise("an unknown level", module.set_level, case.random.choice(("mmx", "AVX2", "avx2 ", "\0", "é" * 999)))
    must_raise("a level that is no text", module.set_level, case.random.choice((None, 1, ["avx2"], ())))


def wrong_calls(case: Case) -> None:
    """Every registered op with one argument that its Python guard must refuse."""
    memory = case.memory
    shape = memory.shape(3000, 11)
    n, c, h, w = shape
    x, grad = memory.place(shape, memory.dtype()), memory.place(shape, memory.dtype())
    images = {
        "float64": x.double(),
        "float16": x.half(),
        "int32": x.int(),
        "bool": x > 0,
        "complex": x.to(torch.complex64),
        "three dimensions": x[0],
        "five dimensions": x[None],
        "no image": x[:0],
        "no channel": x[:, :0],
        "no column": x[..., :0],
        "sparse": x.float().contiguous().to_sparse(),
        "None": None,
        "text": "x",
    }
    kind = case.random.choice(list(images))
    bad: Any = images[kind]
    description = f"an image of {kind}"
    other = memory.place(
        case.random.choice(((n + 1, c, h, w), (n, c + 1, h, w), (n, c, h - 1, w), (n, c, h, w + 5))), x.dtype
    )
    options, per_image = (1.0, "gaussian", 11, 1.5), memory.numbers(n)
    size = case.random.choice((0, -1, -11, 2, 10, min(h, w) // 2 * 2 + 3, 2**31 + 1, 2**63 - 1))
    for a, b, which in (
        (x, bad, description),
        (bad, x, description),
        (x, other, "shapes that differ"),
        (other, x, "shapes that differ"),
    ):
        must_raise(f"ssim: {which}", OPS.ssim, a, b, *options, True, True)
        must_raise(f"psnr: {which}", OPS.psnr, a, b, 1.0)
        must_raise(f"psnr_backward: {which}", OPS.psnr_backward, per_image, a, b, per_image, 1.0, True, True)
    must_raise(f"ssim: window_size {size}", OPS.ssim, x, x, 1.0, "gaussian", size, 1.5, case.flag(), case.flag())
    must_raise(f"gram: {description}", OPS.gram, bad)
    must_raise(f"gram_backward: {description}", OPS.gram_backward, memory.numbers(n, c, c), bad)
    whole = (1, 1, 1.0)
    must_raise(f"gram_style_loss: {description}", OPS.gram_style_loss, bad, memory.numbers(c, c), *whole)
    for windows in ((0, 1), (1, -1), (h + 1, 1), (1, w + 1)):
        must_raise(f"gram_style_loss: windows {windows}", OPS.gram_style_loss, x, memory.numbers(c, c), *windows, 1.0)
    norm = (None, None, memory.numbers(n, c), memory.numbers(n, c), None, 0.2)
    act = (None, None, 0.2, 1.0, None)
    for a, b, which in ((grad, bad, description), (bad, x, description), (other, x, "a gradient of another shape")):
        must_raise(f"bias_act_backward: {which}", OPS.bias_act_backward, a, b, *act, True, True)
        must_raise(
            f"instance_norm_backward: {which}",
            OPS.instance_norm_backward,
            a,
            b,
            *norm,
            True,
            True,
            True,
        )
    must_raise(f"bias_act: {description}", OPS.bias_act, bad, *act)
    must_raise(f"instance_norm: {description}", OPS.instance_norm, bad, None, None, None, None, 0.2, 1e-5)
    must_raise("instance_norm: residual", OPS.instance_norm, x, None, None, other, None, 0.2, 1e-5)

    number = case.random.choice((memory.numbers(n + 1), memory.numbers(n, 1), memory.numbers(0), memory.numbers()))
    must_raise("ssim_scale_backward: grad", OPS.ssim_scale_backward, number, x, torch.float32)
    must_raise("psnr_backward: grad", OPS.psnr_backward, number, x, x, per_image, 1.0, True, True)
    must_raise("psnr_backward: psnr", OPS.psnr_backward, per_image, x, x, number, 1.0, True, True)
    matrix = case.random.choice(
        (
            memory.numbers(n, c + 1, c + 1),
            memory.numbers(n, c, c + 1),
            memory.numbers(n + 1, c, c),
            memory.numbers(n, c, c, 1),
        )
    )
    must_raise("gram_backward: grad", OPS.gram_backward, matrix, x)
    must_raise("gram_style_loss: target", OPS.gram_style_loss, x, matrix, *whole)
    must_raise(
        "gram_style_loss_backward: grad",
        OPS.gram_style_loss_backward,
        number,
        x,
        matrix,
        memory.numbers(n, 1, 1, c * (c + 1) // 2),
        1,
        1,
        True,
        True,
    )
    for windows in ((1, 1), (h + 1, 1)):
        last = matrix, *windows, True, True
        must_raise("gram_style_loss_backward: difference", OPS.gram_style_loss_backward, per_image, x, matrix, *last)
    parameter = case.random.choice(
        (memory.numbers(c + 1), memory.numbers(n + 1, c), memory.numbers(c).double(), memory.numbers(2 * c + 2)[::2])
    )
    must_raise("bias_act: bias", OPS.bias_act, x, parameter, *act[1:])
    must_raise("bias_act_backward: bias", OPS.bias_act_backward, grad, x, parameter, *act[1:], True, True)
    tail = (None, memory.numbers(4, n, c), "adain", 0.5)
    fits = memory.place((n, c, 2, 3), x.dtype)
    for a, b, which in ((x, bad, description), (bad, x, description), (x[:1].expand(n + 1, c, h, w), x, "more images")):
        must_raise(f"fuse: {which}", OPS.fuse, a, b, None, "adain", 0.5)
        must_raise(f"fuse_backward: {which}", OPS.fuse_backward, a, x, b, *tail, x.dtype, True, True, True)
        must_raise(f"fuse_backward: {which}", OPS.fuse_backward, x, a, b, *tail, x.dtype, True, True, True)
    must_raise("fuse: a style of another size", OPS.fuse, x, fits, None, "convex", 0.5)
    must_raise("fuse: mode", OPS.fuse, x, x, None, "mlp", 0.5)
    must_raise("fuse: alpha", OPS.fuse, x, x, number, "adain", 0.5)
    needs = x.dtype, True, True, True
    must_raise("fuse_backward: no content", OPS.fuse_backward, grad, None, x, *tail, *needs)
    must_raise("fuse_backward: no style", OPS.fuse_backward, grad, x, None, *tail, *needs)
    must_raise("fuse_backward: no style", OPS.fuse_backward, grad, x, None, *tail[:2], "convex", 0.5, *needs)
    must_raise("fuse_backward: moments", OPS.fuse_backward, grad, x, x, None, parameter, "adain", 0.5, *needs)
    must_raise("fuse_backward: dtype", OPS.fuse_backward, grad, x, x, *tail, torch.float64, True, True, True)
    must_raise("bias_act: activation", OPS.bias_act, x, None, "gelu", *act[2:])
    for at, name in enumerate(("weight", "bias", "mean", "rstd")):
        changed: list[Any] = [*norm]
        changed[at] = parameter
        must_raise(
            f"instance_norm_backward: {name}",
            OPS.instance_norm_backward,
            grad,
            x,
            *changed,
            True,
            True,
            True,
        )
        if at < 2:
            must_raise(
                f"instance_norm: {name}",
                OPS.instance_norm,
                x,
                *changed[:2],
                None,
                None,
                0.2,
                1e-5,
            )


KINDS = (
    *(ssim, psnr, gram, gram_style_loss, instance_norm, bias_act, fuse, pixels, wrong_calls),
    *(ssim, instance_norm, fuse, optim_step, conv2d, conv2d, module_itself),
)


def load(path: str) -> Spied:
    spec = importlib.util.spec_from_file_location("fastgan._C", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path} is no extension")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    spied = Spied(module)
    _native._loaded = spied, None  # type: ignore[assignment]
    return spied


def run_case(spied: Spied, seed: int, number: int) -> None:
    random = Random(f"{seed}/{number}")
    torch.manual_seed(random.getrandbits(62))
    spied.random = random
    level = random.choice(spied.module.build_info()["cpu_levels"])
    spied.set_level(level)
    threads = random.choice((1, 1, 2, 3))
    torch.set_num_threads(threads)
    kind = KINDS[number % len(KINDS)]
    try:
        kind(Case(random))
    except Exception as error:
        raise Finding(f"{kind.__name__} at {level} with {threads} threads: {error}") from error


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--progress", required=True)
    parser.add_argument("--case", type=int)
    arguments = parser.parse_args()

    spied = load(arguments.library)
    progress = os.open(arguments.progress, os.O_WRONLY)
    end = time.monotonic() + arguments.seconds
    number = arguments.case or 0
    while True:
        os.pwrite(progress, f"{number:<20}".encode(), 0)
        run_case(spied, arguments.seed, number)
        number += 1
        if arguments.case is not None or (time.monotonic() > end and number >= 2 * len(KINDS)):
            break
    if arguments.case is None:
        print(f"{number} cases, no finding; calls by binding:")
        for name in sorted(name for name in dir(spied.module) if not name.startswith("_")):
            print(f"    {name:28}{spied.calls[name]:8}")
            if spied.calls[name] == 0 and not name.endswith(("_cuda", "_workspace")):
                raise Finding(f"{name} was never called: give it a case")
    return 0


if __name__ == "__main__":
    sys.exit(main())
