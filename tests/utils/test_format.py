"""Short texts and numbers for output."""

import pytest
import torch

from fastgan.utils.format import dtype_name, round_significant


def test_dtype_name() -> None:
    assert [dtype_name(dtype) for dtype in (torch.float32, torch.bfloat16, torch.uint8)] == [
        "float32",
        "bfloat16",
        "uint8",
    ]


@pytest.mark.parametrize(
    "value,digits,rounded",
    [(0.0, 5, 0.0), (1234.56, 4, 1235.0), (0.0012345678, 3, 0.00123), (-98765.4, 2, -99000.0), (9.996, 3, 10.0)],
)
def test_round_significant(value: float, digits: int, rounded: float) -> None:
    assert round_significant(value, digits) == rounded
