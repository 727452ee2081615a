"""Batches of a user: one stream of any iterable, and what is no batch is told by what it is."""

import math
from typing import Any

import pytest
import torch
from helpers.tiny_runs import batch, floats

from fastgan.errors import InputError
from fastgan.training import batch_source
from fastgan.training.batch_source import BatchSource, check_batch, repeat_batches


def test_what_can_be_iterated_again_is() -> None:
    stream = repeat_batches([1, 2, 3])  # type: ignore[list-item]
    assert [next(stream) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    assert list(repeat_batches(iter([1, 2]))) == [1, 2]  # type: ignore[list-item]
    assert list(repeat_batches([])) == []


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ((floats(0), torch.zeros(2)), ["a tuple of 2 (Tensor, Tensor)", "(batch[0] for batch in loader)"]),
        ([floats(0)], ["a list of 1 (Tensor)", "(batch[0] for"]),
        ({"image": floats(0)}, ["a dict with 'image'", "batch['image']"]),
        (floats(0).numpy(), ["numpy.ndarray (2, 3, 32, 32)", "torch.from_numpy"]),
        ("photo.jpg", ["got str"]),
        (None, ["got NoneType"]),
        (batch(0).long(), ["got torch.int64 (2, 32, 32, 3)"]),
        (floats(0)[:, :1], ["got torch.float32 (2, 1, 32, 32)"]),
        (floats(0)[0], ["got torch.float32 (3, 32, 32)"]),
        ((floats(0) + 1) * 127.5, ["in [-1, 1], these have", "to 255"]),
        (floats(0).index_fill(2, torch.tensor([3]), math.nan), ["192 of the 6,144 values", "NaN or infinite"]),
        (floats(0).index_fill(2, torch.tensor([3]), math.inf), ["192 of the 6,144 values", "NaN or infinite"]),
    ],
)
def test_what_is_no_batch_is_told_by_what_it_is(item: Any, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        check_batch(item)
    text = str(caught.value)
    assert text.startswith("data: ") and "\n" not in text and all(part in text for part in parts), text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_batches(dtype: torch.dtype) -> None:
    check_batch(batch(0))
    check_batch((1.2 * floats(0)).to(dtype))  # filters of resizing go beyond the range of their input
    check_batch(floats(0).to(dtype).requires_grad_())


def test_how_many_batches_on_a_gpu_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands in for one."""
    looked: list[torch.Tensor] = []
    monkeypatch.setattr(batch_source, "check_values", looked.append)
    for device, count in (("cpu", 400), ("meta", 100 + 15)):
        looked.clear()
        check = batch_source.BatchCheck()
        for _ in range(400):
            check(torch.empty(1, 3, 8, 8, device=device))
        assert len(looked) == count
        with pytest.raises(InputError, match=r"got torch\.float32"):
            check(torch.empty(1, 1, 8, 8, device=device))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_images_that_look_like_another_range_are_told_once(dtype: torch.dtype) -> None:
    for images, count in ((floats(0), 0), ((floats(0) + 1) / 2, 1)):
        lines: list[str] = []
        data = [batch(0)] if dtype == torch.uint8 else [images.to(dtype)] * 2
        source = BatchSource(data, lambda _: repeat_batches([]), lines.append)
        for step in range(3):
            assert source.next(step)[0] is not None
        assert ["[0, 1]" in line for line in lines] == [True] * (count if dtype != torch.uint8 else 0)
