"""Fixtures: development data; small pictures and configs; for ops, backends, layouts and a spy on the extension."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from helpers.machine import SHARED, require
from helpers.tiny_runs import TINY, picture, save_picture
from helpers.waiting import HANG, time_limit
from torch import Tensor

from fastgan.models import VGGEncoder
from fastgan.ops import _native

if TYPE_CHECKING:
    from fastgan.config import Config

pytest_plugins = ["helpers.skips"]

# Child processes import the installed package, as this one does, and not the folder they are started in. In an editable
# install that is the checkout too, from any folder.
os.environ["PYTHONSAFEPATH"] = "1"

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: F.pad(x, (2, 3, 1, 2), value=7.0)[:, :, 1:-2, 2:-3],
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


#: What trains, compiles, measures or starts processes: marked slow, and left out by `make fast`.
SLOW = (
    *("behavior", "bench", "cli", "evaluation", "interpreted", "profiling", "training"),
    *(
        "data/test_augment.py",
        "data/test_jpeg.py",
        "data/test_loader.py",
        "data/test_resize.py",
        "data/test_shards.py",
        "data/test_split.py",
    ),
    *("models/test_fusion_tiles.py", "models/test_vgg.py", "utils/test_system.py"),
    *("ops/conv2d", "ops/test_native.py", "ops/test_native_buffers.py", "ops/test_registry.py"),
    *("ops/test_triton.py", "ops/test_cuda_emulated.py", "ops/test_cuda_emulated_networks.py", "ops/test_backends.py"),
    *(
        "project/test_docs.py",
        "project/test_examples.py",
        "project/test_layout.py",
        "project/test_skips.py",
        "project/test_typed_use.py",
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(tests).as_posix()
        if path.startswith(tuple(name if name.endswith(".py") else f"{name}/" for name in SLOW)):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _ending_signals() -> None:
    """Signals that end a command do so in tests and what they start: under nohup, or in the background of a script,
    the caller has them ignored, and a child inherits that."""
    for number, handler in {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _limited() -> Iterator[None]:
    """Whatever a test waits for, it ends: code that is broken may open a pipe that nobody writes to."""
    with time_limit(6 * HANG):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data beside the repository; tests that need it skip where it is absent."""
    require("development data")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Independent network weights beside the repository; tests that need them skip where they are absent."""
    require("weights to compare with")
    return SHARED / "weights"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight small pictures, in two folders and two formats."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        name = f"{number}.png" if number % 2 else f"more/{number}.jpg"
        save_picture(picture(40, 48, number), folder / name)
    return folder


@pytest.fixture(scope="session")
def style_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_picture(picture(44, 40, 99, busy=True), tmp_path_factory.mktemp("style") / "style.png")


@pytest.fixture
def tiny(photos: Path, style_file: Path) -> "Callable[..., Config]":
    """Makes the config of a run of milliseconds a step; fields by dotted name."""

    def make(fields: dict[str, Any] | None = None) -> "Config":
        from fastgan.config import load_config

        values = {**TINY, "data.content": str(photos), "data.style": str(style_file), **(fields or {})}
        return load_config(overrides=[("test", field, value) for field, value in values.items()])

    return make


@pytest.fixture(params=["reference", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        require("the extension")
    return request.param


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    return LAYOUTS[request.param]


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Every uninitialized buffer holds NaN, so that a kernel which leaves a part of its output unwritten shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the extension's kernels that run, in order."""
    require("the extension")
    real = _native.extension()
    calls: list[str] = []

    def spy(name: str) -> Callable[..., None]:
        def run(*args: object) -> None:
            calls.append(name)
            getattr(real, name)(*args)

        return run

    kernels = [name for name in dir(real) if name.endswith(("_forward", "_backward"))]
    fake = SimpleNamespace(empty=real.empty, conv2d_serves=real.conv2d_serves, **{name: spy(name) for name in kernels})
    monkeypatch.setattr(_native, "extension", lambda: fake)
    return calls


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the plots of the report, which take longer than the training here."""
    monkeypatch.setattr("fastgan.evaluation.report._write_plots", lambda *_: [], raising=False)


@pytest.fixture
def smooth_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features without a kink: no ReLU, and means in place of a window's largest value.

    Of an encoder's million units some lie within rounding of a kink, the more so as clipped pictures have areas of one
    color. Each takes either side, and with it goes its whole part of the gradient for a picture.
    """
    build = VGGEncoder.__init__

    def without_kinks(self: VGGEncoder, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        for conv in self.convs.values():
            conv.activation = None

    monkeypatch.setattr(VGGEncoder, "__init__", without_kinks)
    monkeypatch.setattr("fastgan.ops.max_pool", lambda x: F.avg_pool2d(x, 2))
