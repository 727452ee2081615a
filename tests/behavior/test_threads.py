"""Eight threads and one model: each call gives what it would give alone."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from helpers.tiny_fusion import network
from helpers.tiny_runs import batch, differences, floats, picture
from torch import Tensor

from fastgan import metrics
from fastgan.config import Config
from fastgan.inference import Sampler, Stylizer
from fastgan.models import DCGANGenerator, FastGenerator, VGGEncoder
from fastgan.training import Trainer
from fastgan.utils.host_settings import building

Make = Callable[..., Config]
THREADS = 8
CPU = torch.device("cpu")


def at_once(call: Callable[[int], Any], times: int = 1) -> list[list[Any]]:
    """The results of ``call`` of each thread's number, when all begin together."""
    together = Barrier(THREADS)

    def work(number: int) -> list[Any]:
        together.wait()
        return [call(number) for _ in range(times)]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


def same(have: Sequence[Any], want: Any) -> bool:
    if not isinstance(want, dict):
        have, want = [[result] for result in have], [want]
    return all(differences(result, want) == [] for result in have)


def _photograph(number: int, height: int = 90, width: int = 130) -> Tensor:
    contrast = 0.3 + 0.1 * number
    return torch.from_numpy(picture(height, width, number)).permute(2, 0, 1)[None].float() / 255 * contrast


@pytest.fixture(scope="module")
def fast() -> Stylizer:
    with building(1):
        return Stylizer(FastGenerator(4, 1), CPU, torch.float32)


@pytest.fixture(scope="module")
def fusion() -> Stylizer:
    generator = network()
    encoder = VGGEncoder(generator.layers, "random")
    return Stylizer(generator, CPU, torch.float32, "random", encoder=encoder, styles=lambda: [picture(40, 44, 90)])


@pytest.mark.parametrize("model", ["fast", "fusion"])
@pytest.mark.parametrize("tiled", [False, True])
def test_stylizing(request: pytest.FixtureRequest, model: str, tiled: bool) -> None:
    """By tiles too, for which the norms hold the moments of a whole picture."""
    stylizer: Stylizer = request.getfixturevalue(model)
    side = stylizer.min_tile + 40
    pictures = [_photograph(number, side, side) for number in range(THREADS)]
    tile = stylizer.min_tile if tiled else None
    want = [stylizer(x, tile=tile) for x in pictures]
    stylizer._code = None  # the style of the training, which a first call encodes
    for number, have in enumerate(at_once(lambda number: stylizer(pictures[number], tile=tile))):
        assert same(have, want[number]), number
    assert not any(getattr(module, "frozen", None) for module in stylizer.generator.modules())


def test_styles_of_their_own(fusion: Stylizer) -> None:
    def call(number: int) -> Tensor:
        return fusion(_photograph(number, 40, 50), style=picture(40, 44, number), strength=0.5 + number / 20)

    want = [call(number) for number in range(THREADS)]
    for number, have in enumerate(at_once(call)):
        assert same(have, want[number]), number


def test_a_sampler() -> None:
    with building(2):
        sampler = Sampler(DCGANGenerator(4, 1, size=16, z_dim=9), CPU, torch.float32, "random")
    want = [torch.from_numpy(sampler.generate(5, seed=number)) for number in range(THREADS)]
    for number, have in enumerate(at_once(lambda number: torch.from_numpy(sampler.generate(5, seed=number)), times=3)):
        assert same(have, want[number]), number


def test_metrics_of_their_own() -> None:
    def call(number: int) -> list[Tensor]:
        x, y = _photograph(number, 40, 40), _photograph(number + 1, 40, 40)
        both = metrics.SSIM(), metrics.PSNR()
        for metric in both:
            metric.update(x, y)
            metric.update(y, x)
        return [metric.compute() for metric in both]

    want = [call(number) for number in range(THREADS)]
    for number, have in enumerate(at_once(call, times=3)):
        assert same(have, want[number]), number


def test_trainers_of_their_own(tiny: Make) -> None:
    """Made and stepped at once: networks are initialized from torch's one random state."""

    def call(number: int) -> dict[str, Any]:
        trainer = Trainer(tiny({"train.seed": number}), data=[])
        trainer.train_step(batch(number))
        trainer.train_step(floats(number))
        return trainer.state.state_dict()

    want = [call(number) for number in range(THREADS)]
    for number, have in enumerate(at_once(call)):
        assert same(have, want[number]), number
