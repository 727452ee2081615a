"""The benchmark of each op: sizes, inputs, the eager baseline, and the minimum work.

``benchmarks/bench_ops.py`` (pytest-benchmark) and the tests use the same cases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import ops
from fastgan.bench.baselines import adam
from fastgan.bench.baselines import ops as eager_ops
from fastgan.bench.ops.op_benchmark import SUITES, TOLERANCES, Cost, OpBenchmark, OpCase


def _normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def _uniform(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def _features(case: OpCase, rng: torch.Generator) -> Tensor:
    return case.to_layout(_normal(rng, *case.shape).to(case.dtype))


def _image_pair(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    x = _uniform(rng, *case.shape)
    y = (x + 0.1 * _normal(rng, *case.shape)).clamp(0, 1)  # piq refuses values outside
    return case.to_layout(x.to(case.dtype)), case.to_layout(y.to(case.dtype))


def _relu_features(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    return (_features(case, rng).relu(),)


def _style_loss_inputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    # Half the Gram matrix of the same statistics: a difference as large as the matrix, as early in training.
    sample = _normal(rng, 1, case.shape[1], 64, 64).relu()
    return *_relu_features(case, rng), ops.gram(sample, backend="reference")[0] / 2


def _norm_inputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    c = case.shape[1]
    return _features(case, rng), 1 + 0.1 * _normal(rng, c), 0.1 * _normal(rng, c)


def _norm_residual_inputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    return *_norm_inputs(case, rng), _features(case, rng)


def _bias_inputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _features(case, rng), 0.1 * _normal(rng, case.shape[1]).to(case.dtype)


def _fuse_inputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _features(case, rng), _features(case, rng), _uniform(rng, case.shape[0])


def _logit_pair(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _features(case, rng), _features(case, rng)


def _uint8_images(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    n, c, h, w = case.shape
    return (torch.randint(0, 256, (n, h, w, c), generator=rng, dtype=torch.uint8, device=rng.device),)


def _generator_outputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    return (_features(case, rng).tanh(),)


def _adam_inputs(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    """Parameters, gradient, the two moments that Adam keeps, EMA."""
    param, mean, ema = (0.1 * _normal(rng, *case.shape) for _ in range(3))
    return param, _normal(rng, *case.shape).to(case.dtype), mean, _uniform(rng, *case.shape), ema


def _grad_with_inf(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
    grad = _normal(rng, *case.shape).to(case.dtype)
    grad[-1] = math.inf
    return (grad,)


def _conv_inputs(outputs: int, kernel: int) -> Callable[[OpCase, torch.Generator], tuple[Tensor, ...]]:
    def make(case: OpCase, rng: torch.Generator) -> tuple[Tensor, ...]:
        weight = _normal(rng, outputs, case.shape[1], kernel, kernel) / (case.shape[1] * kernel**2) ** 0.5
        return _features(case, rng), weight.to(case.dtype)

    return make


def _conv_benchmark(
    variant: str, size: tuple[int, ...], outputs: int, kernel: int, *, stride: int = 1, upsample: bool = False
) -> OpBenchmark:
    # Operations of the direct sum per input element; backward as many for the input and for the weight.
    operations = 2 * outputs * kernel**2 * (4 if upsample else 1) / stride**2
    return OpBenchmark(
        "conv2d",
        (size,),
        _conv_inputs(outputs, kernel),
        lambda t, case, backend: ops.conv2d(*t, stride=stride, upsample=upsample, backend=backend),
        lambda t, case: eager_ops.conv2d(*t, stride=stride, upsample=upsample),
        lambda shape: Cost(operations, 2 * operations, matrix=True),
        variant=variant,
        wrt=(0, 1),
        layouts=("channels_last",),
        quick_sizes=((1, 16, 8, 6),),
    )


def _per_element(forward: float, backward: float = 0.0) -> Callable[[tuple[int, ...]], Cost]:
    return lambda shape: Cost(forward, backward)


def _gram_cost(shape: tuple[int, ...]) -> Cost:
    # One triangle of F F^T; the gradient multiplies a symmetric (C, C) with F, all of it.
    return Cost(shape[1] + 1, 2 * shape[1], matrix=True)


OP_BENCHMARKS = [
    _conv_benchmark("3x3-to-64", (4, 64, 256, 256), 64, 3),
    _conv_benchmark("3x3-to-128", (4, 128, 64, 64), 128, 3),
    _conv_benchmark("3x3-to-256", (4, 256, 64, 64), 256, 3),
    _conv_benchmark("up-3x3-to-64", (4, 128, 64, 64), 64, 3, upsample=True),
    _conv_benchmark("4x4-stride-2-to-256", (4, 128, 64, 64), 256, 4, stride=2),
    _conv_benchmark("4x4-to-512", (4, 256, 32, 32), 512, 4),
    _conv_benchmark("9x9-to-3", (4, 32, 256, 256), 3, 9),
    OpBenchmark(
        "max_pool",
        ((4, 64, 256, 256),),
        lambda case, rng: (_features(case, rng),),
        lambda t, case, backend: ops.max_pool(*t, backend=backend),
        lambda t, case: F.max_pool2d(t[0], 2),
        _per_element(0.75, 1),
        layouts=("channels_last",),
    ),
    OpBenchmark(
        "ssim",
        ((8, 3, 256, 256), (1, 3, 512, 512)),
        _image_pair,
        lambda t, case, backend: ops.ssim(*t, backend=backend),
        lambda t, case: eager_ops.ssim(*t),
        # 113 instructions, each as an FMA: 4 moments of 11 + 11 taps and 25 for the map. Backward, for x alone: three
        # maps blurred back, and 20.
        _per_element(226, 172),
        quick_sizes=((1, 1, 11, 11), (2, 3, 17, 37)),
        gpu_sizes=((8, 3, 256, 256), (4, 3, 1024, 1024)),
    ),
    OpBenchmark(
        "psnr",
        ((8, 3, 256, 256), (1, 3, 512, 512)),
        _image_pair,
        lambda t, case, backend: ops.psnr(*t, backend=backend),
        lambda t, case: eager_ops.psnr(*t),
        _per_element(3, 2),
        gpu_sizes=((8, 3, 256, 256), (4, 3, 1024, 1024)),
    ),
    OpBenchmark(
        "gram",
        ((8, 512, 32, 32), (8, 64, 256, 256)),
        _relu_features,
        lambda t, case, backend: ops.gram(*t, backend=backend),
        lambda t, case: eager_ops.gram(*t),
        _gram_cost,
        quick_sizes=((2, 5, 7, 11),),
    ),
    OpBenchmark(
        "gram_style_loss",
        ((8, 512, 32, 32), (8, 64, 256, 256)),
        _style_loss_inputs,
        lambda t, case, backend: ops.gram_style_loss(*t, backend=backend),
        lambda t, case: eager_ops.gram_style_loss(*t),
        _gram_cost,
        quick_sizes=((2, 5, 7, 11),),
    ),
    OpBenchmark(
        "gram_style_loss",
        ((8, 512, 32, 32), (8, 64, 256, 256)),
        _style_loss_inputs,
        lambda t, case, backend: ops.gram_style_loss(*t, windows=(2, 2), window_weight=0.3, backend=backend),
        lambda t, case: eager_ops.gram_style_loss_windows(t[0], t[1], 0.3),
        _gram_cost,
        variant="windows",
        quick_sizes=((2, 5, 8, 10),),
    ),
    OpBenchmark(
        "instance_norm",
        ((8, 64, 128, 128), (4, 128, 64, 64)),
        _norm_inputs,
        lambda t, case, backend: ops.instance_norm(*t, activation="relu", backend=backend),
        lambda t, case: eager_ops.instance_norm(*t, activation="relu"),
        _per_element(8, 12),
        variant="relu",
        wrt=(0, 1, 2),
    ),
    OpBenchmark(
        "instance_norm",
        ((4, 128, 64, 64),),
        _norm_residual_inputs,
        lambda t, case, backend: ops.instance_norm(*t, backend=backend),
        lambda t, case: eager_ops.instance_norm(*t),
        _per_element(8, 12),
        variant="residual",
        wrt=(0, 1, 2, 3),
    ),
    OpBenchmark(
        "instance_norm",
        ((4, 256, 32, 32),),
        lambda case, rng: (_features(case, rng),),
        lambda t, case, backend: ops.instance_norm(*t, activation="leaky_relu", backend=backend),
        lambda t, case: eager_ops.instance_norm(*t, activation="leaky_relu"),
        _per_element(8, 12),
        variant="leaky",
    ),
    OpBenchmark(
        "bias_act",
        ((8, 64, 128, 128), (4, 512, 32, 32)),
        _bias_inputs,
        lambda t, case, backend: ops.bias_act(*t, activation="leaky_relu", gain=2**0.5, backend=backend),
        lambda t, case: eager_ops.bias_act(*t),
        _per_element(3, 3),
        variant="leaky",
        wrt=(0, 1),
    ),
    OpBenchmark(
        "fuse",
        ((8, 512, 32, 32), (4, 64, 128, 128)),
        _fuse_inputs,
        lambda t, case, backend: ops.fuse(t[0], t[1], mode="adain", alpha=t[2], backend=backend),
        lambda t, case: eager_ops.adain(*t),
        _per_element(12, 18),
        variant="adain",
        wrt=(0, 1),
    ),
    OpBenchmark(
        "fuse",
        ((8, 512, 32, 32),),
        _fuse_inputs,
        lambda t, case, backend: ops.fuse(t[0], t[1], mode="convex", alpha=t[2], backend=backend),
        lambda t, case: eager_ops.convex(*t),
        _per_element(3, 2),
        variant="convex",
        wrt=(0, 1),
    ),
    OpBenchmark(
        "discriminator_loss",
        ((4, 1, 30, 30), (64, 1, 126, 126)),
        _logit_pair,
        lambda t, case, backend: ops.discriminator_loss(*t, backend=backend),
        lambda t, case: eager_ops.discriminator_loss(*t),
        _per_element(40, 20),
        wrt=(0, 1),
        layouts=("nchw",),
        quick_sizes=((2, 1, 5, 5),),
    ),
    OpBenchmark(
        "from_pixels",
        ((4, 3, 256, 256), (8, 3, 1024, 1024)),
        _uint8_images,
        lambda t, case, backend: ops.from_pixels(
            *t, dtype=case.dtype, channels_last=case.layout == "channels_last", backend=backend
        ),
        lambda t, case: eager_ops.from_pixels(t[0], case.dtype, case.layout == "channels_last"),
        _per_element(2),
        wrt=(),
    ),
    OpBenchmark(
        "to_pixels",
        ((4, 3, 256, 256), (8, 3, 1024, 1024)),
        _generator_outputs,
        lambda t, case, backend: ops.to_pixels(*t, backend=backend),
        lambda t, case: eager_ops.to_pixels(*t),
        _per_element(5),
        wrt=(),
        # One level of 255: a value that lies between two may be rounded to either.
        tolerances={dtype: 1.01 / 255 for dtype in TOLERANCES},
    ),
    OpBenchmark(
        "optim_step",
        ((1 << 20,), (1 << 23,)),
        _adam_inputs,
        lambda t, case, backend: adam.fastgan_adam(t, backend),
        lambda t, case: eager_ops.adam(*t),
        _per_element(15),
        variant="adam-ema",
        wrt=(),
        mutated=(0, 2, 3, 4),
        layouts=("flat",),
        quick_sizes=((1000,),),
    ),
    OpBenchmark(
        "optim_step",
        ((1 << 20,), (1 << 23,)),
        lambda case, rng: _adam_inputs(case, rng)[:4],
        lambda t, case, backend: adam.fastgan_adam(t, backend),
        lambda t, case: eager_ops.adam(*t),
        _per_element(12),
        variant="adam",
        wrt=(),
        mutated=(0, 2, 3),
        layouts=("flat",),
        quick_sizes=((1000,),),
    ),
    OpBenchmark(
        "check_finite",
        ((1 << 20,), (1 << 23,)),
        _grad_with_inf,
        lambda t, case, backend: adam.fastgan_found_inf(t[0], backend),
        lambda t, case: eager_ops.found_inf(*t),
        _per_element(1),
        wrt=(),
        layouts=("flat",),
        quick_sizes=((1000,),),
    ),
]


def op_names() -> list[str]:
    """Names of the ops that are measured, in the order of the tables."""
    return list(dict.fromkeys(benchmark.op for benchmark in OP_BENCHMARKS))


def cases(op: str, device: str, *, quick: bool = False) -> Iterator[OpCase]:
    """The cases of an op.

    They are float32 in NCHW and half precision in channels_last, as in mixed precision; the first size of an op also
    has float32 in channels_last.
    """
    halves = [torch.bfloat16, *([torch.float16] if device == "cuda" else [])]
    is_first_size = True
    for benchmark in OP_BENCHMARKS:
        if benchmark.op != op:
            continue
        sizes = benchmark.gpu_sizes if device == "cuda" and benchmark.gpu_sizes else benchmark.sizes
        for shape in benchmark.quick_sizes if quick else sizes:
            forms = [
                (torch.float32, layout) for layout in (benchmark.layouts if is_first_size else benchmark.layouts[:1])
            ]
            forms += [(dtype, benchmark.layouts[-1]) for dtype in (halves if is_first_size else halves[:1])]
            is_first_size = False
            for (dtype, layout), suite in itertools.product(forms, SUITES if benchmark.wrt else SUITES[:1]):
                yield OpCase(benchmark, shape, dtype, layout, suite, device)
