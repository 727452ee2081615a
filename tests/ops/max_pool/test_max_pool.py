"""2x2 max-pool beside torch's, to the bit."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.machine import needs
from torch import Tensor

from fastgan import ops


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 5, 7), (1, 64, 16, 12), (3, 33, 9, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_equals_torch(
    shape: tuple[int, ...], dtype: torch.dtype, layout: Callable[[Tensor], Tensor], backend: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    # Whole numbers, so that windows have several largest values.
    x = layout(torch.randint(-2, 3, shape, generator=generator).to(dtype)).requires_grad_()
    expected, made = F.max_pool2d(x, 2), ops.max_pool(x, backend=backend)
    assert torch.equal(made, expected) and made.dtype == dtype
    cotangent = layout(torch.randn(expected.shape, generator=generator).to(dtype))
    (theirs,), (ours,) = (torch.autograd.grad(y, x, cotangent) for y in (expected, made))
    assert torch.equal(ours, theirs)


def test_what_is_not_a_number_stays(backend: str) -> None:
    x = torch.zeros(1, 2, 4, 4)
    x[0, 1, 2, 3] = torch.nan
    out = ops.max_pool(x, backend=backend)
    assert out[0, 1, 1, 1].isnan() and out.isnan().sum() == 1


@needs("the extension")
def test_registered_op() -> None:
    x = torch.randn(2, 16, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(torch.ops.fastgan.max_pool.default, (x,))


@needs("a compiler for torch.compile")
def test_compiles_without_a_break() -> None:
    x = torch.randn(2, 16, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    compiled = torch.compile(lambda x: ops.max_pool(x), fullgraph=True)
    assert torch.equal(compiled(x), ops.max_pool(x))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least 2 pixels"):
        ops.max_pool(torch.zeros(1, 1, 1, 4))
    with pytest.raises(TypeError, match="floating"):
        ops.max_pool(torch.zeros(1, 1, 4, 4, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"must be torch\.float32"):
        torch.ops.fastgan.max_pool_backward(
            *[torch.zeros(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)] * 3
        )
