"""Fixtures: development data; for ops, backends, layouts, poisoned buffers and a spy on the extension."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fastgan.ops import _native

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: torch.nn.functional.pad(x, (2, 3, 1, 2), value=7.0)[:, :, 1:-2, 2:-3],
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}")
    return folder


@pytest.fixture(params=["reference", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    reason = _native.unavailable() if request.param == "native" else None
    if reason:
        pytest.skip(f"native {reason}")
    return request.param


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    return LAYOUTS[request.param]


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Every uninitialised buffer holds NaN, so that a kernel which leaves a part of its output unwritten shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the extension's kernels that run, in order."""
    reason = _native.unavailable()
    if reason:
        pytest.skip(f"native {reason}")
    real = _native.extension()
    calls: list[str] = []

    def spy(name: str) -> Callable[..., None]:
        def run(*args: object) -> None:
            calls.append(name)
            getattr(real, name)(*args)

        return run

    fake = SimpleNamespace(ssim_forward=spy("ssim_forward"), psnr_forward=spy("psnr_forward"))
    monkeypatch.setattr(_native, "extension", lambda: fake)
    return calls
