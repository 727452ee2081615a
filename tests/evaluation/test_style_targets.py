"""Targets of style images: their Gram matrices, their codes, what is kept of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bounds import assert_close
from helpers.networks import sums
from helpers.tiny_runs import picture
from torch import Tensor

from fastgan.data.tensors import image_to_tensor
from fastgan.evaluation import style_targets as module
from fastgan.evaluation.style_targets import StyleTargets
from fastgan.models import STYLE_LAYERS, FusionGenerator, VGGEncoder
from fastgan.models.style_code import SHORT_SIDE, style_code

IMAGES = [picture(40, 52, 1, busy=True), picture(36, 33, 2, busy=True), picture(60, 35, 3, busy=True)]


def encoder() -> VGGEncoder:
    return VGGEncoder((*STYLE_LAYERS, "relu2_2"), "random")


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


def gram(image: np.ndarray, layer: str) -> Tensor:
    """F F^T / (C H W) of a style image's features, float64."""
    f = encoder()(tensor(image), (layer,))[layer][0].detach().double().flatten(1)
    return f @ f.T / f.numel()


#: The encoder's sums and those over up to 60 x 35 pixels, by two computations.
STEPS = 2 * (sums(encoder()) + 46)


@pytest.fixture
def styles() -> StyleTargets:
    return StyleTargets(IMAGES, encoder())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the images that any encoder takes."""
    seen: list[tuple[int, ...]] = []
    forward = VGGEncoder.forward

    def spy(self: VGGEncoder, x: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        seen.append(tuple(x.shape[-2:]))
        return forward(self, x, layers)

    monkeypatch.setattr(VGGEncoder, "forward", spy)
    return seen


def test_grams_are_of_each_image(styles: StyleTargets) -> None:
    for index, image in enumerate(IMAGES):
        have = styles.grams(index)
        assert tuple(have) == STYLE_LAYERS == styles.layers
        for layer in STYLE_LAYERS:
            assert have[layer].dtype == torch.float32 and not have[layer].requires_grad
            assert_close(have[layer], gram(image, layer), steps=STEPS)


def test_targets_of_a_batch(styles: StyleTargets) -> None:
    """In the order asked for, also one style twice."""
    for layer, target in styles.targets([2, 0, 2]).items():
        assert target.shape[0] == 3 and target.ndim == 3
        for have, index in zip(target, (2, 0, 2), strict=True):
            assert_close(have, gram(IMAGES[index], layer), steps=STEPS)


def test_mean_targets(styles: StyleTargets) -> None:
    """Each image weighs the same, whatever its size."""
    assert tuple(styles.mean_targets) == STYLE_LAYERS
    for layer, target in styles.mean_targets.items():
        want = torch.stack([gram(image, layer) for image in IMAGES]).mean(0)
        assert_close(target, want, steps=STEPS)


def test_targets_stay_in_float32(styles: StyleTargets) -> None:
    """Though the run's encoder is cast to its compute dtype after they were made, and before they are taken."""
    given = encoder()
    cast = StyleTargets(IMAGES, given)
    given.to_compute(torch.bfloat16, torch.channels_last)
    assert given.dtype == torch.bfloat16
    for index in range(3):
        for layer, target in cast.grams(index).items():
            assert torch.equal(target, styles.grams(index)[layer])
    assert all(torch.equal(target, styles.mean_targets[layer]) for layer, target in cast.mean_targets.items())


def test_a_sequence_of_targets(styles: StyleTargets) -> None:
    """For an evaluator that takes styles in turn."""
    assert len(styles) == len(list(styles)) == 3
    assert styles[1].targets is styles.grams(1) and styles[-1].targets is styles.grams(2)
    with pytest.raises(IndexError):
        _ = styles[3]


def test_images_are_read_when_they_are_needed(passes: list[Any]) -> None:
    """One at a time, and again for a target that is taken again: many fill no memory."""
    asked: list[int] = []

    class Read(list[np.ndarray]):
        def __getitem__(self, index: Any) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    styles = StyleTargets(Read(IMAGES), encoder())
    assert asked == [] and len(styles) == 3
    styles.grams(2)
    assert asked == [2]
    assert set(styles.mean_targets) == set(STYLE_LAYERS) and asked == [2, 0, 1, 2]


def test_taken_once(styles: StyleTargets, passes: list[Any]) -> None:
    """Nothing before it is needed, and then once."""
    assert len(styles) == 3 and passes == []
    for _ in range(3):
        styles.grams(1), styles.targets([1, 1])
    assert passes == [(36, 33)]
    for _ in range(2):
        _ = styles.mean_targets
    assert passes[1:] == [image.shape[:2] for image in IMAGES]


def test_few_are_kept(styles: StyleTargets, passes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes; what is taken anew is what it was."""
    monkeypatch.setattr(module, "_KEPT", 2)
    first = styles.grams(0)
    styles.grams(1)
    styles.grams(0)
    assert len(passes) == 2 and len(styles._grams) == 2
    styles.grams(2)
    assert len(passes) == 3 and len(styles._grams) == 2
    styles.grams(1)
    assert len(passes) == 3, "the newer of two was thrown away"
    again = styles.grams(0)
    assert len(passes) == 4 and len(styles._grams) == 2
    assert all(torch.equal(again[layer], first[layer]) for layer in STYLE_LAYERS)
    # More styles in one batch than are kept.
    targets = styles.targets([0, 1, 2, 0])
    assert len(styles._grams) == 2 and all(target.shape[0] == 4 for target in targets.values())
    for layer, target in targets.items():
        assert_close(target[1], gram(IMAGES[1], layer), steps=STEPS)


@pytest.mark.parametrize("fusion", ["adain", "convex"])
def test_codes(styles: StyleTargets, passes: list[Any], fusion: str) -> None:
    """The whole style's features as the generator encodes them, from float32, once."""
    generator = FusionGenerator(4, 1, fusion=fusion, layer="relu2_1")
    for index, image in enumerate(IMAGES):
        code = styles.code(index, generator)
        with torch.no_grad():
            want = generator.encode_style(encoder()(tensor(image), ("relu2_1", "relu1_1")))
        assert code.shape[:2] == (1, 128 + 64) and not code.requires_grad
        assert_close(code, want, steps=STEPS + 2 * sums(generator))
        assert_close(style_code(tensor(image), encoder(), generator), want, steps=STEPS + 2 * sums(generator))
    taken = len(passes)
    assert torch.equal(styles.code(2, generator), code) and len(passes) == taken
    assert not torch.equal(styles.code(0, generator).mean(), code.mean())


def test_style_tensor() -> None:
    image = IMAGES[0]
    assert torch.equal(image_to_tensor(image), image_to_tensor(image.copy()))
    assert_close(image_to_tensor(image), tensor(image), steps=4)  # a division and a difference
    assert_close(image_to_tensor(image[:, ::-1]), tensor(image).flip(3), steps=4)
    assert SHORT_SIDE == 384
