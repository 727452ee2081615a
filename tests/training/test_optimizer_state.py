"""The state of FlatOptimizer: taken up, given back, refused."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from helpers.optimized import CONFIGS, Watched, every_rule, generator, learn
from torch import nn

from fastgan.config.sections import OptimizerConfig
from fastgan.training.optimizer import FlatOptimizer, torch_optimizer
from fastgan.training.state import _load_optimizer


@every_rule
def test_an_old_state_is_taken_up_and_given_back(config: OptimizerConfig) -> None:
    """Through a file, from torch.optim to FlatOptimizer and from there to torch.optim again."""
    theirs = generator()
    usual = torch_optimizer(theirs.parameters(), config)
    for number in range(5):
        learn(theirs, usual, number)

    def through_a_file(values: Any) -> Any:
        file = io.BytesIO()
        torch.save(values, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    ours = generator()
    flat = FlatOptimizer(ours.parameters(), config)
    ours.load_state_dict(theirs.state_dict())
    _load_optimizer(flat, through_a_file(usual.state_dict()), "optimizer_g")
    again = generator()
    again.load_state_dict(theirs.state_dict())
    back = torch_optimizer(again.parameters(), config)
    _load_optimizer(back, through_a_file(flat.state_dict()), "optimizer_g")
    assert set(flat.param_groups[0]) == set(usual.param_groups[0])
    if config.name != "sgd":
        assert [entry["step"].item() for entry in flat.state_dict()["state"].values()] == [5.0] * len(usual.state)
    watched = Watched(theirs)
    for number in range(5, 8):
        learn(theirs, usual, number)
        watched.updated()
        for network, optimizer in ((ours, flat), (again, back)):
            optimizer.zero_grad()
            for a, b in zip(network.parameters(), theirs.parameters(), strict=True):
                a.grad = b.grad.clone()
            optimizer.step()
            watched.assert_same(network)


@every_rule
def test_a_state_of_its_own_goes_on_to_the_bit(config: OptimizerConfig) -> None:
    one = generator()
    first = FlatOptimizer(one.parameters(), config)
    for number in range(3):
        learn(one, first, number)
    kept, weights = copy.deepcopy(first.state_dict()), copy.deepcopy(one.state_dict())
    for number in range(3, 6):
        learn(one, first, number)
    other = generator()
    second = FlatOptimizer(other.parameters(), config)
    learn(other, second, 77)  # a state to be replaced
    other.load_state_dict(weights)
    second.load_state_dict(kept)
    for number in range(3, 6):
        learn(other, second, number)
    assert torch.equal(first.flat, second.flat)
    # Back in time, as a rollback goes.
    one.load_state_dict(weights)
    first.load_state_dict(kept)
    for number in range(3, 6):
        learn(one, first, number)
    assert torch.equal(first.flat, second.flat)


def test_states_that_do_not_fit_are_refused_and_change_nothing() -> None:
    network = generator()
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0])
    learn(network, optimizer, 0)
    before = copy.deepcopy(optimizer.state_dict())
    uneven = copy.deepcopy(before)
    uneven["state"][1]["step"] += 1
    shapes = copy.deepcopy(before)
    shapes["state"][2]["exp_avg"] = torch.zeros(3, 1)
    fewer = torch_optimizer(nn.Linear(2, 2).parameters(), CONFIGS[0]).state_dict()
    for values, text in ((uneven, "took 1, 2 steps"), (shapes, "exp_avg is"), (fewer, "size")):
        with pytest.raises(ValueError, match=text):
            optimizer.load_state_dict(values)
        after = optimizer.state_dict()
        assert after["param_groups"] == before["param_groups"]
        for i, entry in before["state"].items():
            assert all(torch.equal(after["state"][i][name], value) for name, value in entry.items())
    learn(network, optimizer, 1)
    with pytest.raises(ValueError, match="another kind"):
        _load_optimizer(optimizer, torch_optimizer(generator().parameters(), CONFIGS[2]).state_dict(), "optimizer_g")


def test_a_parameter_torch_never_updated_starts_from_nothing() -> None:
    theirs, ours = nn.Linear(3, 2), nn.Linear(3, 2)
    usual = torch_optimizer(theirs.parameters(), CONFIGS[0])
    theirs.weight.grad = torch.ones(2, 3)
    usual.step()
    flat = FlatOptimizer(ours.parameters(), CONFIGS[0])
    flat._flat_state[0].fill_(3.0)
    flat.load_state_dict(usual.state_dict())
    assert not flat.state[ours.bias]["exp_avg"].any()
    assert torch.equal(flat.state[ours.weight]["exp_avg"], usual.state[theirs.weight]["exp_avg"])


def test_a_state_of_another_rule_is_refused_and_nothing_changed() -> None:
    adam, sgd = CONFIGS[0], CONFIGS[5]
    assert (adam.name, sgd.name) == ("adam", "sgd")
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    given = FlatOptimizer(other.parameters(), adam)
    given.zero_grad()
    given.step()
    optimizer = FlatOptimizer(network.parameters(), sgd)
    with pytest.raises(ValueError, match="another rule than sgd"):
        optimizer.load_state_dict(given.state_dict())
    optimizer.zero_grad()
    optimizer.step()
