"""Options of the benchmarks under pytest-benchmark."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"))
    parser.addoption("--quick", action="store_true", help="tiny sizes, no compiler of whole networks")
