"""Options that trade time for memory give the same update: a batch in parts, activations computed twice."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import assert_close
from helpers.observed_step import DECIBELS, NOISE, Make, Seen, close, equal, near, weights
from helpers.tiny_runs import batch, differences, task_of
from torch import Tensor

from fastgan.errors import InputError
from fastgan.training import Trainer

#: SGD: Adam's first step is the sign of a gradient, and turns rounding into whole steps.
PLAIN_RULE: dict[str, Any] = {
    f"optim.{side}.{field}": value
    for side in ("generator", "discriminator")
    for field, value in (("name", "sgd"), ("beta1", 0.0))
}
EVERY_LOSS = {"loss.tv": 0.3, "loss.psnr": 0.2, "loss.r1": 0.5, "data.batch": 4, **PLAIN_RULE}
#: Where it is not 1, the size of what a number sums: squares of differences and deviations have one sign.
SCALES = {"loss/tv": 0.0, "loss/r1": 0.0, "train/diversity": 0.0, "train/psnr": DECIBELS}


def stepped(config: Any, count: int = 4) -> Seen:
    return Seen(Trainer(config, data=[]), batch(0, count))


@pytest.mark.usefixtures("smooth_encoder")
@pytest.mark.parametrize("parts", [2, 3, 4, 9])
@pytest.mark.parametrize("fields", [{}, {"model.name": "article", "quality.target_ssim": 0.6}], ids=["fast", "article"])
def test_a_batch_in_parts_is_the_batch(tiny: Make, fields: dict[str, Any], parts: int) -> None:
    """Both networks' gradients, what they become, and every number of the step; also where the parts are unequal."""
    fields = {**EVERY_LOSS, **fields}
    trainer = Trainer(tiny(fields), data=[])
    task, d = task_of(trainer), trainer.state.discriminator
    whole, cut = Seen(trainer, batch(0, 4)), stepped(tiny({**fields, "train.accumulate": parts}))
    for side, others in (("discriminator", [d, d]), ("generator", [task.encoder, d])):  # R1 passes D twice
        close(cut.grads[side], whole.grads[side], whole.before[side], *others)
        assert_updated(cut, side, cut.metrics[f"lr/{side[0]}"])
    for name in (name for name in whole.metrics if name.startswith(("loss/", "train/"))):
        assert cut.metrics[name] == near(whole.metrics[name], whole.g, task.encoder, d, scale=SCALES.get(name)), name
    fixed = [name for name in whole.metrics if name.startswith(("lr/", "controller/"))]
    assert fixed and [cut.metrics[name] for name in fixed] == [whole.metrics[name] for name in fixed]


def assert_updated(seen: Seen, side: str, rate: float) -> None:
    """By SGD, of the gradient that was taken: a product and a difference, each rounded once."""
    for p, g, made in zip(weights(seen.before[side]), seen.grads[side], seen.stepped[side], strict=True):
        scale = p.abs().max().item() + rate * g.abs().max().item()
        assert_close(made.double(), p.double() - rate * g.double(), steps=2, dtype=torch.float32, scale=scale)


def test_no_network_sees_more_than_a_part(tiny: Make) -> None:
    trainer = Trainer(tiny({"data.batch": 5, "train.accumulate": 3, "loss.r1": 1.0}), data=[])
    seen: dict[str, set[int]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _, inputs: seen.setdefault(name, set()).add(len(inputs[0]))

    networks = {"generator": trainer.state.generator, "encoder": trainer.task.encoder}  # type: ignore[attr-defined]
    for name, network in {**networks, "discriminator": trainer.state.discriminator}.items():
        network.register_forward_pre_hook(note(name))
    trainer.train_step(batch(0, 5))
    assert seen == {name: {1, 2} for name in (*networks, "discriminator")}


def test_one_step_of_each_network_whatever_the_parts(tiny: Make) -> None:
    trainer = Trainer(tiny({"data.batch": 4, "train.accumulate": 4}), data=[])
    steps: list[str] = []
    for name, optimizer in (("D", trainer.state.optimizer_d), ("G", trainer.state.optimizer_g)):
        optimizer.register_step_post_hook(lambda *_, name=name: steps.append(name))
    trainer.train_step(batch(0, 4))
    assert steps == ["D", "G"] and trainer.state.global_step == 1


@pytest.mark.usefixtures("smooth_encoder")
def test_without_a_discriminator(tiny: Make) -> None:
    fields = {**PLAIN_RULE, "data.batch": 4, "loss.adversarial": 0.0}
    trainers = [Trainer(tiny({**fields, "train.accumulate": parts}), data=[]) for parts in (1, 2)]
    whole, cut = (Seen(trainer, batch(0, 4)) for trainer in trainers)
    close(cut.grads["generator"], whole.grads["generator"], whole.g, task_of(trainers[0]).encoder)
    assert_updated(cut, "generator", cut.metrics["lr/g"])


def saved_bytes(call: Callable[[], Any]) -> int:
    """Bytes that autograd keeps for the backward pass."""
    places: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        places[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = call()
    del kept
    return sum(places.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_give_the_same_bits(tiny: Make, precision: str) -> None:
    fields = {"model.generator.depth": 3, "train.precision": precision}
    plain, twice = (Trainer(tiny({**fields, "train.activation_checkpointing": on}), data=[]) for on in (False, True))
    images = torch.rand(2, 3, 32, 32)
    assert saved_bytes(lambda: twice.state.generator(images)) < 0.5 * saved_bytes(lambda: plain.state.generator(images))
    for number in range(2):
        for trainer in (plain, twice):
            trainer.train_step(batch(number))
    assert differences(twice.state.state_dict(), plain.state.state_dict()) == []
    apart = copy.deepcopy(twice.state.generator)
    before = weights(apart)
    twice.train_step(batch(2))
    assert equal(weights(apart), before)  # a copy calls its own stages
    assert torch.equal(apart(images), copy.deepcopy(plain.state.generator)(images))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({**NOISE, "train.accumulate": 2}, "train.accumulate: batch norm"),
        ({"model.discriminator.name": "dcgan", "train.accumulate": 2}, "train.accumulate: batch norm"),
        ({"model.name": "fusion", "model.fusion": "adain", "train.accumulate": 2}, "train.accumulate: the strengths"),
        ({**NOISE, "train.activation_checkpointing": True}, "train.activation_checkpointing: batch norm"),
    ],
)
def test_refused_where_it_would_be_another_update(tiny: Make, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        tiny(fields)
