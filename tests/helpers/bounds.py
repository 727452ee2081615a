"""Bounds of rounding errors: how far two right computations of the same value may differ.

A sum of n products, added in any order, has a relative error of at most ``lambda * sqrt(n) * u`` of the sum of the
terms' sizes, but for a probability of ``2 n exp(-lambda**2 / 2)`` (Higham and Mary, "A new approach to probabilistic
rounding error analysis", SIAM J. Sci. Comput. 41, 2019, theorem 2.4). ``u`` is half of the dtype's epsilon. With
``LAMBDA`` = 8 that is one in 10^10 for a thousand terms: it depends on neither processor, thread count nor library,
which decide the order alone.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

LAMBDA = 8.0


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff of a dtype: the largest relative error of one rounding."""
    return torch.finfo(dtype).eps / 2


#: The error of what a Triton kernel stores in the interpreter, which cuts the bits of bfloat16 off where a GPU rounds.
STORED = {torch.float32: 0.0, torch.bfloat16: 2 * unit(torch.bfloat16), torch.float16: unit(torch.float16)}


def rounding(terms: int = 1, steps: int = 1, dtype: torch.dtype = torch.float32) -> float:
    """The relative error of ``steps`` computations in a row (or side by side), each a sum of ``terms`` terms.

    Comparing two computations that both round counts the steps of both. ``terms`` is the longest sum of a step:
    C * k * k for a convolution, H * W for a statistic of a plane.
    """
    return LAMBDA * math.sqrt(terms) * steps * unit(dtype)


def assert_close(
    have: Tensor,
    want: Tensor,
    *,
    terms: int = 1,
    steps: int = 1,
    dtype: torch.dtype | None = None,
    scale: float | None = None,
) -> None:
    """Within ``rounding(terms, steps, dtype)`` of ``scale``, for every element.

    ``dtype`` is what was computed in: by default the coarser dtype of the two. ``scale`` is the size of the terms that
    were added, by default the largest finite ``abs(want)``; where terms cancel, the caller knows it and says it.
    """
    assert have.shape == want.shape, f"shape {tuple(have.shape)}, not {tuple(want.shape)}"
    if dtype is None:
        dtype = max((have.dtype, want.dtype), key=unit)
    if scale is None:
        finite = want.detach().double().abs()
        scale = finite[finite.isfinite()].max().item() if finite.isfinite().any() else 0.0
    torch.testing.assert_close(
        have.detach().double(),
        want.detach().double(),
        rtol=0,
        atol=rounding(terms, steps, dtype) * scale,
        equal_nan=True,
        check_device=False,
    )


def approx(want: Any, *, terms: int = 1, steps: int = 1, dtype: torch.dtype = torch.float32, scale: float = 0.0) -> Any:
    """``pytest.approx`` of a number (or a list or dict of them) within ``rounding(terms, steps, dtype)`` of it, or of
    ``scale``, the size of the terms, where that is larger."""
    relative = rounding(terms, steps, dtype)
    return pytest.approx(want, rel=relative, abs=relative * scale)
