"""A trained generator of images from noise: its noise, its images, and the ways between them."""

import copy
import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.bounds import assert_close, rounding, unit
from helpers.networks import sums
from torch import Tensor

from fastgan.inference import Sampler
from fastgan.models import DCGANGenerator

CPU = torch.device("cpu")
Z = 9


def generator() -> DCGANGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = DCGANGenerator(4, 1, size=16, z_dim=Z)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(8)  # images that differ: N(0, 0.02) as it starts gives nearly gray ones
            for name, buffer in made.named_buffers():
                if "running" in name:
                    buffer.uniform_(0.3, 1.5).sub_(0.9 if "mean" in name else 0)
    return made


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(generator(), CPU, torch.float32, "random")


@pytest.fixture
def taken(sampler: Sampler) -> Iterator[list[Tensor]]:
    """The noise that goes into the generator, batch by batch."""
    seen: list[Tensor] = []
    hook = sampler.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    yield seen
    hook.remove()


def test_noise_is_of_the_image_not_of_the_count(sampler: Sampler) -> None:
    """Also where torch draws otherwise: fewer than 16 numbers, and the last 16 of a number of them not divisible."""
    many = sampler.noise(300, seed=7)
    assert many.shape == (300, Z) and many.dtype == torch.float32
    for count in (1, 2, 3, 5, 16, 17, 64, 255):
        assert torch.equal(sampler.noise(count, seed=7), many[:count]), count
    assert not torch.equal(sampler.noise(300, seed=8), many)
    # Five standard errors of n numbers; their squares are 1 / n, 1 / 2n and, of the fourth moment, 96 / n.
    n = 300 * Z
    assert abs(many.mean().item()) < 5 / math.sqrt(n)
    assert many.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * n))
    fourth = many.double().pow(4).mean().item()
    assert fourth == pytest.approx(3, abs=5 * math.sqrt(96 / n))  # of a normal distribution; of a uniform one 1.8
    assert len({tuple(row) for row in many.tolist()}) == 300
    assert np.abs(sampler.generate(3, seed=7).astype(int) - sampler.generate(8, seed=7)[:3]).max() <= 1


def test_noise_leaves_the_global_random_state_alone(sampler: Sampler) -> None:
    before = torch.get_rng_state()
    sampler.generate(2, seed=1)
    sampler.interpolate(3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_generate(sampler: Sampler) -> None:
    """The pixels of the network's images, each by itself, in the order of the noise."""
    images = sampler.generate(5, seed=2)
    assert images.shape == (5, 16, 16, 3) and images.dtype == np.uint8
    assert np.array_equal(sampler.generate(5, seed=2), images)
    assert not np.array_equal(sampler.generate(5, seed=3), images)
    assert np.array_equal(sampler.generate(5), sampler.generate(5, seed=0))
    assert len({image.tobytes() for image in images}) == 5 and images.std() > 10
    own = generator().eval()
    for index, z in enumerate(sampler.noise(5, seed=2)):
        with torch.no_grad():
            want = ((own(z[None])[0].permute(1, 2, 0) + 1) * 127.5).numpy()
        assert np.abs(images[index] - want).max() <= 0.5 + 127.5 * rounding(1, 2 * sums(own))


def test_a_sampler_uses_what_batch_norm_has_learned(sampler: Sampler) -> None:
    assert not sampler.generator.training
    before = {name: buffer.clone() for name, buffer in sampler.generator.named_buffers()}
    z = sampler.noise(8)
    # Whatever the batch they are made in.
    assert_close(sampler.run(z[:3]), sampler.run(z)[:3], steps=2 * sums(sampler.generator), scale=1.0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in sampler.generator.named_buffers())


def test_run_goes_in_batches(sampler: Sampler, taken: list[Tensor]) -> None:
    z = sampler.noise(10)
    out = sampler.run(z, batch=4)
    assert [len(part) for part in taken] == [4, 4, 2] and torch.equal(torch.cat(taken), z)
    assert out.shape == (10, 3, 16, 16) and out.dtype == torch.float32 and out.abs().max() <= 1
    assert not out.requires_grad
    assert_close(out, sampler.run(z), steps=2 * sums(sampler.generator), scale=1.0)


@pytest.mark.parametrize("steps", [2, 3, 12])
def test_interpolation_is_along_the_great_circle(sampler: Sampler, taken: list[Tensor], steps: int) -> None:
    """From the first noise to the second; equal angles between, in their plane; no length shorter than both ends'."""
    images = sampler.interpolate(steps, seed=3)
    assert images.shape == (steps, 16, 16, 3) and images.dtype == np.uint8
    (z,) = taken
    first, last = sampler.noise(2, seed=3)
    assert_close(z[0], first, steps=4)  # two sines, a product, a quotient
    assert_close(z[-1], last, steps=4)
    ends = sampler.generate(2, seed=3)
    assert np.abs(images[[0, -1]].astype(int) - ends).max() <= 1
    a, b = first.double() / first.norm(), last.double() / last.norm()
    whole = math.acos(torch.dot(a, b).item())
    across = (b - torch.dot(a, b) * a) / math.sin(whole)  # with a, an orthonormal base of their plane
    for number, point in enumerate(z.double()):
        share = number / (steps - 1)
        u, v = math.sin((1 - share) * whole) / math.sin(whole), math.sin(share * whole) / math.sin(whole)
        want = (u * first.norm() + v * last.norm() * math.cos(whole)) * a + v * last.norm() * math.sin(whole) * across
        # The angle is off by the rounding of a cosine over its sine, and by it the shares, over the sine again.
        scale = (first.norm() + last.norm()).item() / math.sin(whole) ** 2
        assert_close(point, want, terms=Z, steps=4, dtype=torch.float32, scale=scale)
        assert point.norm() >= 0.8 * min(first.norm(), last.norm())


def test_the_circle_keeps_the_length(sampler: Sampler, taken: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """All noises between two of one length have it, where the straight line would come near 0."""
    ends = torch.zeros(2, Z)
    ends[0, 0], ends[1, 0], ends[1, 1] = 3.0, -3.0 * math.cos(0.3), 3.0 * math.sin(0.3)
    monkeypatch.setattr(sampler, "noise", lambda count, *, seed: ends)
    sampler.interpolate(9)
    (z,) = taken
    scale = 2 * 3.0 / math.sin(0.3) ** 2  # as above
    assert_close(z.norm(dim=1), torch.full((9,), 3.0), terms=Z, steps=4, scale=scale)
    angles = [torch.dot(z[i], z[i + 1]).item() / 9 for i in range(8)]
    error = rounding(Z, 4) * 2 * scale / 3
    assert angles == pytest.approx([math.cos((math.pi - 0.3) / 8)] * 8, abs=error)


def test_other_arithmetic_is_near(sampler: Sampler) -> None:
    rounded = Sampler(generator(), CPU, torch.bfloat16).run(sampler.noise(4))
    exact = sampler.run(sampler.noise(4))
    assert rounded.dtype == torch.float32
    # Each layer rounds what comes in, its weights and what goes out, of images from -1 to 1.
    layers = sum(parameter.ndim > 1 for parameter in sampler.generator.parameters())
    assert 0 < (rounded - exact).abs().mean() < 3 * layers * unit(torch.bfloat16)


@pytest.mark.parametrize("count", [0, -1])
def test_no_images(sampler: Sampler, count: int) -> None:
    with pytest.raises(ValueError, match=f"count must be at least 1, got {count}"):
        sampler.generate(count)


@pytest.mark.parametrize("steps", [1, 0, -3])
def test_no_way(sampler: Sampler, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be at least 2, got {steps}"):
        sampler.interpolate(steps)


def test_noise_of_another_length(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=rf"z must be \(N, {Z}\)"):
        sampler.run(torch.zeros(2, Z + 1))


def test_pictures_are_refused(sampler: Sampler) -> None:
    for call in (sampler, sampler.code):
        with pytest.raises(TypeError, match="this model makes images from noise and takes no"):
            call(np.zeros((20, 20, 3), np.uint8))


def test_it_is_copied_and_pickled(sampler: Sampler) -> None:
    for again in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert np.array_equal(again.generate(3), sampler.generate(3))
