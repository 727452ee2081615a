"""Curves of a run: a PNG file of each, and the same as SVG that takes the colors of the page it stands in."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgan.evaluation.evaluator import TITLES
from fastgan.utils.files import atomic_write

#: Points of a curve that are drawn at most: more than a page shows.
_POINTS = 240
#: Stands for the color of text until a page gives its own.
_INK = "#010203"
_COLORS = ("#3b76e1", "#e07b1f", "#1f9d6b", "#b455c9")


@dataclass(frozen=True)
class Plot:
    """A plot of a run: its title, its curves (names of ``metrics.jsonl``), and one sentence on how to read it."""

    title: str
    curves: tuple[str, ...]
    explanation: str


#: By file name; of the curves, those that a run does not have are left out.
PLOTS = {
    "quality": Plot(
        "Quality of the batch",
        ("train/ssim", "train/style_distance"),
        "As SSIM falls the photograph gives way, and as the style distance falls the style comes in.",
    ),
    "validation": Plot(
        "Quality of photographs held out",
        ("val/ssim", "val/lpips", "val/coverage", "val/style_distance"),
        "The measures of the cards above, on a few of the same photographs, as the training went on.",
    ),
    "generated": Plot(
        "Generated against real",
        ("val/kid_vgg", "val/diversity"),
        f"{TITLES['kid_vgg']} falls to 0 as generated images become like photographs, {TITLES['diversity']} nears 1 as "
        "they become as varied.",
    ),
    "generator": Plot(
        "Losses of the generator",
        ("loss/g", "loss/style", "loss/content"),
        "What the generator minimizes (loss/g) and two parts of it, each with its weight in effect: lower is better.",
    ),
    "adversarial": Plot(
        "Adversarial losses",
        ("loss/g_adversarial", "loss/d", "loss/total"),
        "Generator and discriminator against each other: both should stay in motion, and neither at 0.",
    ),
    "spread": Plot(
        "Variety of the batch",
        ("train/diversity",),
        "How much results differ from one another, as a share of how much their photographs do: near 0 all are alike.",
    ),
    "speed": Plot("Images a second", ("time/img_per_s",), "How fast a step was, without the wait for its photographs."),
}


@dataclass(frozen=True)
class DrawnPlot:
    """A plot as it was drawn: its name, the ``Plot``, and the SVG element."""

    name: str
    plot: Plot
    svg: str


def label_of(curve: str) -> str:
    """The title of the measure that ``curve`` is of, as tables have it; else its own name."""
    return TITLES.get(curve.rpartition("/")[2], curve) if not curve.startswith("loss/") else curve


def write_plots(folder: Path, lines: list[dict[str, Any]], target: dict[str, float]) -> list[DrawnPlot]:
    """Draw ``PLOTS`` from the lines of ``metrics.jsonl``, and write each as ``folder/<name>.png``.

    Raises:
        InputError: a file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    folder.mkdir(exist_ok=True)
    drawn = []
    for name, plot in PLOTS.items():
        curves = {curve: _points(lines, curve) for curve in plot.curves}
        curves = {curve: points for curve, points in curves.items() if points}
        if not curves:
            continue
        style: dict[str, object] = {
            "svg.fonttype": "none",
            "svg.hashsalt": name,
            "text.color": _INK,
            "axes.labelcolor": _INK,
        }
        style |= {"xtick.color": _INK, "ytick.color": _INK, "axes.edgecolor": _INK, "font.size": 8.5}
        with matplotlib.rc_context(style):  # type: ignore[arg-type]
            figure = Figure(figsize=(4.4, 2.5), dpi=160, layout="constrained")
            axes = figure.subplots()
            _draw(axes, curves, len(lines))
            for metric in [metric for metric in target if f"train/{metric}" in curves or f"val/{metric}" in curves]:
                label = f"target {TITLES.get(metric, metric)}"
                axes.axhline(target[metric], linestyle="--", linewidth=1, color=_INK, label=label)
            if len(plot.curves) > 1:
                axes.legend(frameon=False, fontsize=7.5, ncols=4, loc="lower left", bbox_to_anchor=(-0.02, 1.0))
            image, text = io.BytesIO(), io.StringIO()
            figure.savefig(image, format="png")
            figure.savefig(text, format="svg", transparent=True)
        atomic_write(folder / f"{name}.png", lambda file, image=image: file.write(image.getvalue()))  # type: ignore[misc]
        drawn.append(
            DrawnPlot(name, plot, _element(text.getvalue(), f"{plot.title}: {', '.join(map(label_of, curves))}"))
        )
    return drawn


def _points(lines: list[dict[str, Any]], curve: str) -> list[tuple[int, float]]:
    return [(line["step"], line[curve]) for line in lines if line.get(curve) is not None]


def _draw(axes: Any, curves: dict[str, list[tuple[int, float]]], steps: int) -> None:
    for (curve, points), color in zip(curves.items(), _COLORS, strict=False):
        indices = _thinned(len(points))
        places, values = [points[i][0] for i in indices], [points[i][1] for i in indices]
        if len(points) < steps:  # measured now and then
            axes.plot(places, values, linewidth=1.8, marker="o", markersize=3, color=color, label=label_of(curve))
            continue
        smooth = _smooth([value for _, value in points])
        axes.plot(places, values, linewidth=0.7, alpha=0.4, color=color)
        axes.plot(places, [smooth[i] for i in indices], linewidth=1.8, color=color, label=label_of(curve))
    axes.set_xlabel("step")
    axes.grid(alpha=0.35, color="0.55", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _thinned(count: int) -> list[int]:
    """At most ``_POINTS`` indices, evenly spread, the first and the last among them."""
    if count <= _POINTS:
        return list(range(count))
    return [round(i * (count - 1) / (_POINTS - 1)) for i in range(_POINTS)]


def _smooth(values: Sequence[float], decay: float = 0.9) -> list[float]:
    smoothed: list[float] = []
    for value in values:
        smoothed.append(value if not smoothed else decay * smoothed[-1] + (1 - decay) * value)
    return smoothed


def _element(document: str, label: str) -> str:
    """The svg element of a document, without a size, described by ``label``, in the color of the text around it."""
    document = re.sub(r"<metadata>.*?</metadata>", "", document[document.index("<svg") :], flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', document)
    assert view is not None
    head = f'<svg {view.group()} role="img" aria-label="{label}">'
    element = re.sub(r"<svg [^>]*>", lambda _: head, document, count=1, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", element).replace(_INK, "currentColor").strip()
