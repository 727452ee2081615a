"""The table of cases of the ops with a native backend, and their comparison with the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from helpers.bounds import assert_close, rounding, unit
from torch import Tensor

from fastgan import ops

#: Sums and other roundings in a row behind a result, forward and backward: window means, moments and their quotient,
#: and their pull-back through windows; a mean and a logarithm; matrix products; mean, variance, what is scaled by them
#: and the two means of the pull-back, for both inputs where there are two; a rational function for tanh.
STEPS = {"ssim": 12, "psnr": 6, "gram": 2, "gram_style_loss": 5, "instance_norm": 8, "bias_act": 4, "fuse": 8}
#: Roundings to the inputs' dtype behind an image's gradient, where they are not 1: of the matrix that features are
#: multiplied by too, and of the gradient that ssim makes beside its value and scales later.
ROUNDINGS = {"ssim": 2, "gram": 2, "gram_style_loss": 2}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    op: str
    #: Of the inputs that have a gradient, by name; "image" shapes take every layout.
    images: dict[str, Shape]
    numbers: dict[str, Shape] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        first = next(iter(self.images.values()))
        shapes = [f"{name}{'x'.join(map(str, shape))}" for name, shape in self.numbers.items()]
        told = [str(value) for value in self.options.values()]
        return "-".join(
            [self.op, "x".join(map(str, first)), *shapes, *(["residual"] * ("residual" in self.images)), *told]
        )

    def inputs(
        self, seed: int, dtype: torch.dtype, layout: Callable[[Tensor], Tensor], mean: float
    ) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, shape in self.images.items():
            made[name] = layout((torch.randn(shape, generator=generator) + mean).to(dtype))
        for name, shape in self.numbers.items():
            made[name] = torch.randn(shape, generator=generator)
        return made

    def terms(self, name: str) -> int:
        """The longest sum behind a result: the value or the gradient of an input."""
        n, c = next(iter(self.images.values()))[:2]
        plane = max(h * w for _, _, h, w in self.images.values())
        if name in self.numbers:
            return {"alpha": c * plane, "target": plane}.get(name, n * plane)
        if self.op == "bias_act" or self.options.get("mode") in ("additive", "convex"):
            return 1
        if self.op in ("gram", "gram_style_loss"):
            return max(plane, c * c)
        return plane if self.op in ("instance_norm", "fuse") else c * plane

    def run(self, inputs: dict[str, Tensor], backend: str) -> Tensor:
        return getattr(ops, self.op)(**inputs, **self.options, backend=backend)


def pair(op: str, *shape: int, **options: Any) -> Case:
    return Case(op, {"x": shape, "y": shape}, {}, {**options, "reduction": "none"})


def features(op: str, *shape: int, windows: dict[str, Any] | None = None, **numbers: Shape) -> Case:
    return Case(op, {"x": shape}, numbers, {} if op == "gram" else {"reduction": "none", **(windows or {})})


def norm(*shape: int, residual: bool = False, numbers: dict[str, Shape] | None = None, **options: Any) -> Case:
    images = {"x": shape, **({"residual": shape} if residual else {})}
    return Case("instance_norm", images, numbers or {}, options)


def fused(mode: str, *shape: int, plane: tuple[int, ...] = ()) -> Case:
    images = {"content": shape, "style": (*shape[:2], *(plane or shape[2:]))}
    return Case("fuse", images, {"alpha": shape[:1]}, {"mode": mode})


CASES = [
    pair("ssim", 1, 1, 11, 11, data_range=4.0),
    pair("ssim", 2, 3, 12, 139, data_range=4.0),
    pair("ssim", 1, 2, 45, 14, data_range=4.0, window="uniform", window_size=7),
    pair("ssim", 2, 1, 9, 20, data_range=4.0, window_size=5, sigma=0.8),
    pair("ssim", 1, 1, 30, 33, data_range=4.0, window_size=29, sigma=6.0),
    pair("ssim", 1, 1, 150, 40, data_range=4.0),
    pair("psnr", 1, 1, 1, 1),
    pair("psnr", 3, 3, 13, 17, data_range=255.0),
    pair("psnr", 1, 2, 130, 150),
    features("gram", 1, 1, 1, 1),
    features("gram", 2, 3, 5, 7),
    features("gram", 1, 17, 9, 11),
    features("gram", 3, 64, 12, 16),
    features("gram", 1, 130, 1, 3),
    features("gram_style_loss", 2, 5, 7, 3, target=(5, 5)),
    features("gram_style_loss", 2, 33, 6, 31, target=(2, 33, 33)),
    features("gram_style_loss", 2, 33, 7, 31, target=(2, 33, 33), windows={"windows": (2, 3), "window_weight": 0.3}),
    features("gram_style_loss", 1, 20, 64, 96, target=(20, 20), windows={"windows": (1, 2), "window_weight": 1.0}),
    features("gram_style_loss", 2, 3, 4, 5, target=(3, 3), windows={"windows": (4, 5), "window_weight": 0.6}),
    norm(1, 1, 2, 2),
    norm(2, 3, 7, 5, activation="relu", numbers={"weight": (3,), "bias": (3,)}),
    norm(2, 17, 6, 9, activation="leaky_relu", negative_slope=0.3, numbers={"weight": (2, 17), "bias": (2, 17)}),
    norm(3, 32, 16, 16, activation="tanh", residual=True, numbers={"bias": (32,)}),
    norm(1, 2, 90, 70, activation="relu", residual=True, numbers={"weight": (2,)}),
    Case("bias_act", {"x": (1, 1, 1, 1)}, {"bias": (1,)}),
    Case("bias_act", {"x": (2, 5, 7, 3)}, {"bias": (5,)}, {"activation": "relu", "gain": 1.4}),
    Case("bias_act", {"x": (2, 33, 9, 31)}, {"bias": (33,)}, {"activation": "leaky_relu", "clamp": 0.7}),
    Case("bias_act", {"x": (3, 16, 8, 8)}, {}, {"activation": "tanh", "gain": -2.0, "clamp": 1.5}),
    fused("adain", 1, 1, 1, 1),
    fused("additive", 2, 33, 9, 31),
    fused("convex", 3, 5, 7, 3),
    fused("adain", 1, 64, 40, 24, plane=(150, 121)),
    fused("adain", 3, 17, 6, 9, plane=(5, 13)),
]
#: One of each op for what does not depend on sizes, and one with windows.
FEW = list(
    {(case.op, "windows" in case.options): case for case in CASES if 1 not in next(iter(case.images.values()))}.values()
)


def value_and_gradients(
    case: Case, inputs: dict[str, Tensor], backend: str, seed: int = 1, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """`dtype` is what the result's gradient is rounded to, in whatever dtype it is then given."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    result = case.run(leaves, backend)
    gradients = torch.autograd.grad(result, list(leaves.values()), cotangent(case, inputs, result, seed, dtype))
    return [result.detach(), *gradients]


def smooth(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    """0 where rounding decides on which side of a kink a value lies, and so its derivative; 1 elsewhere."""
    activation, clamp = case.options.get("activation"), case.options.get("clamp")
    if activation not in ("relu", "leaky_relu") and clamp is None:
        return torch.ones(())
    wide = {name: value.detach().double() for name, value in inputs.items() if name != "residual"}
    error = rounding(case.terms("x"), STEPS[case.op]) * (1 + wide["x"].mean().abs())
    kept = torch.ones(wide["x"].shape, dtype=torch.bool, device=wide["x"].device)
    if activation in ("relu", "leaky_relu"):
        before = getattr(ops, case.op)(**wide, backend="reference")
        kept &= before.abs() > error * before.abs().max()
    if clamp is not None:
        free = {name: value for name, value in case.options.items() if name != "clamp"}
        before = getattr(ops, case.op)(**wide, **free, backend="reference")
        kept &= (before.abs() - clamp).abs() > error * before.abs().max()
    return kept.float().cpu()


def cotangent(
    case: Case, inputs: dict[str, Tensor], result: Tensor, seed: int = 1, dtype: torch.dtype = torch.float32
) -> Tensor:
    made = torch.randn(result.shape, generator=torch.Generator().manual_seed(seed))
    if result.dim() == 4:
        made = made[:, :, :1, :1].expand(result.shape) + made
    if result.dim() == 4 and seed == 2:
        # As the gradient of a mean comes: one number for each image, expanded over it.
        return made[:, :1, :1, :1].to(dtype).to(result).expand(result.shape)
    return (made * smooth(case, inputs)).to(dtype).to(result)


def assert_close_to_case(case: Case, name: str, have: Tensor, want: Tensor, times: int = 1) -> None:
    """Two computations of one thing in float32, each of `times` runs forward and backward."""
    assert_close(have, want, terms=case.terms(name), steps=2 * times * STEPS[case.op])


def compare(
    case: Case,
    layout: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    mean: float = 0.0,
    seed: int = 1,
    device: str = "cpu",
) -> None:
    made_inputs = case.inputs(7, dtype, lambda x: x, mean)
    inputs = {
        name: layout(value.to(device)) if name in case.images else value.to(device)
        for name, value in made_inputs.items()
    }
    if seed == 2:  # a gradient that is expanded cannot leave elements out
        while (beside := smooth(case, inputs) == 0).any():
            inputs["x"][beside] += 0.25
    wide = {name: value.double() for name, value in inputs.items()}
    exact = value_and_gradients(case, wide, "reference", seed, dtype)
    same_dtype = value_and_gradients(case, inputs, "reference", seed, dtype)
    have = value_and_gradients(case, inputs, "native", seed, dtype)
    for name, want, plain, made in zip(["value", *inputs], exact, same_dtype, have, strict=True):
        assert made.dtype == plain.dtype and made.shape == plain.shape, name
        largest = want.abs().max().item()
        roundings = ROUNDINGS.get(case.op, 1) if name in case.images else 1
        # The inputs are normal, and so sums of them with a mean of 0: partial sums grow as the root of their number,
        # and the bound holds of the sum itself (Higham and Mary, SIAM J. Sci. Comput. 42, 2020).
        floor = rounding(case.terms(name), STEPS[case.op]) * largest
        floor += roundings * unit(made.dtype) * max(largest, torch.finfo(made.dtype).smallest_normal)
        if case.op in ("instance_norm", "fuse"):
            # A mean is known to its rounding: values behind it are that far off, and gradients by that share.
            floor += rounding(1, STEPS[case.op]) * mean * (1 if name == "value" else largest)
        allowed = 2 * (plain.double() - want).abs().max().item() + floor
        error = (made.double() - want).abs().max().item()
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}, largest {largest:.3g}"
