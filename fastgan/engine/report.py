"""The end of a run: ``report.json``, plots and ``report.html``."""

from __future__ import annotations

import base64
import html
import io
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import torch

from fastgan.engine.evaluate import TITLES, Measures
from fastgan.engine.tasks import Task
from fastgan.engine.watch import read_metrics
from fastgan.files import write_text, write_whole
from fastgan.version import __version__

if TYPE_CHECKING:
    from fastgan.engine.trainer import Trainer

#: File of a plot: its title and the curves in it, each a name of ``metrics.jsonl``; what a run does not have is left
#: out.
_PLOTS = {
    "quality": ("Quality of the batch", ("quality/ssim", "quality/style_distance")),
    "generated": ("Generated against real", ("held_out/feature_distance", "held_out/feature_spread")),
    "generator": ("What the generator minimises", ("loss/g", "loss/style", "loss/content")),
    "adversarial": ("Adversarial losses", ("loss/adversarial", "loss/d", "loss/total")),
    "spread": ("Variety of the batch, as a share of the photographs'", ("quality/spread",)),
    "speed": ("Images a second", ("time/img_per_s",)),
}


def finish_report(trainer: Trainer, result: Measures | None, seconds: float, *, complete: bool) -> dict[str, Any]:
    """What ``report.json`` holds; with a run folder the files are written too."""
    lines = read_metrics(trainer.folder.metrics) if trainer.folder is not None else []
    report = _gather(trainer, result, seconds, lines, complete)
    if trainer.folder is not None:
        folder = trainer.folder
        write_text(folder.path / "report.json", json.dumps(report, indent=2) + "\n")
        if lines:
            plots = _write_plots(folder.plots, lines, report)
            pictures = sorted(folder.samples.glob("*.png"))
            write_text(folder.path / "report.html", _page(report, trainer.task, plots, pictures))
    return report


def _measured(measures: Measures | None) -> dict[str, Any] | None:
    return measures.to_json() if measures is not None and measures.n else None


def _gather(
    trainer: Trainer, result: Measures | None, seconds: float, lines: list[dict[str, Any]], complete: bool
) -> dict[str, Any]:
    config, state, photographs = trainer.config, trainer.state, trainer.photographs
    rates = [line["time/img_per_s"] for line in lines[3:]] or [line["time/img_per_s"] for line in lines]
    target = {"ssim": config.quality.target_ssim, "psnr": config.quality.target_psnr}
    return {
        "fastgan": __version__,
        "model": config.model.name,
        "complete": complete,
        "steps": state.step,
        "batch": config.data.batch,
        "size": config.data.size,
        "seconds": round(seconds, 2),
        "img_per_s": sorted(rates)[len(rates) // 2] if rates else None,
        "device": str(trainer.device),
        "dtype": str(trainer.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": _machine(trainer.device),
        "content": {
            "source": config.data.content if photographs is not None else "an iterable",
            "train": len(photographs.batches.folder) if photographs is not None else None,
            "held_out": [path.name for path in photographs.held_out_paths] if photographs is not None else [],
            "held_out_is_trained_on": photographs.shared if photographs is not None else None,
            "broken": {str(path): reason for path, reason in trainer.broken.items()},
        },
        "style": config.data.style,
        "target": {name: value for name, value in target.items() if value is not None},
        "control_weight": None if state.controller is None else state.controller.weight,
        "rollbacks": state.rollbacks,
        "best": None if state.best is None else {"step": state.best.step, "score": state.best.score},
        "decisions": state.decisions,
        "alarms": [{"step": step, "text": text} for step, text in state.alarms],
        "photographs": _measured(trainer.start),
        "result": _measured(result),
    }


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _write_plots(folder: Path, lines: list[dict[str, Any]], report: dict[str, Any]) -> list[Path]:
    from matplotlib.figure import Figure

    folder.mkdir(exist_ok=True)
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
        write_whole(path, lambda file, drawn=drawn: file.write(drawn.getvalue()))  # type: ignore[misc]
        written.append(path)
    return written


def _smooth(values: Sequence[float], decay: float = 0.9) -> list[float]:
    smoothed: list[float] = []
    for value in values:
        smoothed.append(value if not smoothed else decay * smoothed[-1] + (1 - decay) * value)
    return smoothed


def _page(report: dict[str, Any], task: Task, plots: list[Path], samples: list[Path]) -> str:
    on_the_way = [path for path in samples if not path.stem.startswith("final")]
    final = [path for path in samples if path not in on_the_way] if report["complete"] else on_the_way[-1:]
    earlier = [path for path in on_the_way if path not in final][-4:]
    caption = task.caption
    if report["style"] is not None:
        held = report["content"]["held_out_is_trained_on"]
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
    page = Template(_template())
    return page.substitute(
        version=html.escape(report["fastgan"]),
        state=_notes(report),
        tiles=_tiles(report, task.baseline),
        final="".join(_picture(path, caption) for path in final),
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
        notes.insert(0, "Stopped before its end; resume it with --resume.")
    return "".join(f"<p class='note'>{html.escape(note)}</p>" for note in notes)


def _measures(report: dict[str, Any]) -> dict[str, str]:
    measured = report["result"] or report["photographs"] or {}
    return {name: title for name, title in TITLES.items() if name in measured}


def _tiles(report: dict[str, Any], baseline: str) -> str:
    tiles = []
    for name, title in _measures(report).items():
        note = "not measured"
        if report["photographs"]:
            note = f"{baseline}: {_number(report['photographs'][name]['mean'])}"
        shown = _number(report["result"][name]["mean"]) if report["result"] else "not measured"
        tiles.append(f"<div class='tile'><b>{shown}</b><span>{title}</span><small>{html.escape(note)}</small></div>")
    return "".join(tiles)


def _image_table(report: dict[str, Any]) -> str:
    if report["result"] is None:
        return ""
    measures = _measures(report)
    head = "".join(f"<th>{title}</th>" for title in measures.values())
    values = [report["result"][measure]["values"] for measure in measures]
    names = report["content"]["held_out"]
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
