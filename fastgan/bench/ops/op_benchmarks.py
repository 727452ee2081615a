"""What is measured of each op: sizes, inputs, the plain torch way of the same, and the work that cannot be avoided.

The pytest-benchmark suites in ``benchmarks/ops`` and the tests take the same cases.
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
from fastgan.bench.ops.op_benchmark import SUITES, TOLERANCES, Case, Cost, Spec


def _normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def _uniform(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def _features(case: Case, rng: torch.Generator) -> Tensor:
    return case.laid_out(_normal(rng, *case.shape).to(case.dtype))


def _images(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    x = _uniform(rng, *case.shape)
    y = (x + 0.1 * _normal(rng, *case.shape)).clamp(0, 1)  # piq refuses what lies outside
    return case.laid_out(x.to(case.dtype)), case.laid_out(y.to(case.dtype))


def _after_relu(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    return (_features(case, rng).relu(),)


def _with_target(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    # Half the Gram of the same statistics: a difference as large as the thing itself, as early in training.
    sample = _normal(rng, 1, case.shape[1], 64, 64).relu()
    return *_after_relu(case, rng), ops.gram(sample, backend="reference")[0] / 2


def _normed(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    c = case.shape[1]
    return _features(case, rng), 1 + 0.1 * _normal(rng, c), 0.1 * _normal(rng, c)


def _normed_residual(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    return *_normed(case, rng), _features(case, rng)


def _biased(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _features(case, rng), 0.1 * _normal(rng, case.shape[1]).to(case.dtype)


def _two_features(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _features(case, rng), _features(case, rng), _uniform(rng, case.shape[0])


def _logits(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _features(case, rng), _features(case, rng)


def _pictures(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    n, c, h, w = case.shape
    return (torch.randint(0, 256, (n, h, w, c), generator=rng, dtype=torch.uint8, device=rng.device),)


def _outputs(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    return (_features(case, rng).tanh(),)


def _updated(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    """Parameters, gradient, the two moments that Adam keeps, EMA."""
    param, mean, ema = (0.1 * _normal(rng, *case.shape) for _ in range(3))
    return param, _normal(rng, *case.shape).to(case.dtype), mean, _uniform(rng, *case.shape), ema


def _overflowed(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
    grad = _normal(rng, *case.shape).to(case.dtype)
    grad[-1] = math.inf
    return (grad,)


def _convolved(outputs: int, kernel: int) -> Callable[[Case, torch.Generator], tuple[Tensor, ...]]:
    def make(case: Case, rng: torch.Generator) -> tuple[Tensor, ...]:
        weight = _normal(rng, outputs, case.shape[1], kernel, kernel) / (case.shape[1] * kernel**2) ** 0.5
        return _features(case, rng), weight.to(case.dtype)

    return make


def _convolution(
    variant: str, size: tuple[int, ...], outputs: int, kernel: int, *, stride: int = 1, upsample: bool = False
) -> Spec:
    # Products of the direct sum, for an input's element; backward as many for the input and for the weight.
    products = 2 * outputs * kernel**2 * (4 if upsample else 1) / stride**2
    return Spec(
        "conv2d",
        (size,),
        _convolved(outputs, kernel),
        lambda t, case, backend: ops.conv2d(*t, stride=stride, upsample=upsample, backend=backend),
        lambda t, case: eager_ops.conv2d(*t, stride=stride, upsample=upsample),
        lambda shape: Cost(products, 2 * products, matrix=True),
        variant=variant,
        wrt=(0, 1),
        layouts=("channels_last",),
        quick=((1, 16, 8, 6),),
    )


def _per_element(forward: float, backward: float = 0.0) -> Callable[[tuple[int, ...]], Cost]:
    return lambda shape: Cost(forward, backward)


def _gram_cost(shape: tuple[int, ...]) -> Cost:
    # One triangle of F F^T; the gradient multiplies a symmetric (C, C) with F, all of it.
    return Cost(shape[1] + 1, 2 * shape[1], matrix=True)


SPECS = [
    _convolution("3x3-to-64", (4, 64, 256, 256), 64, 3),
    _convolution("3x3-to-128", (4, 128, 64, 64), 128, 3),
    _convolution("3x3-to-256", (4, 256, 64, 64), 256, 3),
    _convolution("up-3x3-to-64", (4, 128, 64, 64), 64, 3, upsample=True),
    _convolution("4x4-stride-2-to-256", (4, 128, 64, 64), 256, 4, stride=2),
    _convolution("4x4-to-512", (4, 256, 32, 32), 512, 4),
    _convolution("9x9-to-3", (4, 32, 256, 256), 3, 9),
    Spec(
        "max_pool",
        ((4, 64, 256, 256),),
        lambda case, rng: (_features(case, rng),),
        lambda t, case, backend: ops.max_pool(*t, backend=backend),
        lambda t, case: F.max_pool2d(t[0], 2),
        _per_element(0.75, 1),
        layouts=("channels_last",),
    ),
    Spec(
        "ssim",
        ((8, 3, 256, 256), (1, 3, 512, 512)),
        _images,
        lambda t, case, backend: ops.ssim(*t, backend=backend),
        lambda t, case: eager_ops.ssim(*t),
        # 113 instructions, each as an FMA: 4 moments of 11 + 11 taps and 25 for the map. Backward, for x alone: three
        # maps blurred back, and 20.
        _per_element(226, 172),
        quick=((1, 1, 11, 11), (2, 3, 17, 37)),
        gpu_sizes=((8, 3, 256, 256), (4, 3, 1024, 1024)),
    ),
    Spec(
        "psnr",
        ((8, 3, 256, 256), (1, 3, 512, 512)),
        _images,
        lambda t, case, backend: ops.psnr(*t, backend=backend),
        lambda t, case: eager_ops.psnr(*t),
        _per_element(3, 2),
        gpu_sizes=((8, 3, 256, 256), (4, 3, 1024, 1024)),
    ),
    Spec(
        "gram",
        ((8, 512, 32, 32), (8, 64, 256, 256)),
        _after_relu,
        lambda t, case, backend: ops.gram(*t, backend=backend),
        lambda t, case: eager_ops.gram(*t),
        _gram_cost,
        quick=((2, 5, 7, 11),),
    ),
    Spec(
        "gram_style_loss",
        ((8, 512, 32, 32), (8, 64, 256, 256)),
        _with_target,
        lambda t, case, backend: ops.gram_style_loss(*t, backend=backend),
        lambda t, case: eager_ops.gram_style_loss(*t),
        _gram_cost,
        quick=((2, 5, 7, 11),),
    ),
    Spec(
        "instance_norm",
        ((8, 64, 128, 128), (4, 128, 64, 64)),
        _normed,
        lambda t, case, backend: ops.instance_norm(*t, activation="relu", backend=backend),
        lambda t, case: eager_ops.instance_norm(*t, activation="relu"),
        _per_element(8, 12),
        variant="relu",
        wrt=(0, 1, 2),
    ),
    Spec(
        "instance_norm",
        ((4, 128, 64, 64),),
        _normed_residual,
        lambda t, case, backend: ops.instance_norm(*t, backend=backend),
        lambda t, case: eager_ops.instance_norm(*t),
        _per_element(8, 12),
        variant="residual",
        wrt=(0, 1, 2, 3),
    ),
    Spec(
        "instance_norm",
        ((4, 256, 32, 32),),
        lambda case, rng: (_features(case, rng),),
        lambda t, case, backend: ops.instance_norm(*t, activation="leaky_relu", backend=backend),
        lambda t, case: eager_ops.instance_norm(*t, activation="leaky_relu"),
        _per_element(8, 12),
        variant="leaky",
    ),
    Spec(
        "bias_act",
        ((8, 64, 128, 128), (4, 512, 32, 32)),
        _biased,
        lambda t, case, backend: ops.bias_act(*t, activation="leaky_relu", gain=2**0.5, backend=backend),
        lambda t, case: eager_ops.bias_act(*t),
        _per_element(3, 3),
        variant="leaky",
        wrt=(0, 1),
    ),
    Spec(
        "fuse",
        ((8, 512, 32, 32), (4, 64, 128, 128)),
        _two_features,
        lambda t, case, backend: ops.fuse(t[0], t[1], mode="adain", alpha=t[2], backend=backend),
        lambda t, case: eager_ops.adain(*t),
        _per_element(12, 18),
        variant="adain",
        wrt=(0, 1),
    ),
    Spec(
        "fuse",
        ((8, 512, 32, 32),),
        _two_features,
        lambda t, case, backend: ops.fuse(t[0], t[1], mode="convex", alpha=t[2], backend=backend),
        lambda t, case: eager_ops.convex(*t),
        _per_element(3, 2),
        variant="convex",
        wrt=(0, 1),
    ),
    Spec(
        "discriminator_loss",
        ((4, 1, 30, 30), (64, 1, 126, 126)),
        _logits,
        lambda t, case, backend: ops.discriminator_loss(*t, backend=backend),
        lambda t, case: eager_ops.discriminator_loss(*t),
        _per_element(40, 20),
        wrt=(0, 1),
        layouts=("nchw",),
        quick=((2, 1, 5, 5),),
    ),
    Spec(
        "from_pixels",
        ((4, 3, 256, 256), (8, 3, 1024, 1024)),
        _pictures,
        lambda t, case, backend: ops.from_pixels(
            *t, dtype=case.dtype, channels_last=case.layout == "channels_last", backend=backend
        ),
        lambda t, case: eager_ops.from_pixels(t[0], case.dtype, case.layout == "channels_last"),
        _per_element(2),
        wrt=(),
    ),
    Spec(
        "to_pixels",
        ((4, 3, 256, 256), (8, 3, 1024, 1024)),
        _outputs,
        lambda t, case, backend: ops.to_pixels(*t, backend=backend),
        lambda t, case: eager_ops.to_pixels(*t),
        _per_element(5),
        wrt=(),
        # One level of 255: a value that lies between two may be rounded to either.
        tolerances={dtype: 1.01 / 255 for dtype in TOLERANCES},
    ),
    Spec(
        "optim_step",
        ((1 << 20,), (1 << 23,)),
        _updated,
        lambda t, case, backend: adam.ours(t, backend),
        lambda t, case: eager_ops.adam(*t),
        _per_element(15),
        variant="adam-ema",
        wrt=(),
        written=(0, 2, 3, 4),
        layouts=("flat",),
        quick=((1000,),),
    ),
    Spec(
        "optim_step",
        ((1 << 20,), (1 << 23,)),
        lambda case, rng: _updated(case, rng)[:4],
        lambda t, case, backend: adam.ours(t, backend),
        lambda t, case: eager_ops.adam(*t),
        _per_element(12),
        variant="adam",
        wrt=(),
        written=(0, 2, 3),
        layouts=("flat",),
        quick=((1000,),),
    ),
    Spec(
        "check_finite",
        ((1 << 20,), (1 << 23,)),
        _overflowed,
        lambda t, case, backend: adam.found_inf(t[0], backend),
        lambda t, case: eager_ops.found_inf(*t),
        _per_element(1),
        wrt=(),
        layouts=("flat",),
        quick=((1000,),),
    ),
]


def op_names() -> list[str]:
    """The ops that are measured, in the order of the tables."""
    return list(dict.fromkeys(spec.op for spec in SPECS))


def cases(op: str, device: str, *, quick: bool = False) -> Iterator[Case]:
    """The cases of an op.

    float32 in NCHW and half precision in channels_last, as mixed precision has it; an op's first size comes in float32
    channels_last too.
    """
    halves = [torch.bfloat16, *([torch.float16] if device == "cuda" else [])]
    first = True
    for spec in SPECS:
        if spec.op != op:
            continue
        sizes = spec.gpu_sizes if device == "cuda" and spec.gpu_sizes else spec.sizes
        for shape in spec.quick if quick else sizes:
            forms = [(torch.float32, layout) for layout in (spec.layouts if first else spec.layouts[:1])]
            forms += [(dtype, spec.layouts[-1]) for dtype in (halves if first else halves[:1])]
            first = False
            for (dtype, layout), suite in itertools.product(forms, SUITES if spec.wrt else SUITES[:1]):
                yield Case(spec, shape, dtype, layout, suite, device)
