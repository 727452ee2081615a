"""The memory budget: what it is set to, and one line for what is over it."""

import pytest

from fastgan.errors import InputError
from fastgan.utils.memory import BUDGET_VARIABLE, DEFAULT_BUDGET, check_budget, format_bytes, memory_budget


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


def test_bytes_for_people() -> None:
    assert [format_bytes(size) for size in (0, 1536, 5 << 20, 3 << 40)] == ["0 bytes", "1.5 KiB", "5.0 MiB", "3.0 TiB"]
