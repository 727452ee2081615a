"""The effect of each stability tool on a GAN's training (SPEC S13 to S19): one tool a run, one seed, common plots.

    python benchmarks/stability.py run  --out benchmarks/results/MACHINE [--content DIR]
    python benchmarks/stability.py plot --out benchmarks/results/MACHINE --picture docs/images/stability.png

The task is ``--model dcgan`` at 32 px, small enough to be run many times, where adversarial training stands alone.
Each tool is run twice: at rates that suit the networks, and with a discriminator that is too strong (ten times its
rate). After every 30 steps 128 images are compared with photographs: KID (0 is real) and diversity (1
is as varied as real).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

import fastgan
from fastgan.config import load_config, parse_set
from fastgan.training import Callback

BASE = (
    "model.name=dcgan",
    "data.size=32",
    "model.generator.width=32",
    "model.discriminator.width=32",
    "data.batch=16",
    "train.steps=120",
    "eval.every=30",
    # The model's own recipe augments, and has other rates.
    "loss.augment=[]",
    "optim.generator.lr=2e-4",
    "optim.discriminator.lr=2e-4",
)
#: What a run adds to the base: title, fields.
TOOLS: dict[str, tuple[str, ...]] = {
    "none": (),
    "weight clipping of D (0.05)": ("optim.discriminator.clip_weights=0.05",),
    "weight clipping of G (0.1)": ("optim.generator.clip_weights=0.1",),
    "temperature 4": ("loss.temperature=4",),
    "temperature 4 to 1": ("loss.temperature=4", "loss.temperature_end=1"),
    "labels 0.9 and 0": ("loss.real_label=0.9",),
    "D without batch norm": ("model.discriminator.norm=none",),
    "R1, weight 1": ("loss.r1=1", "model.discriminator.norm=none"),
    "spectral norm of D": ("model.discriminator.spectral_norm=true", "model.discriminator.norm=none"),
    "gradient clipping of D (0.5)": ("optim.discriminator.clip_grad=0.5",),
    "differentiable augmentation": ("loss.augment=[color,translation,cutout]",),
    "no EMA": ("optim.ema=0",),
    "G at twice D's rate": ("optim.generator.lr=4e-4",),
    "RMSprop": tuple(
        f"optim.{net}.{field}" for net in ("generator", "discriminator") for field in ("name=rmsprop", "beta1=0")
    ),
    "SGD": tuple(f"optim.{net}.{field}" for net in ("generator", "discriminator") for field in ("name=sgd", "lr=0.05")),
    "hinge": ("loss.kind=hinge",),
    "least squares": ("loss.kind=lsgan",),
    "wgan, D clipped at 0.05": ("loss.kind=wgan", "optim.discriminator.clip_weights=0.05"),
    "G and D twice as wide": ("model.generator.width=64", "model.discriminator.width=64"),
    "G and D twice as deep": ("model.generator.depth=2", "model.discriminator.depth=2"),
}
#: The two base settings; the second is for the tools that are meant against it.
SETTINGS: dict[str, tuple[str, ...]] = {"suited": (), "strong D": ("optim.discriminator.lr=2e-3",)}
_AGAINST_A_STRONG_D = (
    "none",
    "weight clipping of D (0.05)",
    "temperature 4",
    "R1, weight 1",
    "spectral norm of D",
    "differentiable augmentation",
)


class Curve(Callback):
    """Keeps what is measured on the way."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self.loss_d: list[float] = []

    def on_step(self, trainer: Any, event: Any) -> None:
        self.loss_d.append(event.metrics["loss/d"])

    def on_evaluation(self, trainer: Any, event: Any) -> None:
        recent = self.loss_d[-20:]
        self.points.append({"step": event.step, **event.values, "loss/d": sum(recent) / len(recent)})


def run(fields: tuple[str, ...], content: str) -> dict[str, Any]:
    """Train once; the curve, the alarms and the mean time of a step."""
    torch.set_num_threads(1)
    config = load_config(overrides=[parse_set(text) for text in (*BASE, f"data.content={content}", *fields)])
    curve = Curve()
    try:
        report = fastgan.Trainer(config, callbacks=[curve]).fit()
    except fastgan.training.DivergenceError as error:
        return {"fields": list(fields), "curve": curve.points, "diverged": str(error)}
    return {
        "fields": list(fields),
        "curve": curve.points,
        "alarms": report["alarms"],
        "rollbacks": report["rollbacks"],
        "threads": torch.get_num_threads(),
        "machine": report["machine"],
        "torch": report["torch"],
    }


def plot(results: dict[str, Any], picture: Path) -> None:
    """Small multiples of the KID: each tool against none."""
    from matplotlib.figure import Figure

    tools = [name for name in TOOLS if name != "none"]
    columns = 6
    rows = -(-len(tools) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.2 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True)
    colors = {"suited": "#1d4ed8", "strong D": "#c2410c"}
    for axes, tool in zip(grid.flat, tools, strict=False):
        for setting, color in colors.items():
            base = results[setting]["none"]["curve"]
            axes.plot(*_points(base), color=color, linewidth=1, linestyle=":", alpha=0.8)
            if tool in results[setting]:
                axes.plot(*_points(results[setting][tool]["curve"]), color=color, linewidth=1.8, label=setting)
        axes.set_title(tool, fontsize=9, loc="left")
        axes.set_yscale("log")
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(tools) :]:
        axes.axis("off")
    grid.flat[0].legend(fontsize=8, frameon=False)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("KID (VGG-19) to photographs (dotted: without the tool)", fontsize=9)
    figure.savefig(picture)


def _points(curve: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    return [point["step"] for point in curve], [max(point["val/kid_vgg"], 1e-2) for point in curve]


def table(results: dict[str, Any]) -> str:
    """The end of every run as Markdown."""
    lines = [
        "| tool | distance, suited | spread | distance, strong D | spread | alarms |",
        "|---|---|---|---|---|---|",
    ]
    for tool in TOOLS:
        cells = []
        alarms = 0
        for setting in SETTINGS:
            done = results[setting].get(tool)
            if done is None or "diverged" in done:
                cells += ["diverged" if done else "", ""]
                continue
            last = done["curve"][-1]
            cells += [f"{last['val/kid_vgg']:.1f}", f"{last['val/diversity']:.2f}"]
            alarms += len(done["alarms"])
        lines.append(f"| {tool} | {' | '.join(cells)} | {alarms or ''} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("run", "plot"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--content", default="demo")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    args = parser.parse_args()
    file = args.out / "stability.json"
    if args.name == "run":
        results: dict[str, Any] = {setting: {} for setting in SETTINGS}
        with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = {
                (setting, tool): pool.submit(run, (*changed, *fields), args.content)
                for tool, fields in TOOLS.items()
                for setting, changed in SETTINGS.items()
                if not changed or tool in _AGAINST_A_STRONG_D
            }
            for (setting, tool), job in jobs.items():
                results[setting][tool] = job.result()
                curve = results[setting][tool]["curve"]
                print(setting, "|", tool, "|", curve[-1] if curve else "no measure", flush=True)
        args.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(file.read_text())
    if args.picture is not None:
        plot(results, args.picture)
    print(table(results))


if __name__ == "__main__":
    main()
