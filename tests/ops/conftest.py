"""The levels of the native kernels, and the emulated CUDA ones, built once a session."""

from collections.abc import Iterator

import pytest
from helpers.cuda_emulator.library import emulated
from helpers.machine import needs

from fastgan.ops import _native

__all__ = ["emulated"]


LEVELS = _native.build_info().get("cpu_levels") or [pytest.param("none", marks=needs("the extension"))]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each level of this processor in turn, forced: the kernels run at it."""
    module = _native.extension()
    before = module.build_info()["cpu_level"]
    module.set_level(request.param)
    try:
        assert module.build_info()["cpu_level"] == request.param
        assert module.vector_lanes() == {"baseline": 4, "avx2": 8}.get(request.param, 16)
        yield request.param
    finally:
        module.set_level(before)
