"""Pixel conversion: every level there and back, and its formula."""

import numpy as np
import pytest
import torch

from fastgan import ops

ALL_LEVELS = torch.arange(256, dtype=torch.uint8).repeat(3).view(2, 8, 16, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [True, False])
def test_round_trip_is_exact(dtype: torch.dtype, channels_last: bool) -> None:
    x = ops.from_pixels(ALL_LEVELS, dtype=dtype, channels_last=channels_last)
    assert x.shape == (2, 3, 8, 16)
    assert x.dtype == dtype
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert (x.min().item(), x.max().item()) == (-1, 1)
    expected = (ALL_LEVELS.numpy().astype(np.float64) / 127.5 - 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(x.double().numpy(), expected, atol=torch.finfo(dtype).eps)
    back = ops.to_pixels(x)
    assert back.dtype == torch.uint8
    assert back.is_contiguous()
    assert torch.equal(back, ALL_LEVELS)


def test_to_pixels_clamps_and_rounds() -> None:
    values = torch.tensor([-9.0, -1.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.0, float("inf"), float("nan")])
    x = values.view(1, 1, 1, -1).requires_grad_()
    assert ops.to_pixels(x).flatten().tolist() == [0, 0, 0, 1, 255, 255, 0]
    assert x.grad_fn is None


def test_compiles_and_takes_strided_input() -> None:
    levels = ALL_LEVELS[:, ::2]
    compiled = torch.compile(lambda p: ops.to_pixels(ops.from_pixels(p)), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(levels), levels)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"x must be a uint8 tensor, got torch\.float32"):
        ops.from_pixels(torch.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match=r"x must be \(N, H, W, C\)"):
        ops.from_pixels(ALL_LEVELS[0])
    with pytest.raises(TypeError, match="dtype must be one of"):
        ops.from_pixels(ALL_LEVELS, dtype=torch.int32)
    with pytest.raises(TypeError, match="floating"):
        ops.to_pixels(ALL_LEVELS)
