"""The end of a run: ``report.json``, plots and ``report.html``."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from fastgan.evaluation.evaluator import TITLES
from fastgan.utils.files import atomic_write, make_folder, write_text
from fastgan.utils.html import STYLE

#: File of a plot: its title and the curves in it, each a name of ``metrics.jsonl``; what a run does not have is left
#: out.
_PLOTS = {
    "quality": ("Quality of the batch", ("train/ssim", "train/style_distance")),
    "validation": ("Quality of photographs held out", ("val/ssim", "val/lpips", "val/coverage", "val/style_distance")),
    "generated": ("Generated against real", ("val/kid_vgg", "val/diversity")),
    "generator": ("Losses of the generator", ("loss/g", "loss/style", "loss/content")),
    "adversarial": ("Adversarial losses", ("loss/g_adversarial", "loss/d", "loss/total")),
    "spread": ("Variety of the batch, as a share of the photographs'", ("train/diversity",)),
    "speed": ("Images a second", ("time/img_per_s",)),
}

#: Pictures that have a caption of their own, by the stem of their file.
_CAPTIONS = {"final-coverage": "Red: parts of the results that do not carry the style"}


def write_report(
    folder: Path, report: dict[str, Any], lines: list[dict[str, Any]], *, caption: str, baseline: str
) -> None:
    """Write ``report.json`` and, of a run that took steps, ``plots/`` and ``report.html``.

    Args:
        folder: the run folder.
        report: the content of ``report.json``.
        lines: those of ``metrics.jsonl``.
        caption: of the sample pictures.
        baseline: what ``report["baseline"]`` measures, in words.
    """
    write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    if lines:
        plots = _write_plots(folder / "plots", lines, report)
        pictures = sorted((folder / "samples").glob("*.png"))
        write_text(folder / "report.html", _page(report, caption, baseline, plots, pictures))


def _write_plots(folder: Path, lines: list[dict[str, Any]], report: dict[str, Any]) -> list[Path]:
    from matplotlib.figure import Figure

    make_folder(folder)
    written = []
    steps = [line["step"] for line in lines]
    for name, (title, every) in _PLOTS.items():
        curves = [curve for curve in every if any(line.get(curve) is not None for line in lines)]
        if not curves:
            continue
        figure = Figure(figsize=(6.4, 3.2), dpi=110, layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            points = [
                (step, line[curve]) for step, line in zip(steps, lines, strict=True) if line.get(curve) is not None
            ]
            places, values = zip(*points, strict=True)
            if len(points) < len(lines):  # measured now and then
                axes.plot(places, values, linewidth=1.8, marker="o", markersize=3, label=curve)
                continue
            (plotted,) = axes.plot(places, values, linewidth=0.7, alpha=0.35)
            axes.plot(places, _smooth(values), linewidth=1.8, color=plotted.get_color(), label=curve)
        if name == "quality" and "ssim" in report["target"]:
            axes.axhline(report["target"]["ssim"], linestyle="--", linewidth=1, color="0.3", label="target SSIM")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        path = folder / f"{name}.png"
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
        atomic_write(path, lambda file, drawn=drawn: file.write(drawn.getvalue()))  # type: ignore[misc]
        written.append(path)
    return written


def _smooth(values: Sequence[float], decay: float = 0.9) -> list[float]:
    smoothed: list[float] = []
    for value in values:
        smoothed.append(value if not smoothed else decay * smoothed[-1] + (1 - decay) * value)
    return smoothed


def _page(report: dict[str, Any], caption: str, baseline: str, plots: list[Path], samples: list[Path]) -> str:
    on_the_way = [path for path in samples if not path.stem.startswith("final")]
    final = [path for path in samples if path not in on_the_way] if report["complete"] else on_the_way[-1:]
    earlier = [path for path in on_the_way if path not in final][-4:]
    if report["style"] is not None:
        held = report["content"]["val_is_trained_on"]
        caption += ", on photographs " + ("trained on" if held else "held out of training")
    facts = {
        "content": _source(report["content"]),
        "style": report["style"] or "none",
        "size, batch": f"{report['size']} px, {report['batch']}",
        "steps": f"{report['steps']:,}",
        "wall time": _duration(report["seconds"]),
        "speed": f"{report['img_per_s']:.1f} images/s" if report["img_per_s"] else "not measured",
        "arithmetic": f"{report['dtype']} on {report['device']}, {report['threads']} threads",
        "target": ", ".join(f"{name.upper()} {value:g}" for name, value in report["target"].items()) or "none",
    }
    if report["content"]["broken"]:
        facts["broken images"] = f"{len(report['content']['broken'])}, skipped"
    if report["not_measured"]:
        facts["not measured"] = "; ".join(report["not_measured"].values())
    page = Template(_template())
    return page.substitute(
        style=STYLE,
        version=html.escape(report["fastgan"]),
        state=_notes(report),
        tiles=_tiles(report, baseline),
        final="".join(_picture(path, _CAPTIONS.get(path.stem, caption)) for path in final),
        plots="".join(_picture(path, path.stem) for path in plots),
        earlier="".join(_picture(path, path.stem.replace("-", " ")) for path in earlier),
        facts="".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items()),
        images=_image_table(report),
    )


def _source(content: dict[str, Any]) -> str:
    return content["source"] + (f" ({content['train']} photographs)" if content["train"] is not None else "")


def _notes(report: dict[str, Any]) -> str:
    notes = [f"Step {alarm['step']}: {alarm['text']}." for alarm in report["alarms"]]
    if not report["complete"]:
        notes.insert(0, "Ended before it was complete; it can be resumed.")
    return "".join(f"<p class='note'>{html.escape(note)}</p>" for note in notes)


def _measures(report: dict[str, Any]) -> dict[str, str]:
    measured = report["result"] or report["baseline"] or {}
    return {name: title for name, title in TITLES.items() if name in measured}


def _tiles(report: dict[str, Any], baseline: str) -> str:
    tiles = []
    for name, title in _measures(report).items():
        note = "not measured"
        if report["baseline"]:
            note = f"{baseline}: {_number(report['baseline'][name]['mean'])}"
        shown = _number(report["result"][name]["mean"]) if report["result"] else "not measured"
        tiles.append(f"<div class='tile'><b>{shown}</b><span>{title}</span><small>{html.escape(note)}</small></div>")
    return "".join(tiles)


def _image_table(report: dict[str, Any]) -> str:
    if report["result"] is None:
        return ""
    measures = _measures(report)
    head = "".join(f"<th>{title}</th>" for title in measures.values())
    values = [report["result"][measure]["values"] for measure in measures]
    names = report["content"]["val_images"]
    if report["style"] is None:
        first, names = "subset of the images", [str(number) for number in range(1, len(values[0]) + 1)]
    else:
        first = "photograph"
    rows = []
    for index, name in enumerate(names):
        cells = "".join(f"<td>{_number(column[index])}</td>" for column in values)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f"<table><tr><th>{first}</th>{head}</tr>{''.join(rows)}</table>"


def _picture(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"


def _number(value: float | None) -> str:
    if value is None:
        return "∞"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _template() -> str:
    return (Path(__file__).parent / "report_template.html").read_text(encoding="utf-8")
