"""The memory budget: what it is set to, and one line for what is over it."""

import errno
import mmap
from collections.abc import Callable

import pytest
import torch

from fastgan.errors import InputError
from fastgan.utils.memory import (
    BUDGET_VARIABLE,
    DEFAULT_BUDGET,
    check_budget,
    format_bytes,
    is_out_of_memory,
    memory_budget,
)


def test_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "  "):
        monkeypatch.delenv(BUDGET_VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(BUDGET_VARIABLE, value)
        assert memory_budget() == DEFAULT_BUDGET


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("500M", 500 << 20),
        ("500 MB", 500 << 20),
        ("4g", 4 << 30),
        ("1.5GiB", 3 << 29),
        ("64k", 64 << 10),
        ("1T", 1 << 40),
    ],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv(BUDGET_VARIABLE, text)
    assert memory_budget() == size


@pytest.mark.parametrize("text", ["much", "-1", "0", "0.0G", "1e9", "inf", "4 G B", "٣G", "9" * 40])
def test_what_is_no_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(BUDGET_VARIABLE, text)
    with pytest.raises(InputError, match=r"FASTGAN_MEMORY_BUDGET=.*500M or 4G"):
        memory_budget()


def test_what_is_over_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUDGET_VARIABLE, "1M")
    check_budget(1 << 20, "a.png: 300 x 400 px")
    with pytest.raises(InputError) as caught:
        check_budget((1 << 20) + 1, "a.png: 300 x 400 px")
    message = str(caught.value)
    assert message.startswith("a.png: 300 x 400 px takes 1.0 MiB") and BUDGET_VARIABLE in message


def raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:
        call()
    return caught.value


def test_errors_of_memory() -> None:
    """Those that this machine makes, and the texts of others."""
    assert is_out_of_memory(raised(lambda: torch.empty(1 << 57)))
    assert is_out_of_memory(raised(lambda: bytearray(1 << 62)))
    assert is_out_of_memory(raised(lambda: mmap.mmap(-1, 1 << 57)))
    texts = [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "std::bad_alloc",
    ]
    for text in texts:
        assert is_out_of_memory(RuntimeError(text)) and not is_out_of_memory(ValueError(text))
    assert is_out_of_memory(torch.OutOfMemoryError(texts[0]))
    for error in (RuntimeError("shapes"), OSError(errno.ENOSPC, "No space"), raised(lambda: torch.empty(-1))):
        assert not is_out_of_memory(error)


def test_bytes_for_people() -> None:
    assert [format_bytes(size) for size in (0, 1536, 5 << 20, 3 << 40)] == ["0 bytes", "1.5 KiB", "5.0 MiB", "3.0 TiB"]
