"""The memory of large outputs on CPU: used again, bounded, and never under a tensor that lives."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from helpers.machine import needs
from torch import Tensor

from fastgan import ops
from fastgan.ops import _native

pytestmark = needs("the extension")

SHAPE = (2, 8, 256, 256)  # 4 MiB in float32


@pytest.fixture
def nothing_idle() -> Iterator[None]:
    gc.collect()
    module = _native.extension()
    module.set_idle_limit(0)
    module.set_idle_limit(512 << 20)
    yield
    module.set_idle_limit(512 << 20)


def room(dtype: torch.dtype = torch.float32, channels_last: bool = False) -> Tensor:
    x = torch.zeros(SHAPE, dtype=dtype)
    return _native.empty_like(x.contiguous(memory_format=torch.channels_last) if channels_last else x)


def idle() -> int:
    return _native.extension().buffer_bytes()["idle"]


def test_what_is_gone_is_used_again(nothing_idle: None) -> None:
    first = room()
    address = first.data_ptr()
    view = first[1:, :, 3]
    del first
    assert idle() == 0, "a view still holds it"
    del view
    assert idle() == 4 << 20
    assert room().data_ptr() == address
    assert room(channels_last=True).data_ptr() == address
    assert room(torch.bfloat16).data_ptr() != address, "half of it would lie waste"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_it_is_a_tensor_like_any_other(dtype: torch.dtype, channels_last: bool) -> None:
    want = torch.empty_like(
        torch.empty(SHAPE, dtype=dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    )
    have = room(dtype, channels_last)
    assert (have.shape, have.stride(), have.dtype, have.device) == (
        want.shape,
        want.stride(),
        want.dtype,
        want.device,
    )
    assert have.data_ptr() % 64 == 0
    assert not have._is_view() and have.is_leaf
    have.normal_()
    assert torch.equal(have.clone(), have)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_of_a_shape_of_its_own(
    dtype: torch.dtype, memory_format: torch.memory_format, nothing_idle: None, request: pytest.FixtureRequest
) -> None:
    before = _native.extension().buffer_bytes()["used"]
    have = _native.empty(torch.zeros(1), (2, 8, 512, 512), dtype, memory_format)
    assert _native.extension().buffer_bytes()["used"] - before >= have.numel() * dtype.itemsize
    assert (have.dtype, have.shape) == (dtype, (2, 8, 512, 512))
    assert have.is_contiguous(memory_format=memory_format)
    want = torch.empty_like(have, device="meta")
    assert have.stride() == want.stride()
    request.getfixturevalue("poisoned")
    made = _native.empty(torch.zeros(1), (2, 8, 512, 512), dtype, memory_format)
    assert made.isnan().all() if dtype.is_floating_point else (made == 255).all()
    small = _native.empty(torch.zeros(1), (1, 2, 3, 4), dtype, memory_format)
    assert small.is_contiguous(memory_format=memory_format)


def test_tensors_that_live_share_nothing(nothing_idle: None) -> None:
    tensors = [room(dtype) for dtype in (torch.float32, torch.bfloat16) * 4]
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    del tensors[::3]
    tensors += [room() for _ in range(4)]
    for tensor in tensors[-4:]:
        tensor.fill_(-1)
    for number, tensor in zip((1, 2, 4, 5, 7), tensors, strict=False):
        assert (tensor == number).all()


def test_idle_memory_is_bounded_and_the_longest_idle_goes_first(nothing_idle: None) -> None:
    _native.extension().set_idle_limit(8 << 20)
    tensors = [room() for _ in range(5)]
    addresses = [tensor.data_ptr() for tensor in tensors]
    while tensors:
        del tensors[0]
    assert idle() == 8 << 20
    assert {room().data_ptr(), room().data_ptr()} <= set(addresses[-2:])
    _native.extension().set_idle_limit(0)
    assert idle() == 0


def test_threads_take_and_give_back_at_once(nothing_idle: None) -> None:
    wrong: list[int] = []

    def repeatedly(number: int) -> None:
        for _ in range(100):
            tensor = room()
            tensor[0, 0].fill_(number)
            if not (tensor[0, 0] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=repeatedly, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert idle() <= len(threads) * 2 * (4 << 20), "each holds one while it takes the next"


def test_an_op_uses_the_memory_of_its_last_call(nothing_idle: None) -> None:
    x = torch.randn(SHAPE)
    addresses = set()
    for _ in range(5):
        addresses.add(ops.instance_norm(x, backend="native").data_ptr())
    assert len(addresses) == 1
    assert ops.instance_norm(x, backend="native").data_ptr() in addresses


def test_deterministic_mode_fills_it_as_torch_does(nothing_idle: None, poisoned: None) -> None:
    room().fill_(1)
    assert room().isnan().all()


def run(idle_mb: str) -> subprocess.CompletedProcess[str]:
    script = (
        "import torch; from fastgan import ops; from fastgan.ops import _native; x = torch.rand(4, 8, 256, 256);"
        "ops.instance_norm(x); print(_native.extension().buffer_bytes()['idle'] >> 20)"
    )
    environment = {**os.environ, "FASTGAN_IDLE_MB": idle_mb}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("idle_mb", "kept"), [("", "8"), ("64", "8"), ("7", "0"), ("0", "0")])
def test_the_environment_sets_how_much_is_kept(idle_mb: str, kept: str) -> None:
    assert run(idle_mb).stdout.strip() == kept


@pytest.mark.parametrize("wrong", ["-1", "1.5", "lots", "9" * 30])
def test_a_wrong_number_is_refused_by_name(wrong: str) -> None:
    result = run(wrong)
    assert result.returncode != 0
    assert f"FASTGAN_IDLE_MB={wrong}: must be a whole number of MiB" in result.stderr
