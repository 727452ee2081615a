"""The extension: built, loaded lazily, and one OpenMP runtime in the process."""

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.machine import needs
from helpers.waiting import HANG
from torch import Tensor

from fastgan import ops
from fastgan.ops import _native

SCRIPT = """
import sys
import fastgan.ops
assert "fastgan._C" not in sys.modules, "loaded at import"
for heavy in ("torchvision", "pydantic", "numpy.testing", "skimage", "torch._dynamo", "triton"):
    assert heavy not in sys.modules, heavy
import torch
torch.set_num_threads(2)
a = torch.rand(1, 3, 64, 64)
for backend in ("native", "reference"):
    fastgan.ops.ssim(a, a, backend=backend)
(a @ a).sum()
print("\\n".join(sorted({line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line or "libomp" in line})))
"""

native = needs("the extension")


def every_op(x: Tensor, y: Tensor) -> list[Tensor]:
    """The result of each op, and the gradients of its inputs: all kernels."""
    made = []
    target = ops.gram(y[:1])[0]
    numbers = torch.linspace(-1, 1, x.shape[1])
    weight = torch.linspace(-1, 1, 16 * 16 * 9).view(16, 16, 3, 3).requires_grad_()
    ours = _native.extension().conv2d_serves(_native.dtype_code(x.dtype))  # torch's own convolutions promise no bits
    for op in (
        *([lambda a: ops.conv2d(a.mean(1, keepdim=True).expand(-1, 16, -1, -1), weight)] if ours else []),
        lambda a: ops.max_pool(a),
        lambda a: ops.ssim(a, y),
        lambda a: ops.psnr(a, y),
        lambda a: ops.gram(a),
        lambda a: ops.gram_style_loss(a, target),
        lambda a: ops.instance_norm(a, numbers, numbers, activation="relu"),
        lambda a: ops.bias_act(a, numbers, activation="tanh"),
        lambda a: ops.fuse(a, y, alpha=0.3),
        lambda a: ops.fuse(a, y, mode="convex", alpha=0.3),
    ):
        leaf = x.detach().requires_grad_()
        result = op(leaf)
        made += [result.detach(), *torch.autograd.grad(result.square().sum(), leaf)]
    levels = ops.to_pixels(x, backend="native")
    param, found = x.flatten().to(torch.float32, copy=True), torch.zeros(1)
    ops.check_finite(y.flatten(), found)
    ops.optim_step(param, y.flatten(), (), kind="sgd", step=1, lr=0.1, beta1=0.0, beta2=0.0, found_inf=found)
    return [*made, levels, ops.from_pixels(levels, backend="native"), param, found]


@pytest.fixture
def ticks() -> Iterator[list[int]]:
    """Counts of a thread that counts up whenever it may run."""
    count, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            count[0] += 1
            time.sleep(1e-4)  # gives up the interpreter's lock; it is never taken away here

    thread = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread.start()
    yield count
    stop.set()
    sys.setswitchinterval(interval)
    thread.join()


def test_the_extension_is_built() -> None:
    assert _native.unavailable_reason() is None
    info = _native.build_info()
    assert info["compiler"].startswith(("gcc", "clang"))
    assert info["openmp"] >= 201511
    assert info["cpu_levels"][0] == "baseline"
    assert info["cpu_level"] == (os.environ.get("FASTGAN_CPU_LEVEL") or info["cpu_levels"][-1])
    assert bool(info["cuda_archs"]) == hasattr(_native.extension(), "ssim_forward_cuda") == bool(info["cuda_version"])


#: What each level adds to the one before, in the kernel's words: x86-64-v3, x86-64-v4, and bfloat16.
FLAGS = {
    "avx2": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "avx512_bf16": {"avx512_bf16"},
}


@needs("/proc/cpuinfo of an x86-64 processor", "the extension")
def test_the_levels_are_those_of_the_kernels_flags() -> None:
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    has = set(line.partition(":")[2].split())
    levels = ["baseline", *itertools.takewhile(lambda level: FLAGS[level] <= has, FLAGS)]
    assert _native.build_info()["cpu_levels"] == levels


@needs("/proc/self/maps", "the extension")
def test_one_openmp_runtime_and_nothing_heavy_at_import() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    runtimes = result.stdout.split()
    assert len(runtimes) == 1, runtimes


@native
def test_the_gil_is_released_by_every_kernel(ticks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is interrupted here, so another one counts during a call only where the call lets it."""
    real = _native.extension()
    kernels = {name for name in dir(real) if re.search(r"_(forward|backward(_input|_weight)?)$", name)}
    if not real.conv2d_serves(_native.dtype_code(torch.float32)):
        kernels = {name for name in kernels if not name.startswith("conv2d_")}
    released = set()

    def watched(name: str) -> Callable[..., None]:
        kernel = getattr(real, name)

        def run(*arguments: object) -> None:
            before = ticks[0]
            kernel(*arguments)
            if ticks[0] > before:
                released.add(name)

        return run

    watching = SimpleNamespace(
        empty=real.empty, conv2d_serves=real.conv2d_serves, **{name: watched(name) for name in kernels}
    )
    monkeypatch.setattr(_native, "extension", lambda: watching)
    x, y = torch.rand(2, 2, 3, 256, 256).unbind(0)
    end = time.monotonic() + HANG  # where a kernel never does; a short one is seen to after some tries
    while released != kernels and time.monotonic() < end:
        every_op(x, y)
    assert released == kernels


@native
def test_threads_that_call_at_once_get_what_each_would_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(2, 2, 5, 60 + 20 * number, 70, generator=generator).unbind(0) for number in range(4)]
    inputs[1] = tuple(image.contiguous(memory_format=torch.channels_last) for image in inputs[1])
    inputs[2] = tuple(image.bfloat16() for image in inputs[2])
    alone = [every_op(*pair) for pair in inputs]
    barrier = threading.Barrier(len(inputs))

    def repeatedly(pair: tuple[Tensor, Tensor]) -> list[list[Tensor]]:
        barrier.wait()
        return [every_op(*pair) for _ in range(5)]

    with ThreadPoolExecutor(len(inputs)) as pool:
        for want, tries in zip(alone, pool.map(repeatedly, inputs), strict=True):
            for have in tries:
                assert all(torch.equal(a, b) for a, b in zip(have, want, strict=True))


@native
def test_a_level_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this processor runs baseline.*not 'avx9000'"):
        _native.extension().set_level("avx9000")
    script = "import torch; from fastgan import ops; ops.ssim(torch.rand(1, 1, 11, 11), torch.rand(1, 1, 11, 11))"
    environment = {**os.environ, "FASTGAN_CPU_LEVEL": "mmx"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "FASTGAN_CPU_LEVEL: this processor runs baseline" in result.stderr
