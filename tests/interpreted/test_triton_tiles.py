"""Images that span more than 2^31 elements: of the memory they lie in, few pages are ever touched."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.bounds import rounding, unit
from helpers.machine import require
from torch import Tensor

from fastgan import ops
from fastgan.ops._triton_tiles import MAX_PIXELS, arrange

FAR = (1 << 30) + 8
#: Shape and strides, each with an offset of 2 * FAR.
SPREAD = {
    "channels": ((1, 3, 2, 2), (1, FAR, 2, 1)),
    "rows": ((1, 2, 3, 2), (1, 2, FAR, 1)),
    "pixels": ((1, 2, 1, 3), (1, 1, FAR, FAR)),
}
OPS: dict[str, Callable[[Tensor, Tensor, str], Tensor]] = {
    "bias_act": lambda x, y, backend: ops.bias_act(x, activation="leaky_relu", backend=backend),
    "instance_norm": lambda x, y, backend: ops.instance_norm(x, residual=y, backend=backend),
    "convex": lambda x, y, backend: ops.fuse(x, y, mode="convex", alpha=0.25, backend=backend),
    "adain": lambda x, y, backend: ops.fuse(x, y, mode="adain", backend=backend),
}


def spread(where: str, memory: Tensor, begin: int) -> Tensor:
    shape, strides = SPREAD[where]
    return memory.as_strided(shape, strides, begin).copy_(
        torch.randn(shape, generator=torch.Generator().manual_seed(begin))
    )


@pytest.fixture(scope="module")
def memory() -> Tensor:
    require("5 GiB of address space")
    return torch.empty(2 * FAR + 64, dtype=torch.bfloat16)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("where", SPREAD)
def test_value_and_gradients(where: str, op: str, memory: Tensor) -> None:
    tensors = [spread(where, memory, begin) for begin in (0, 16, 32)]
    assert [sum((s - 1) * d for s, d in zip(t.shape, t.stride(), strict=True)) >= 2**31 for t in tensors] == [True] * 3
    results = []
    for backend in ("triton", "reference"):
        x, y, grad = tensors if backend == "triton" else [t.contiguous() for t in tensors]
        inputs = x.detach().requires_grad_(), y.detach().requires_grad_()
        output = OPS[op](*inputs, backend)
        results.append([output, *torch.autograd.grad(output, inputs, grad, materialize_grads=True)])
    for ours, right in zip(*results, strict=True):
        # Cut to bfloat16 here, rounded there; sums of up to 6 pixels before that. Another pixel is another number.
        near = 3 * unit(torch.bfloat16) * right.abs().max().item() + rounding(6, 18)
        torch.testing.assert_close(ours, right, rtol=0, atol=near)


@pytest.mark.parametrize("where", SPREAD)
def test_to_pixels(where: str, memory: Tensor) -> None:
    x = spread(where, memory, 0)
    assert torch.equal(ops.to_pixels(x, backend="triton"), ops.to_pixels(x.contiguous(), backend="reference"))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("where", SPREAD)
def test_from_pixels(where: str, cut: bool, channels_last: bool, memory: Tensor) -> None:
    shape, strides = SPREAD[where]
    levels = memory.view(torch.uint8).as_strided(shape, strides, 0)
    levels.copy_(torch.arange(math.prod(shape)).reshape(shape))
    x = levels.permute(0, 2, 3, 1)
    corners = torch.zeros(1, dtype=torch.int64)
    options = {"top": corners, "left": corners, "size": x.shape[1:3], "flip": True} if cut else {}
    ours, right = (
        ops.from_pixels(each, channels_last=channels_last, backend=backend, **options)  # type: ignore[arg-type]
        for each, backend in ((x, "triton"), (x.contiguous(), "reference"))
    )
    assert torch.equal(ours, right)


def test_planes_of_more_pixels_than_32_bits_number_are_refused() -> None:
    side = 1 << 15
    arrange(torch.empty(1, 1, 1, 1).expand(1, 1, side, side))
    with pytest.raises(
        ValueError, match="planes of up to 2147418112 pixels, got 65536 x 32768; use backend='reference'"
    ):
        arrange(torch.empty(1, 1, 1, 1).expand(1, 1, 2 * side, side))
    assert MAX_PIXELS < 2**31
