"""Names of devices and precisions, and how they are listed and refused."""

import pytest

from fastgan.errors import InputError
from fastgan.precision import select_dtype
from fastgan.utils.choices import PRECISIONS, check_choice, listed


def test_listed() -> None:
    assert [listed(names) for names in (("a",), ("a", "b"), ("a", "b", "c"))] == ["a", "a or b", "a, b or c"]


def test_check_choice() -> None:
    check_choice("--precision", "fp32", PRECISIONS)
    with pytest.raises(InputError, match=r"^--precision fp8: expected one of auto, fp32, bf16, fp16$"):
        check_choice("--precision", "fp8", PRECISIONS)


def test_every_precision_is_known() -> None:
    import torch

    for name in PRECISIONS:
        if name != "fp16":  # which needs a GPU
            assert isinstance(select_dtype(name, torch.device("cpu")), torch.dtype)
