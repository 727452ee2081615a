"""FlatOptimizer: the trajectories and the state of torch.optim, in one buffer and one pass."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from helpers.bounds import approx, assert_close
from helpers.networks import sums
from helpers.observed_step import close
from helpers.optim_updates import STATE_ROUNDINGS
from helpers.optimized import CONFIGS, Watched, assert_equal, backward, every_rule, generator, learn
from torch import Tensor, nn

from fastgan.config.sections import OptimizerConfig
from fastgan.training.optimizer import FlatOptimizer, torch_optimizer
from fastgan.training.state import _load_optimizer, check_ownership


@every_rule
def test_the_trajectory_of_torch(config: OptimizerConfig) -> None:
    """The gradients are the same: those of torch's network, so that a rounding is not led astray by the network."""
    ours, theirs = generator(), generator()
    flat, usual = FlatOptimizer(ours.parameters(), config), torch_optimizer(theirs.parameters(), config)
    watched = Watched(theirs)
    for number in range(20):
        for each in (flat, usual):
            each.param_groups[0]["lr"] = config.lr * (1 - number / 40)
        learn(theirs, usual, number)
        flat.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad += b.grad
        flat.step()
        watched.updated()
        watched.assert_same(ours)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert set(usual.state[b]) - {"step"} == set(flat.state[a]) - {"step"} or not usual.state[b]
        for name in set(flat.state[a]) - {"step"}:
            want = usual.state[b][name]
            assert_close(flat.state[a][name], want, terms=20, steps=2 * STATE_ROUNDINGS)


@every_rule
def test_it_learns_as_torch_does(config: OptimizerConfig) -> None:
    """From every state of a trajectory: loss and gradient of a usual network, and the update that torch makes of them.

    Two trajectories would drift apart: biases before a norm have gradients that are rounding alone, of which Adam and
    RMSprop make whole steps.
    """
    ours, theirs = generator(), generator()
    flat, usual = FlatOptimizer(ours.parameters(), config), torch_optimizer(theirs.parameters(), config)
    for number in range(20):
        theirs.load_state_dict(ours.state_dict())
        _load_optimizer(usual, copy.deepcopy(flat.state_dict()), "optimizer_g")
        watched = Watched(theirs)
        have, want = learn(ours, flat, number), backward(theirs, usual, number)
        assert have == approx(want, steps=2 * sums(ours))
        close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()], ours)  # type: ignore[misc]
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            b.grad.copy_(a.grad)
        usual.step()
        watched.updated()
        watched.assert_same(ours)


def test_parameters_are_views_in_their_own_layout() -> None:
    network, before = generator(), generator()
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0])
    assert_equal(network, before)
    some = False
    for p, old in zip(network.parameters(), before.parameters(), strict=True):
        assert p.is_leaf and p.requires_grad and p.stride() == old.stride()
        some |= not p.is_contiguous()
        assert p.untyped_storage().data_ptr() == optimizer.flat.untyped_storage().data_ptr()
        assert p.data_ptr() % 64 == 0
    assert some, "no weight in channels_last"
    check_ownership(optimizer, network, "generator")
    optimizer.zero_grad()
    network(torch.rand(1, 3, 16, 16)).sum().backward()
    total = sum(p.grad.double().sum() for p in network.parameters())
    count, largest = optimizer.flat_grad.numel(), optimizer.flat_grad.abs().max().item()
    assert_close(optimizer.flat_grad.double().sum(), total, terms=count, steps=2, scale=count * largest)
    assert total != 0
    optimizer.zero_grad()
    assert not optimizer.flat_grad.any() and all(p.grad is not None for p in network.parameters())


@every_rule
def test_clip_and_average_in_the_same_pass(config: OptimizerConfig) -> None:
    config = config.model_copy(update={"clip_weights": 0.05})
    ours, theirs = generator(), generator()
    our_ema, their_ema = copy.deepcopy(ours), copy.deepcopy(theirs)
    flat = FlatOptimizer(ours.parameters(), config, ema=our_ema.parameters())
    usual = torch_optimizer(theirs.parameters(), config)
    watched, averages = Watched(theirs), Watched(their_ema)
    for number in range(12):
        decay = min(0.95, (1 + number) / (10 + number))
        learn(theirs, usual, number)
        with torch.no_grad():
            for p in theirs.parameters():
                p.clamp_(-0.05, 0.05)
            torch._foreach_lerp_(list(their_ema.parameters()), list(theirs.parameters()), 1 - decay)
        flat.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad += b.grad
        flat.step(ema_decay=decay)
        watched.updated()
        averages.updated()
        watched.assert_same(ours)
    # The average moves by less than the parameters, and carries their difference on.
    averages.moved = watched.moved
    averages.assert_same(our_ema)
    assert max(p.abs().max() for p in ours.parameters()) <= 0.05
    averaged = flat.flat_ema.clone()
    flat.step()
    assert torch.equal(flat.flat_ema, averaged), "without a decay the average stays"


@every_rule
def test_without_a_gradient_nothing_moves(config: OptimizerConfig) -> None:
    """Gradients of None, as after zero_grad(set_to_none=True): the parameter is passed over, as by torch.optim."""

    def layers() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))

    ours, theirs = layers(), layers()
    flat, usual = FlatOptimizer(ours.parameters(), config), torch_optimizer(theirs.parameters(), config)
    flat.step()
    watched = Watched(theirs)
    assert flat.state_dict()["state"].get(0, {}).get("step", 0) == 0, "no gradient at all: no step"
    for number, used in enumerate([(0, 1, 2, 3), (0, 1, 2, 3), (1, 3), (0, 1)]):
        generator = torch.Generator().manual_seed(number)
        for network, optimizer in ((ours, flat), (theirs, usual)):
            optimizer.zero_grad(set_to_none=True)
            state = generator.get_state()
            x = torch.randn(3, 5, generator=generator)
            for i in used:
                x = network[i](x)
            x.square().sum().backward()
            generator.set_state(state)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            if b.grad is not None:
                a.grad = b.grad.clone()
        before = [p.detach().clone() for p in ours.parameters()]
        flat.step()
        usual.step()
        watched.updated()
        for i, (p, old) in enumerate(zip(ours.parameters(), before, strict=True)):
            assert (i // 2 in used) or torch.equal(p, old)
        if config.name != "adam" or number < 3:  # of which torch counts the steps of each parameter
            watched.assert_same(ours)


def test_zero_gradients_of_what_was_never_reached_change_nothing() -> None:
    for config in CONFIGS:
        network = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        optimizer = FlatOptimizer(network.parameters(), config)
        before = network[1].weight.detach().clone()
        for _ in range(3):
            optimizer.zero_grad()
            network[0](torch.randn(2, 3)).sum().backward()
            optimizer.step()
        assert torch.equal(network[1].weight, before)


def test_gradients_from_elsewhere_are_taken_in() -> None:
    network = generator()
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[4])
    before = optimizer.flat.clone()
    for p in network.parameters():
        p.grad = torch.ones_like(p, memory_format=torch.contiguous_format)
    optimizer.step()
    for p in network.parameters():
        assert p.grad.untyped_storage().data_ptr() == optimizer.flat_grad.untyped_storage().data_ptr()
    change = CONFIGS[4].lr * optimizer.flat_grad
    scale = before.abs().max().item() + change.abs().max().item()
    assert_close(before - optimizer.flat, change, steps=3, scale=scale)  # a product, a difference, a difference


@pytest.mark.parametrize("how", ["data", "move", "layout", "group", "average"])
def test_replaced_parameters_are_noticed(how: str) -> None:
    network = generator()
    ema = copy.deepcopy(network)
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0], ema=ema.parameters())
    learn(network, optimizer, 0, ema_decay=0.5)
    first = next(network.parameters())
    if how == "data":
        first.data = first.data.clone()
    elif how == "move":
        network.double().float()
    elif how == "layout":
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    elif how == "group":
        optimizer.param_groups[0]["params"][0] = nn.Parameter(first.detach().clone())
    else:
        next(ema.parameters()).data = torch.zeros_like(first)
    before = optimizer.flat.clone()
    with pytest.raises(RuntimeError, match="replaced"):
        optimizer.step()
    assert torch.equal(optimizer.flat, before)


@pytest.mark.parametrize("by", ["deepcopy", "pickle"])
def test_copies_are_whole_and_apart(by: str) -> None:
    network = generator()
    ema = copy.deepcopy(network)
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0], ema=ema.parameters())
    optimizer.param_groups[0]["lr"] = 3e-4
    learn(network, optimizer, 0, ema_decay=0.5)
    apart = copy.deepcopy(network)
    assert next(apart.parameters()).data_ptr() != next(network.parameters()).data_ptr()
    everything = {"network": network, "ema": ema, "optimizer": optimizer}
    made = copy.deepcopy(everything) if by == "deepcopy" else pickle.loads(pickle.dumps(everything))
    other: FlatOptimizer = made["optimizer"]
    check_ownership(other, made["network"], "generator")
    assert other.param_groups[0]["lr"] == 3e-4
    assert torch.equal(other.flat, optimizer.flat) and other.flat.data_ptr() != optimizer.flat.data_ptr()
    before = optimizer.flat.clone()
    learn(made["network"], other, 1, ema_decay=0.5)
    assert torch.equal(optimizer.flat, before) and not torch.equal(other.flat, before)
    learn(network, optimizer, 1, ema_decay=0.5)
    assert torch.equal(other.flat, optimizer.flat) and torch.equal(other.flat_ema, optimizer.flat_ema)
    assert_equal(made["ema"], ema)


@pytest.mark.parametrize("clip", [False, True])
def test_a_scaler_hands_over_its_scale_and_finding(clip: bool) -> None:
    ours, theirs = generator(), generator()
    flat, usual = FlatOptimizer(ours.parameters(), CONFIGS[0]), torch_optimizer(theirs.parameters(), CONFIGS[0])
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in range(2)]
    watched = Watched(theirs)
    for number in range(4):
        seeds = torch.Generator().manual_seed(number)
        x, y = (torch.rand(2, 3, 16, 16, generator=seeds) for _ in range(2))
        if number == 2:
            y[0, 0, 0, 0] = torch.inf
        before = flat.flat.clone()
        usual.zero_grad()
        scalers[1].scale((theirs(x) - y).square().mean()).backward()
        scalers[0].scale(torch.zeros(()))  # which sets it up
        flat.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad += b.grad
        for network, optimizer, scaler in ((ours, flat, scalers[0]), (theirs, usual, scalers[1])):
            if clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), 0.01)
            scaler.step(optimizer)
            scaler.update()
        assert torch.equal(flat.flat, before) == (number == 2)
        watched.updated()
        watched.assert_same(ours)
    assert scalers[0].get_scale() == scalers[1].get_scale() == 512
    assert flat.state_dict()["state"][0]["step"] == usual.state_dict()["state"][0]["step"] == 3


def test_autograd_sees_the_step() -> None:
    network = nn.Linear(3, 3, bias=False)
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0])
    optimizer.zero_grad()
    loss = network(network(torch.randn(2, 3))).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_closure_and_hooks() -> None:
    network = nn.Linear(3, 1)
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0])
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = network(torch.ones(1, 3)).sum()
        loss.backward()
        return loss

    assert isinstance(optimizer.step(closure), Tensor)
    assert seen == ["before", "after"] and optimizer.state_dict()["state"][0]["step"] == 1


def test_refusals() -> None:
    network = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="parameters must be some tensors, got 0"):
        FlatOptimizer([], CONFIGS[0])
    with pytest.raises(ValueError, match=r"number 0 is torch\.float64"):
        FlatOptimizer(nn.Linear(2, 2).double().parameters(), CONFIGS[0])
    with pytest.raises(ValueError, match="ema must be 2 tensors, got 1"):
        FlatOptimizer(network.parameters(), CONFIGS[0], ema=[network.weight])
    optimizer = FlatOptimizer(network.parameters(), CONFIGS[0])
    with pytest.raises(RuntimeError, match="takes no further parameters"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(ValueError, match="built without ema"):
        optimizer.step(ema_decay=0.9)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(ValueError, match=r"weight_decay=0\.1 is no part"):
        optimizer.step()


def test_a_parameter_that_is_frozen_stays_and_one_without_elements_is_passed_over() -> None:
    network = nn.Linear(3, 2)
    optimizer = FlatOptimizer([nn.Parameter(torch.empty(0, 3)), *network.parameters()], CONFIGS[0])
    for frozen in (False, True, True):
        network.weight.requires_grad_(not frozen)
        before = network.weight.detach().clone()
        optimizer.zero_grad()
        network(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        assert torch.equal(before, network.weight) == frozen
