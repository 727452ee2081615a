"""Each stability tool by what it does to a run (SPEC S13 to S19): written out beside the step that was taken."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close, rounding
from helpers.networks import sums
from helpers.observed_step import DECIBELS, NOISE, PLAIN, SIDES, Make, Seen, close, equal, near, weights
from helpers.optim_updates import drift
from helpers.quality_bounds import ssim_error
from helpers.tiny_runs import Recorder, batch, differences, floats, untimed
from torch import Tensor, nn

from fastgan import ops
from fastgan.data import augment
from fastgan.training import Callback, Trainer
from fastgan.training.collapse import CollapseAlarm
from fastgan.training.setup import build_networks

# --- bounds on weights and gradients


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["fast", "dcgan"])
def test_clipped_weights(tiny: Make, side: str, name: str) -> None:
    """The parameters are what the optimizer makes without the bound, cut at it; the other network's are whole."""
    fields = NOISE if name == "dcgan" else {}
    whole, bounded = Trainer(tiny(fields)), Trainer(tiny({**fields, f"optim.{side}.clip_weights": 0.01}))
    for trainer in (whole, bounded):
        trainer.train_step(batch(0))
    made = weights(getattr(whole.state, side))
    cut = [p.clamp(-0.01, 0.01) for p in made]
    assert not equal(cut, made) and equal(weights(getattr(bounded.state, side)), cut)
    bounded.train_step(batch(1))
    for each in SIDES:
        largest = max(float(p.abs().max()) for p in weights(getattr(bounded.state, each)))
        assert (largest <= torch.tensor(0.01).item()) == (each == side)


@pytest.mark.parametrize("side", SIDES)
def test_clipped_gradients(tiny: Make, side: str) -> None:
    """No longer than the bound and in the same direction; a bound that is not reached changes nothing."""
    whole = Seen(Trainer(tiny()), batch(0))
    norm = torch.cat([g.flatten() for g in whole.grads[side]]).norm().item()
    seen = Seen(Trainer(tiny({f"optim.{side}.clip_grad": norm / 3})), batch(0))
    for have, want in zip(seen.grads[side], whole.grads[side], strict=True):
        # Of the same gradient, by a norm that adds them all; torch adds 1e-6 to the norm.
        count = sum(g.numel() for g in whole.grads[side])
        scale = want.abs().max().item() / 3
        bound = rounding(count, 2) * scale + 1e-6 / norm * scale
        assert (have - want / 3).abs().max().item() <= bound
    loose = Trainer(tiny({f"optim.{side}.clip_grad": norm * 3}))
    assert equal(Seen(loose, batch(0)).grads[side], whole.grads[side])
    other = SIDES[1 - SIDES.index(side)]
    if side == "generator":  # D's clipped step changes what G is told
        assert equal(seen.grads[other], whole.grads[other])


# --- the losses


def test_temperature(tiny: Make) -> None:
    """-E log s(l / T) - E log(1 - s(l / T)) of D, -E log s(l / T) of G."""
    seen = Seen(Trainer(tiny({"loss.temperature": 2.5})), batch(0))
    real, fake, again = (torch.sigmoid(logits / 2.5) for logits in seen.logits())
    assert seen.metrics["loss/d"] == near(-(real.log().mean() + (1 - fake).log().mean()), seen.d)
    assert seen.metrics["loss/g_adversarial"] == near(-again.log().mean(), seen.d)
    assert "schedule/temperature" not in seen.metrics


def test_annealed_temperature(tiny: Make) -> None:
    """By equal factors in equal times, from the one to the other."""
    trainer = Trainer(tiny({**PLAIN, "loss.temperature": 4.0, "loss.temperature_end": 0.25, "train.steps": 8}))
    for number in range(8):
        seen = Seen(trainer, batch(number))
        t = 4.0 * 2 ** (-4 * (number + 0.5) / 8)
        assert seen.metrics["schedule/temperature"] == pytest.approx(t)
        real, fake, again = (torch.sigmoid(logits / t) for logits in seen.logits())
        assert seen.metrics["loss/d"] == near(-(real.log().mean() + (1 - fake).log().mean()), seen.d)
        assert seen.metrics["loss/g_adversarial"] == near(-again.log().mean(), seen.d)


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_labels(tiny: Make, kind: str) -> None:
    """D is held to 0.9 and 0.2; G to a real image, whole."""
    fields = {"loss.kind": kind, "loss.real_label": 0.9, "loss.fake_label": 0.2}
    seen = Seen(Trainer(tiny({**PLAIN, **fields})), batch(0))
    real, fake, again = seen.logits()
    if kind == "bce":
        d = F.binary_cross_entropy_with_logits(real, torch.full_like(real, 0.9))
        d = d + F.binary_cross_entropy_with_logits(fake, torch.full_like(fake, 0.2))
        g = F.binary_cross_entropy_with_logits(again, torch.ones_like(again))
    else:
        d, g = (real - 0.9).square().mean() + (fake - 0.2).square().mean(), (again - 1).square().mean()
    assert seen.metrics["loss/d"] == near(d, seen.d)
    assert seen.metrics["loss/g_adversarial"] == near(g, seen.d)
    close(seen.grads["discriminator"], torch.autograd.grad(d, list(seen.d.parameters())), seen.d)


@pytest.mark.parametrize("kind", ["hinge", "lsgan", "wgan"])
def test_kinds(tiny: Make, kind: str) -> None:
    bound = {"optim.discriminator.clip_weights": 0.05} if kind == "wgan" else {}
    trainer = Trainer(tiny({**PLAIN, **bound, "loss.kind": kind}))
    trainer.train_step(batch(9))
    seen = Seen(trainer, batch(0))
    real, fake, again = seen.logits()
    d, g = {
        "hinge": (F.relu(1 - real).mean() + F.relu(1 + fake).mean(), -again.mean()),
        "lsgan": ((real - 1).square().mean() + fake.square().mean(), (again - 1).square().mean()),
        "wgan": (fake.mean() - real.mean(), -again.mean()),
    }[kind]
    # Logits themselves, of both signs, sum to less than their size.
    fooled, judged = again.abs().mean().item(), torch.cat([real, fake]).abs().mean().item()
    assert seen.metrics["loss/d"] == near(d, seen.d, scale=judged if kind == "wgan" else None)
    assert seen.metrics["loss/g_adversarial"] == near(g, seen.d, scale=None if kind == "lsgan" else fooled)
    close(seen.grads["discriminator"], torch.autograd.grad(d, list(seen.d.parameters())), seen.d)


def test_without_an_adversarial_part_d_stays_as_it_is(tiny: Make) -> None:
    trainer = Trainer(tiny({"loss.adversarial": 0, "optim.discriminator.clip_weights": 1e-4}))
    before = copy.deepcopy(trainer.state.discriminator.state_dict())
    g = weights(trainer.state.generator)
    for number in range(3):
        metrics = trainer.train_step(batch(number))
        assert metrics["loss/d"] != metrics["loss/d"] and "loss/r1" not in metrics
    assert differences(trainer.state.discriminator.state_dict(), before) == []
    assert not any(each["step"] for each in trainer.state.optimizer_d.state_dict()["state"].values())
    assert not equal(g, weights(trainer.state.generator))


# --- spectral norm


def sigmas(d: nn.Module) -> list[float]:
    d.eval()  # reading the weight does not iterate then
    layers = [module for module in d.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    values = [torch.linalg.matrix_norm(layer.weight.detach().flatten(1).float(), 2).item() for layer in layers]
    d.train()
    return values


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fields", [{}, PLAIN], ids=["patch", "dcgan"])
def test_spectral_norm(tiny: Make, fields: dict[str, Any], precision: str) -> None:
    fields = {**fields, "train.precision": precision, "train.steps": 20, "optim.discriminator.lr": 3e-3}
    trainer = Trainer(tiny({**fields, "model.discriminator.spectral_norm": True}))
    free = Trainer(tiny(fields))
    for number in range(15):
        trainer.train_step(batch(number % 3))
        free.train_step(batch(number % 3))
    # The estimate lags behind weights that move: by a quarter of what free weights are off by, at most.
    off = 0.2
    assert sigmas(trainer.state.discriminator) == pytest.approx(
        [1] * len(sigmas(free.state.discriminator)), abs=off / 4
    )
    assert max(abs(value - 1) for value in sigmas(free.state.discriminator)) > off


# --- optimizers, rates, average


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["adam", "rmsprop", "sgd"])
def test_optimizers(tiny: Make, side: str, name: str) -> None:
    """Three updates as the textbooks have them, at this network's own rate; the other network has its own."""
    other = SIDES[1 - SIDES.index(side)]
    own = {
        f"optim.{side}.{key}": value for key, value in {"name": name, "lr": 4e-3, "beta1": 0.6, "beta2": 0.9}.items()
    }
    trainer = Trainer(tiny({**own, f"optim.{other}.lr": 1e-3, "optim.warmup": 0, "train.steps": 30}))
    first: list[Tensor] = [torch.zeros_like(p) for p in weights(getattr(trainer.state, side))]
    second = copy.deepcopy(first)
    for step in range(1, 4):
        p = weights(getattr(trainer.state, side))
        seen = Seen(trainer, batch(step))
        rates = {each: seen.metrics[f"lr/{each[0]}"] for each in SIDES}
        assert rates[side] == pytest.approx(4 * rates[other]) and rates[side] <= 4e-3
        for i, g in enumerate(seen.grads[side]):
            if name == "adam":
                first[i] = 0.6 * first[i] + 0.4 * g
                second[i] = 0.9 * second[i] + 0.1 * g * g
                change = first[i] / (1 - 0.6**step) / ((second[i] / (1 - 0.9**step)).sqrt() + 1e-8)
            elif name == "rmsprop":
                second[i] = 0.9 * second[i] + 0.1 * g * g
                change = first[i] = 0.6 * first[i] + g / (second[i].sqrt() + 1e-8)
            else:
                change = first[i] = 0.6 * first[i] + g
            want = p[i] - rates[side] * change
            bound = drift(p[i].abs().max(), rates[side] * change.abs().max(), 1)
            assert (seen.stepped[side][i] - want).abs().max() <= bound


def test_average(tiny: Make) -> None:
    """Parameters by the recursion, shorter at first; running statistics as the generator has them."""
    for ema, at in ((0.0, 0), (0.95, 0), (0.95, 500)):
        trainer = Trainer(tiny({**NOISE, "optim.ema": ema, "train.steps": 1000}))
        trainer.state.global_step = at
        for number in range(3):
            before = weights(trainer.state.ema)
            trainer.train_step(batch(number))
            live, average = trainer.state.generator, trainer.state.ema
            decay = min(ema, (1 + at + number) / (10 + at + number))
            want = [decay * old + (1 - decay) * new for old, new in zip(before, weights(live), strict=True)]
            for have, each in zip(weights(average), want, strict=True):
                assert_close(have, each, steps=8)  # two products, a sum, and a rounded factor
            assert equal(list(average.buffers()), list(live.buffers())) and list(live.buffers())
            assert equal(weights(average), weights(live)) == (ema == 0)


# --- augmentation


def test_augmentation(tiny: Make) -> None:
    """D learns from changed images, G through the change; what is logged is of the images as they are."""
    kinds = ["color", "translation", "cutout"]
    trainer = Trainer(tiny({**PLAIN, "loss.augment": kinds}))
    trainer.train_step(batch(5))
    seen = Seen(trainer, batch(0))
    z, real = torch.randn(2, 6, generator=seen.rng), floats(0)
    fake = seen.g(z)
    shown = [augment(images, kinds, seen.rng) for images in (real, fake, fake)]
    for have, want in zip(seen.inputs, shown, strict=True):
        # "color" adds a picture's mean and scales what differs from it, by up to 2.
        assert_close(have, want, steps=2 * (2 * sums(seen.g) + 56))  # 3 x 32 x 32 pixels of a picture
    assert torch.equal(seen.rng.get_state(), trainer.state.rng.get_state())
    assert not torch.allclose(shown[1], shown[2]) and not torch.allclose(shown[0], real)
    loss = F.softplus(-seen.d_updated(shown[2])).mean()
    close(seen.grads["generator"], torch.autograd.grad(loss, list(seen.g.parameters())), seen.g, seen.d_updated)
    pair = (fake.detach() + 1) / 2, (real + 1) / 2
    error = 2 * ssim_error(*pair) + rounding(1, 2 * sums(seen.g))
    assert seen.metrics["train/ssim"] == pytest.approx(ops.ssim(*pair).item(), abs=error)
    assert seen.metrics["train/psnr"] == near(ops.psnr(*pair), seen.g, scale=DECIBELS)


# --- on to the same bits


TOOLS: dict[str, dict[str, Any]] = {
    "annealing": {"loss.temperature": 3.0, "loss.temperature_end": 0.5},
    "spectral norm": {"model.discriminator.spectral_norm": True},
    "augmentation": {"loss.augment": ["color", "cutout"]},
    "lazy R1": {
        "loss.r1": 3.0,
        "loss.r1_interval": 2,
        "optim.generator.name": "sgd",
        "optim.discriminator.name": "rmsprop",
    },
}


def repeats(one: Trainer, other: Trainer, number: int) -> bool:
    values = [untimed([trainer.train_step(batch(number))])[0] for trainer in (one, other)]
    return str(values[0]) == str(values[1])  # not a number is none of another's either, but prints as one


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("fields", [{}, NOISE], ids=["fast", "dcgan"])
def test_resumed(tiny: Make, tmp_path: Path, name: str, fields: dict[str, Any]) -> None:
    if fields and "loss.r1" in TOOLS[name]:
        fields = PLAIN  # R1 is not for batch norm
    config = tiny({**fields, **TOOLS[name], "train.steps": 6})
    whole, part = Trainer(config), Trainer(config, out=tmp_path / "run")
    for number in range(3):
        assert repeats(whole, part, number)
    part.save()
    resumed = Trainer(config, out=tmp_path / "run", resume=True)
    assert resumed.state.global_step == 3
    for number in range(3, 6):
        assert repeats(whole, resumed, number)
    # Only a run folder keeps what the run was made from.
    assert differences(*({**trainer.state.state_dict(), "inputs": None} for trainer in (whole, resumed))) == []


# --- sizes and the alarm


@pytest.mark.parametrize("name", ["fast", "fusion", "article", "dcgan"])
def test_sizes_change_the_networks(tiny: Make, name: str) -> None:
    style = {"data.style": None} if name == "dcgan" else {}

    def count(**sizes: int) -> list[int]:
        fields: dict[str, Any] = {f"model.{key.replace('_', '.')}": value for key, value in sizes.items()}
        if name == "article":
            fields["model.discriminator.name"] = "article"
        networks = build_networks(tiny({"model.name": name, **style, **fields}))
        return [sum(p.numel() for p in network.parameters()) for network in networks]

    g, d = count()
    for size in ("width", "depth"):
        more = {"width": 8, "depth": 3}[size]
        bigger, same = count(**{f"generator_{size}": more})
        assert bigger > g and same == d
        same, bigger = count(**{f"discriminator_{size}": more})
        assert bigger > d and same == g


class Deaf(Callback):
    """Takes the last layer's weights away: one image for every input."""

    def on_start(self, trainer: Trainer) -> None:
        nn.init.zeros_(trainer.state.generator.to_rgb.weight)

    def on_step(self, trainer: Trainer, event: Any) -> None:
        self.on_start(trainer)


@pytest.mark.parametrize("fields", [{}, NOISE], ids=["fast", "dcgan"])
def test_alarm(
    tiny: Make, tmp_path: Path, no_plots: None, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    """Told once, to those who watch and in the report; neither when nothing is wrong, nor when it is turned off."""
    monkeypatch.setattr("fastgan.training.setup.CollapseAlarm", lambda **_: CollapseAlarm(patience=4, warmup=2))
    cases = [("collapsed", [Deaf()], True), ("off", [Deaf()], False)] + ([("well", [], True)] if not fields else [])
    for case, callbacks, alarm in cases:
        watch = Recorder()
        config = tiny({**fields, "train.steps": 10, "eval.every": 5, "quality.collapse_alarm": alarm})
        data = (batch(number) for number in range(10))
        Trainer(config, out=tmp_path / case, data=data, callbacks=[*callbacks, watch]).fit()
        told = [event.text for event in watch.of("on_message")]
        kept = json.loads((tmp_path / case / "report.json").read_text())["alarms"]
        if case == "collapsed":
            assert [each["step"] for each in kept] == [6] and len(told) == 1
            assert "nearly the same image" in told[0] and "\n" not in told[0] and kept[0]["text"] in told[0]
        else:
            assert told == [] and kept == []


@pytest.mark.parametrize(
    ("fields", "vanishes"),
    [({}, True), ({"loss.kind": "hinge"}, True), ({"loss.real_label": 0.9}, False), ({"loss.kind": "wgan"}, False)],
)
def test_the_alarm_minds_ds_loss_where_it_can_vanish(tiny: Make, fields: dict[str, Any], vanishes: bool) -> None:
    trainer = Trainer(tiny({**PLAIN, "loss.r1": 1.0, **fields, "train.steps": 2}), data=iter([batch(0), batch(1)]))
    assert trainer.state.alarm is not None
    given: list[float | None] = []
    trainer.state.alarm.update = lambda spread, loss_d: given.append(loss_d)  # type: ignore[method-assign]
    watch = Recorder()
    trainer.callbacks = [watch]
    trainer.fit()
    assert given == [event.metrics["loss/d"] if vanishes else None for event in watch.of("on_step")] and len(given) == 2
