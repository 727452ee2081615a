"""Differentiable augmentation: what it does to pixels, its gradients, and what it draws."""

from typing import Any

import pytest
import torch
from helpers.bounds import assert_close, rounding
from torch import Tensor

from fastgan.data import AUGMENTATIONS, augment

EVERY = [(), *((kind,) for kind in AUGMENTATIONS), AUGMENTATIONS, ("cutout", "color")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, channels: int = 3, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(count, channels, height, width, generator=seeded(1), dtype=torch.float64) * 2 - 1


def test_no_kinds_changes_and_draws_nothing() -> None:
    batch, rng = images(2), seeded()
    assert augment(batch, (), rng) is batch
    assert torch.equal(rng.get_state(), seeded().get_state())


@pytest.mark.parametrize("kinds", EVERY)
def test_deterministic_and_drawn_by_kinds_and_count_alone(kinds: tuple[str, ...]) -> None:
    first, second, other = seeded(), seeded(), seeded()
    batch = images(4)
    assert torch.equal(augment(batch, kinds, first), augment(batch, kinds, second))
    augment(torch.zeros(4, 1, 64, 5), kinds, other)
    torch.rand(100)  # the global stream has no part in it
    assert torch.equal(first.get_state(), second.get_state()) and torch.equal(first.get_state(), other.get_state())
    if kinds:
        assert not torch.equal(augment(batch, kinds, first), augment(batch, kinds, seeded()))
    state = torch.get_rng_state()
    augment(batch, kinds, first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_images_change_each_in_its_own_way(kind: str) -> None:
    batch = images(1, height=32, width=32).expand(8, -1, -1, -1)
    changed = augment(batch, (kind,), seeded())
    assert len({tuple(image.flatten().tolist()) for image in changed}) >= 7
    assert changed.shape == batch.shape and changed.dtype == batch.dtype


def solve_color(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """Brightness in [-1, 1] units, saturation and contrast that explain one image; asserts that they do exactly."""
    gray_before, gray_after = before.mean(0), after.mean(0)
    # What is the same in all channels is scaled by contrast alone, about the image's mean; what is not, by both.
    contrast = ((gray_after - gray_after.mean()).norm() / (gray_before - gray_before.mean()).norm()).item()
    brightness = (after.mean() - before.mean()).item()
    both = ((after - gray_after).norm() / (before - gray_before).norm()).item()
    want = (gray_before - before.mean()) * contrast + before.mean() + brightness + (before - gray_before) * both
    # Means and norms of 48 values, some ten of them.
    assert_close(after, want, terms=48, steps=10)
    return brightness, both / contrast, contrast


def test_color_is_brightness_saturation_and_contrast_over_their_whole_ranges() -> None:
    batch = images(1, height=4, width=4).expand(2000, -1, -1, -1)
    found = torch.tensor([solve_color(batch[0], after) for after in augment(batch, ("color",), seeded())])
    for values, low, high in zip(found.T, (-0.5, 0.0, 0.5), (0.5, 2.0, 1.5), strict=True):
        # 2000 draws leave out 2% of the range with a chance of 0.98**2000 = 3e-18.
        assert low <= values.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < values.max() <= high
        # Uniform, by the deciles: within 5 standard errors of 200.
        deciles = torch.histc(values, 10, low, high)
        assert (deciles - 200).abs().max() < 5 * (2000 * 0.1 * 0.9) ** 0.5
    correlation = torch.corrcoef(found.T) - torch.eye(3)
    assert correlation.abs().max() < 5 / 2000**0.5  # drawn independently, by 5 standard errors


def shifted(image: Tensor, down: int, across: int) -> Tensor:
    """The slow way, by slices: zeros come in."""
    height, width = image.shape[1:]
    padded = torch.nn.functional.pad(image, (width, width, height, height))
    return padded[:, height - down : 2 * height - down, width - across : 2 * width - across]


def test_translation_is_by_up_to_an_eighth_with_zeros_shifted_in() -> None:
    batch = images(1, height=16, width=28).expand(600, -1, -1, -1)
    candidates = {(down, across): shifted(batch[0], down, across) for down in range(-4, 5) for across in range(-5, 6)}
    seen = dict.fromkeys(candidates, 0)
    for after in augment(batch, ("translation",), seeded()):
        (found,) = [offset for offset, want in candidates.items() if torch.equal(after, want)]
        seen[found] += 1
    # 16 // 8 = 2 and 28 // 8 = 3: 5 x 7 places; 600 draws leave one of them out with a chance of 1e-6
    assert {offset for offset, count in seen.items() if count} == {
        (down, across) for down in range(-2, 3) for across in range(-3, 4)
    }
    assert max(seen.values()) < 600 / 35 + 5 * (600 / 35 * (34 / 35)) ** 0.5  # 5 standard errors
    assert torch.equal(augment(batch[:3, :, :7, :7], ("translation",), seeded()), batch[:3, :, :7, :7])


@pytest.mark.parametrize(("height", "width"), [(8, 12), (6, 10), (9, 7)])
def test_cutout_is_one_patch_of_half_the_sides(height: int, width: int) -> None:
    batch = torch.ones(3000, 2, height, width)
    after = augment(batch, ("cutout",), seeded())
    holes = after == 0
    assert torch.equal(after[~holes], batch[~holes]) and torch.equal(holes[:, 0], holes[:, 1])
    rows, columns = holes[:, 0].any(2), holes[:, 0].any(1)
    assert torch.equal(holes[:, 0], rows[:, :, None] & columns[:, None, :])  # a rectangle...
    for taken, side in ((rows, height), (columns, width)):
        jumps = (taken[:, 1:] != taken[:, :-1]).sum(1)
        sizes = taken.sum(1)
        inside = ~taken[:, 0] & ~taken[:, -1]
        assert (jumps <= 2).all()  # ...of one piece, of half the side where the edge does not cut it...
        assert (sizes[inside] == side // 2).all() and sizes.max() == side // 2
        assert sizes.min() == (side // 2 + 1) // 2  # ...and never less than half of that, as the center is inside.
        first = taken.float().argmax(1)
        assert len(set(zip(first.tolist(), sizes.tolist(), strict=True))) == side + 1 - side // 2 % 2


@pytest.mark.parametrize("kinds", EVERY)
def test_gradients(kinds: tuple[str, ...]) -> None:
    batch = images(2, height=9, width=8).requires_grad_()

    def changed(x: Tensor) -> Tensor:
        return augment(x, kinds, seeded(3))

    assert torch.autograd.gradcheck(changed, (batch,))
    # Twice, through what is not linear behind it, as R1 has it.
    assert torch.autograd.gradgradcheck(lambda x: changed(x).pow(3), (batch,))


def test_gradients_stay_on_what_is_seen() -> None:
    batch = torch.ones(6, 3, 16, 16, requires_grad=True)
    after = augment(batch, ("translation", "cutout"), seeded())
    (gradient,) = torch.autograd.grad(after.sum(), batch)
    assert torch.equal(gradient.sum((1, 2, 3)), after.detach().sum((1, 2, 3)))
    assert set(gradient.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_types_and_layouts(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    narrow = images(3).to(dtype).contiguous(memory_format=memory_format)
    after = augment(narrow, AUGMENTATIONS, seeded())
    assert after.dtype == dtype
    want = augment(narrow.double(), AUGMENTATIONS, seeded())
    # Fifteen roundings of half an epsilon, and means, whose sums are float32's; the last factors are 2 and 1.5.
    roundings = 15 * 3 * torch.finfo(dtype).eps / 2
    atol = (roundings + rounding(3 * 16 * 24, steps=2)) * want.abs().max().item()
    torch.testing.assert_close(after.double(), want, rtol=0, atol=atol)


def test_kinds_follow_one_another_in_the_order_given() -> None:
    batch = images(3)
    rng = seeded()
    by_hand = augment(augment(batch, ("cutout",), rng), ("color",), rng)
    assert torch.equal(augment(batch, ("cutout", "color"), seeded()), by_hand)


def test_what_is_refused() -> None:
    rng = seeded()
    with pytest.raises(ValueError, match="augmentations are 'color', 'translation', 'cutout', got 'flip'"):
        augment(images(1), ("color", "flip"), rng)
    bad: list[Any] = [images(1)[0], torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
    for batch in bad:
        with pytest.raises(ValueError, match=r"images must be floating \(N, C, H, W\), got"):
            augment(batch, ("color",), rng)
    assert torch.equal(rng.get_state(), seeded().get_state())
