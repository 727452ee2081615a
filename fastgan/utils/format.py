"""Short texts and numbers for output."""

from __future__ import annotations

import math

import torch


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype without its module.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def round_significant(value: float, digits: int = 5) -> float:
    """``value`` rounded to that many significant digits.

    >>> round_significant(1234.56, 4)
    1235.0
    """
    return 0.0 if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))
