"""One training step: its formulas, and which network each part of it touches (SPEC S1 to S4, S8)."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding
from helpers.networks import sums
from helpers.observed_step import DECIBELS, Make, close, equal, grads, luminance_difference, near, weights
from helpers.quality_bounds import ssim_error
from helpers.tiny_runs import batch, differences, floats, picture, save_picture, task_of
from torch import Tensor, nn

from fastgan import ops
from fastgan.losses import style_grams
from fastgan.models import STYLE_LAYERS
from fastgan.training import Trainer
from fastgan.training.setup import open_styles
from fastgan.training.state import check_ownership

EVERY_LOSS = {
    "loss.tv": 0.3,
    "loss.psnr": 0.2,
    "loss.ssim": 0.7,
    "loss.content": 0.5,
    "loss.luminance": 0.4,
    "loss.adversarial": 0.11,
    "loss.style_window_weight": 0.0,
}


class Watched:
    """A step taken under observation: what D saw, and both networks at each optimizer's step."""

    def __init__(self, trainer: Trainer, images: Tensor) -> None:
        state = trainer.state
        self.g_before, self.d_before = copy.deepcopy(state.generator), copy.deepcopy(state.discriminator)
        self.g_grads_before = grads(state.generator)
        self.order: list[str] = []
        self.seen: list[Tensor] = []
        self.at: dict[str, dict[str, list[Tensor]]] = {}
        hook = state.discriminator.register_forward_pre_hook(self._saw)
        hooks = [state.generator.register_forward_pre_hook(lambda *_: self.order.append("G"))]
        for name, optimizer in (("step D", state.optimizer_d), ("step G", state.optimizer_g)):
            hooks.append(
                optimizer.register_step_pre_hook(lambda *_, name=name: self._snapshot(trainer, f"before {name}"))
            )
            hooks.append(optimizer.register_step_post_hook(lambda *_, name=name: self._snapshot(trainer, name)))
        self.metrics = trainer.train_step(images)
        for each in (hook, *hooks):
            each.remove()

    def _saw(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self.order.append("D")
        self.seen.append(inputs[0].detach().clone())

    def _snapshot(self, trainer: Trainer, when: str) -> None:
        if not when.startswith("before"):
            self.order.append(when)
        state = trainer.state
        self.at[when] = {
            "G": weights(state.generator),
            "D": weights(state.discriminator),
            "grad G": grads(state.generator),
            "grad D": grads(state.discriminator),
        }


@pytest.fixture
def warm(tiny: Make) -> Trainer:
    """A trainer some steps into its run, all losses on."""
    trainer = Trainer(tiny({**EVERY_LOSS, "train.steps": 40}))
    for number in range(3):
        trainer.train_step(batch(number))
    return trainer


def test_d_first_then_g(warm: Trainer) -> None:
    seen = Watched(warm, batch(7))
    assert seen.order == ["G", "D", "D", "step D", "D", "step G"]
    real, fake, again = seen.seen
    assert torch.equal(fake, again) and not torch.equal(real, fake)
    assert_close(fake, seen.g_before(floats(7)), steps=2 * sums(seen.g_before))


def test_each_optimizer_leaves_the_other_network_alone(warm: Trainer) -> None:
    seen = Watched(warm, batch(7))
    at, state = seen.at, warm.state
    assert equal(at["step D"]["G"], weights(seen.g_before)), "D's step changed G"
    assert not equal(at["step D"]["D"], weights(seen.d_before)), "D's step did not change D"
    assert equal(weights(state.discriminator), at["step D"]["D"]), "G's step changed D"
    assert equal(grads(state.discriminator), at["before step D"]["grad D"]), "G's backward reached D's gradients"
    assert equal(at["before step D"]["grad G"], seen.g_grads_before), "D's backward reached G's gradients"
    assert not equal(weights(state.generator), weights(seen.g_before)), "G's step did not change G"
    assert all(p.requires_grad for p in state.discriminator.parameters())
    assert not any(p.requires_grad for p in state.ema.parameters())


def test_ds_gradient_is_of_its_own_loss(warm: Trainer) -> None:
    """L_D = -E[log D(x)] - E[log(1 - D(G(z)))], of real style crops and of the fakes as they are."""
    seen = Watched(warm, batch(7))
    real, fake, _ = seen.seen
    loss = F.softplus(-seen.d_before(real)).mean() + F.softplus(seen.d_before(fake)).mean()
    assert seen.metrics["loss/d"] == near(loss, seen.d_before)
    expected = torch.autograd.grad(loss, list(seen.d_before.parameters()))
    close(seen.at["before step D"]["grad D"], expected, seen.d_before)


def test_gs_gradient_is_of_its_own_loss(smooth_encoder: None, warm: Trainer) -> None:
    """Against the sum written out here, with the D that has just been updated."""
    seen = Watched(warm, batch(7))
    config, task = warm.config, task_of(warm)
    content = floats(7)
    updated = copy.deepcopy(warm.state.discriminator)
    result = seen.g_before(content)
    unit, unit_content = (result + 1) / 2, (content + 1) / 2
    features, expected = task.encoder(result), task.encoder(content)
    style = torch.zeros(())
    for layer in STYLE_LAYERS:
        f = features[layer].flatten(2)
        gram = f @ f.transpose(1, 2) / f[0].numel()
        target = task.styles.mean_targets[layer]
        style = style + ((gram - target).square().sum((1, 2)) / target.square().sum()).mean()
    layer = config.loss.content_layer
    terms = {
        "adversarial": F.softplus(-updated(result)).mean(),
        "style": style / len(STYLE_LAYERS),
        "content": (
            (features[layer] - expected[layer]).square().mean((1, 2, 3)) / expected[layer].square().mean((1, 2, 3))
        ).mean(),
        "psnr": (unit - unit_content).square().mean((1, 2, 3)).log10().mul(10).mean() / 20,
        "tv": (result.diff(dim=2)).square().mean() + (result.diff(dim=3)).square().mean(),
        "luminance": luminance_difference(result, content).mean(),
        "ssim": 1 - ssim(unit, unit_content),
    }
    loss = sum(getattr(config.loss, name) * term for name, term in terms.items())
    assert isinstance(loss, Tensor)
    passed = (seen.g_before, task.encoder, updated)
    for name, metric in {"adversarial": "g_adversarial", "style": "style", "content": "content"}.items():
        assert seen.metrics[f"loss/{metric}"] == near(terms[name], *passed)
    assert seen.metrics["loss/tv"] == near(terms["tv"], *passed, scale=0.0)
    assert seen.metrics["loss/luminance"] == near(terms["luminance"], seen.g_before)
    assert seen.metrics["loss/g"] == near(loss, *passed)
    error = 2 * ssim_error(unit, unit_content) + rounding(1, 2 * sums(seen.g_before))
    assert seen.metrics["train/ssim"] == pytest.approx(1 - terms["ssim"].item(), abs=error)
    assert seen.metrics["train/psnr"] == near(-20 * terms["psnr"], seen.g_before, scale=DECIBELS)
    wanted_grads = torch.autograd.grad(loss, list(seen.g_before.parameters()))
    close(seen.at["before step G"]["grad G"], wanted_grads, *passed)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Wang et al. 2004 on the valid area, as a differentiable oracle."""
    place = torch.arange(11.0) - 5
    row = torch.exp(-place.square() / (2 * 1.5**2))
    row = row / row.sum()
    window = torch.outer(row, row).expand(3, 1, 11, 11)

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(z, window, groups=3)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def test_without_an_adversarial_part_d_is_not_trained(tiny: Make) -> None:
    """And there is no loss of it, nor is the rest of G's touched by that."""
    trainer = Trainer(tiny({**EVERY_LOSS, "loss.adversarial": 0.0}))
    before = copy.deepcopy(trainer.state.discriminator)
    seen = Watched(trainer, batch(0))
    assert seen.order == ["G", "step G"]
    assert differences(before.state_dict(), trainer.state.discriminator.state_dict()) == []
    assert not any(each["step"] for each in trainer.state.optimizer_d.state_dict()["state"].values())
    assert not grads(trainer.state.discriminator)
    m, w = seen.metrics, trainer.config.loss
    assert {name for name, value in m.items() if math.isnan(value)} == {"loss/d", "loss/g_adversarial", "loss/total"}
    structure = w.content * m["loss/content"] + w.ssim * (1 - m["train/ssim"]) + w.psnr * -m["train/psnr"] / 20
    structure += w.luminance * m["loss/luminance"]
    want = w.style * m["loss/style"] + w.tv * m["loss/tv"] + structure
    assert m["loss/g"] == approx(want, steps=14, scale=abs(structure))  # seven terms, each a product and a sum
    assert not equal(weights(trainer.state.generator), weights(seen.g_before))


def test_windows_are_in_the_loss_and_not_in_the_measure(tiny: Make) -> None:
    """The first step of three trainings that differ in the windows' share alone, so from the same result."""
    seen = {
        weight: Trainer(
            tiny({"loss.style": 10, "loss.style_windows": 4, "loss.style_window_weight": weight})
        ).train_step(batch(0))
        for weight in (0.0, 0.25, 1.0)
    }
    whole, mixed, windows = (seen[weight] for weight in (0.0, 0.25, 1.0))
    assert whole["loss/style"] == whole["train/style_distance"]
    assert windows["loss/style"] > 1.01 * whole["loss/style"]
    # Gram matrices of 32 x 32 pixels, and what is made of them.
    near = {"terms": 32 * 32, "steps": 8}
    for metrics in (mixed, windows):
        assert metrics["train/style_distance"] == approx(whole["train/style_distance"], **near)
    want = 0.75 * whole["loss/style"] + 0.25 * windows["loss/style"]
    assert mixed["loss/style"] == approx(want, **near)
    more = 10 * (mixed["loss/style"] - whole["loss/style"])
    assert mixed["loss/g"] - whole["loss/g"] == approx(more, **near, scale=whole["loss/g"])


@pytest.mark.parametrize("lambda_d", [0.0, 1.0, 0.3])
def test_total_is_the_articles(tiny: Make, lambda_d: float) -> None:
    """L = L_G + lambda L_D with L_G the adversarial term alone (S3), whatever that term weighs in training."""
    metrics = Trainer(tiny({"loss.lambda_d": lambda_d, "loss.adversarial": 0.07})).train_step(batch(0))
    want = metrics["loss/g_adversarial"] + lambda_d * metrics["loss/d"]
    assert metrics["loss/total"] == approx(want, steps=2)


def test_lambda_does_not_change_training(tiny: Make) -> None:
    states = []
    for lambda_d in (0.0, 5.0):
        trainer = Trainer(tiny({"loss.lambda_d": lambda_d}))
        for number in range(2):
            trainer.train_step(batch(number))
        states.append(trainer.state.state_dict())
    assert differences(*states) == []


def test_temperature_divides_the_logits(tiny: Make) -> None:
    trainer = Trainer(tiny({"loss.temperature": 2.5}))
    seen = Watched(trainer, batch(0))
    real, fake, _ = seen.seen
    want = F.softplus(-seen.d_before(real) / 2.5).mean() + F.softplus(seen.d_before(fake) / 2.5).mean()
    assert seen.metrics["loss/d"] == near(want, seen.d_before)


def test_the_weight_multiplies_the_structure_terms_alone(tiny: Make) -> None:
    trainer = Trainer(tiny({**EVERY_LOSS, "quality.target_ssim": 0.5}))
    assert trainer.state.controller is not None
    trainer.state.controller.log_weight = 1.25
    m, w = trainer.train_step(batch(0)), trainer.config.loss
    assert m["controller/structure_weight"] == pytest.approx(
        math.exp(1.25), rel=1e-12
    )  # what this step used, not what the next one will
    structure = w.content * m["loss/content"] + w.ssim * (1 - m["train/ssim"]) + w.psnr * -m["train/psnr"] / 20
    structure += w.luminance * m["loss/luminance"]
    rest = w.adversarial * m["loss/g_adversarial"] + w.style * m["loss/style"] + w.tv * m["loss/tv"]
    scale = abs(m["controller/structure_weight"] * structure)
    assert m["loss/g"] == approx(
        rest + m["controller/structure_weight"] * structure, steps=16, scale=scale
    )  # eight products and sums


def test_ema(tiny: Make) -> None:
    """ema <- d ema + (1 - d) G, with d at most the configured decay and shorter in the first steps."""
    trainer = Trainer(tiny({"optim.ema": 0.5, "train.steps": 100}))
    assert equal(weights(trainer.state.ema), weights(trainer.state.generator))
    for step in range(12):
        before = weights(trainer.state.ema)
        trainer.train_step(batch(step))
        decay = min(0.5, (1 + step) / (10 + step))
        after, live = weights(trainer.state.ema), weights(trainer.state.generator)
        for old, new, now in zip(before, after, live, strict=True):
            assert_close(new, decay * old + (1 - decay) * now, steps=8)  # two products, a sum, and a rounded factor
    assert decay == 0.5 and not equal(after, live)


def test_learning_rates(tiny: Make) -> None:
    """Linear warm-up, cosine to the final share, each network at its own rate (S4)."""
    fields = {
        "train.steps": 40,
        "optim.warmup": 0.2,
        "optim.min_lr_ratio": 0.1,
        "optim.generator.lr": 0.01,
        "optim.discriminator.lr": 0.002,
    }
    trainer = Trainer(tiny(fields))
    g, d = [], []
    for number in range(40):
        metrics = trainer.train_step(batch(number % 3, 1))
        g.append(metrics["lr/g"])
        assert trainer.state.optimizer_g.param_groups[0]["lr"] == g[-1]
        d.append(trainer.state.optimizer_d.param_groups[0]["lr"])
    top = g.index(max(g))
    assert d == pytest.approx([rate / 5 for rate in g])
    assert g[: top + 1] == sorted(g[: top + 1]) and g[top:] == sorted(g[top:], reverse=True)
    assert 6 <= top <= 9 and 0 < g[0] < 0.002 and 0.008 < max(g) <= 0.01
    # From 1 to a share of 0.1 by half a cosine; a step is taken at its middle.
    for step in range(top + 1, 40):
        assert g[step] == pytest.approx(0.01 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step + 0.5) / 40))))


def test_uint8_and_float_batches_are_the_same(tiny: Make) -> None:
    one, other = Trainer(tiny()), Trainer(tiny())
    for number in range(2):
        one.train_step(batch(number))
        other.train_step(ops.from_pixels(batch(number)))
    assert differences(one.state.state_dict(), other.state.state_dict()) == []


def test_batches_need_not_be_square_nor_of_one_size(tiny: Make) -> None:
    trainer = Trainer(tiny())
    for shape in ((1, 32, 24, 3), (3, 27, 32, 3), (2, 33, 38, 3)):
        metrics = trainer.train_step(torch.randint(0, 256, shape, dtype=torch.uint8))
        infinite = {name for name, value in metrics.items() if not math.isfinite(value)}
        assert infinite == ({"train/diversity"} if shape[0] == 1 else set())  # one image does not differ from another
    assert trainer.state.global_step == 3


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(2, 32, 32, 3, dtype=torch.int64),
        torch.zeros(32, 32, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(2, 32, 32, 1, dtype=torch.uint8),
        torch.zeros(2, 32, 32, 3),
        torch.zeros(3, 32, 32),
        torch.zeros(2, 1, 32, 32),
        torch.zeros(0, 3, 32, 32),
        torch.zeros(1, 3, 8, 32),
        torch.zeros(1, 3, 32, 500),
        torch.zeros(2, 3, 32, 32, dtype=torch.bool),
    ],
    ids=lambda value: f"{value.dtype}-{tuple(value.shape)}".removeprefix("torch."),
)
def test_bad_batches(tiny: Make, bad: Tensor) -> None:
    """A clear ValueError or TypeError, and the state is as it was."""
    trainer = Trainer(tiny())
    trainer.train_step(batch(0))
    before = trainer.state.snapshot()
    with pytest.raises((TypeError, ValueError), match="batch"):
        trainer.train_step(bad)
    assert differences(before, trainer.state.state_dict()) == []


def test_d_learns_from_crops_all_over_the_style(tiny: Make) -> None:
    """Each real image is a piece of the style picture, from anywhere in it, mirrored half of the time."""
    trainer = Trainer(tiny())
    style = task_of(trainer).styles.images[0].astype(int)
    places: list[tuple[int, int, bool]] = []
    for number in range(8):
        real = Watched(trainer, batch(number)).seen[0]
        for crop in ((real + 1) * 127.5).round().int().permute(0, 2, 3, 1).numpy():
            found = [
                (top, left, mirrored)
                for top in range(style.shape[0] - 31)
                for left in range(style.shape[1] - 31)
                for mirrored in (False, True)
                if (style[top : top + 32, left : left + 32] == (crop[:, ::-1] if mirrored else crop)).all()
            ]
            assert len(found) == 1
            places += found
    assert len(places) == 16 and {mirrored for *_, mirrored in places} == {False, True}
    assert len({top for top, *_ in places}) > 4 and len({left for _, left, _ in places}) > 3


def test_styles_are_reduced_to_the_side_that_measures_use(tmp_path: Path) -> None:
    """A short side of 384 whatever size D's crops have; smaller ones stay as they are."""
    for number, size in enumerate(((500, 400), (384, 700), (60, 50))):
        save_picture(picture(*size, number), tmp_path / f"{number}.png")
    (tmp_path / "a.png").write_text("not a picture")
    broken: list[str] = []
    styles = open_styles(str(tmp_path), lambda path, reason: broken.append(path.name))
    assert [image.shape[:2] for image in styles] == [(480, 384), (384, 700), (60, 50)] and broken == ["a.png"]


def test_style_grams_are_the_targets(tiny: Make) -> None:
    """The Grams come from the whole style picture, not from D's crops."""
    trainer = Trainer(tiny())
    style = torch.from_numpy(task_of(trainer).styles.images[0]).permute(2, 0, 1)[None].float() / 127.5 - 1
    want = style_grams(task_of(trainer).encoder, [style], STYLE_LAYERS)
    for layer, gram in want.items():
        encoder = task_of(trainer).encoder
        assert_close(
            task_of(trainer).styles.mean_targets[layer], gram, steps=2 * (sums(encoder) + 44)
        )  # 40 x 44 pixels


def test_optimizers_own_exactly_their_network(tiny: Make) -> None:
    state = Trainer(tiny()).state
    check_ownership(state.optimizer_g, state.generator, "generator")
    with pytest.raises(RuntimeError, match=r"generator's optimizer updates 0 of its \d+ parameters and \d+ of others"):
        check_ownership(state.optimizer_d, state.generator, "generator")
    short = torch.optim.Adam(list(state.generator.parameters())[1:])
    with pytest.raises(RuntimeError, match="and 0 of others"):
        check_ownership(short, state.generator, "generator")
    both = torch.optim.Adam([*state.generator.parameters(), *state.discriminator.parameters()])
    with pytest.raises(RuntimeError, match="of others"):
        check_ownership(both, state.generator, "generator")
