"""The end of a run: ``report.json``, plots and ``report.html``."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fastgan.evaluation.evaluator import TITLES
from fastgan.evaluation.plots import DrawnPlot
from fastgan.evaluation.plots import write_plots as _write_plots
from fastgan.utils.files import write_text
from fastgan.utils.html import render_page

_TEMPLATE = Path(__file__).parent / "report_template.html"

#: One sentence for each measure of ``TITLES``.
EXPLANATIONS = {
    "style_distance": "How far results are from the style, by Gram matrices of VGG-19: 0 is the style itself, "
    "untouched photographs have 0.5 to 1.5.",
    "coverage": "The share of windows that carry the style: 1 is painted everywhere.",
    "window_style_distance": "The style distance of windows of 96 px by themselves, averaged: lower is closer.",
    "ssim": "How much of the photograph's structure is left: 1 is the photograph itself, 0 nothing of it.",
    "psnr": "How close pixels are to the photograph's, in decibels: higher is closer.",
    "lpips": "How different results look from their photographs to a network that was fitted to people's judgments: "
    "0 is the same.",
    "content_distance": "How far results are from their photographs by deep features of VGG-19: 0 is the photograph.",
    "luminance_correlation": "How well light and dark follow the photograph: 1 is exactly.",
    "fixed_pattern": "How much of what was added stands at the same place in every picture: 0 is none of it.",
    "kid_vgg": "How far generated images are from photographs as a set, by features of VGG-19: 0 is no difference.",
    "diversity": "How varied generated images are: 0 is one image again and again, 1 as varied as photographs.",
}
#: How far from its target a measure may end and the target still be called held.
TARGET_TOLERANCE = {"ssim": 0.02, "psnr": 0.5}

#: Bytes of the encoded pictures of one page, those of the end and those on the way: together with the plots less
#: than 1.5 MB once they are written as text.
_FINAL_BYTES, _EARLIER_BYTES = 560_000, 200_000
_FINAL_WIDTH, _EARLIER_WIDTH = 1400, 760
_EARLIER = 4
#: Captions of the sheets of the end by what their names add to ``final``, where the task's does not fit.
_CAPTIONS = {
    "-coverage": "Red: parts of the results that do not carry the style.",
    "-strength": "The strength of the style rises from left to right; the style itself stands last.",
    "-interpolation": "From one random vector to another, step by step.",
}
_BROKEN_TOLD = 50


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
        plots = _write_plots(folder / "plots", lines, report["target"])
        pictures = sorted((folder / "samples").glob("*.png"))
        write_text(folder / "report.html", _page(report, caption, baseline, plots, pictures))


def _page(report: dict[str, Any], caption: str, baseline: str, plots: list[DrawnPlot], samples: list[Path]) -> str:
    from markupsafe import Markup  # Jinja2's own

    on_the_way = [path for path in samples if not path.stem.startswith("final")]
    final = [path for path in samples if path not in on_the_way] if report["complete"] else on_the_way[-1:]
    final.sort(key=lambda path: (path.stem != "final", path.stem))
    final, earlier = _different(final, [path for path in on_the_way if path not in final])
    spread = [earlier[index * (len(earlier) - 1) // (_EARLIER - 1)] for index in range(_EARLIER) if earlier]
    return render_page(
        _TEMPLATE,
        version=report["fastgan"],
        complete=report["complete"],
        lead=_lead(report),
        notes=_notes(report),
        cards=[*_target_cards(report), *_cards(report, baseline)],
        final=_pictures(final, _final_caption(report, caption), _FINAL_BYTES, _FINAL_WIDTH),
        plots=[
            # The element is made of names of measures and of numbers.
            {"title": drawn.plot.title, "svg": Markup(drawn.svg), "explanation": drawn.plot.explanation}
            for drawn in plots
        ],
        earlier=_pictures(list(dict.fromkeys(spread)), caption, _EARLIER_BYTES, _EARLIER_WIDTH),
        table=_table(report),
        facts=_facts(report),
        broken=list(report["content"]["broken"].values())[:_BROKEN_TOLD],
    )


def _lead(report: dict[str, Any]) -> str:
    parts = [f"model {report['model']}", f"{report['steps']:,} steps", _duration(report["seconds"])]
    return ", ".join(parts) + f" on {report['machine']}"


def _final_caption(report: dict[str, Any], caption: str) -> str:
    if report["style"] is not None:
        held = report["content"]["val_is_trained_on"]
        caption += ", on photographs " + ("trained on" if held else "held out of training")
    return caption


def _notes(report: dict[str, Any]) -> list[str]:
    notes = [] if report["complete"] else ["Stopped before its end; resume it with --resume."]
    return notes + [f"Step {note['step']}: {note['text']}." for note in [*report.get("changes", []), *report["alarms"]]]


def _measures(report: dict[str, Any]) -> dict[str, str]:
    measured = report["result"] or report["baseline"] or {}
    return {name: title for name, title in TITLES.items() if name in measured}


def _target_cards(report: dict[str, Any]) -> list[dict[str, str]]:
    """Cards that say of each target whether it was held."""
    cards = []
    for name, target in report["target"].items():
        title, tolerance = TITLES.get(name, name), TARGET_TOLERANCE.get(name, 0.02)
        text = f"Asked for: {title} {target:g}, held where photographs come out within {tolerance:g} of it."
        measured = (report["result"] or {}).get(name, {"mean": None})["mean"]
        value, state, against = "not measured", "", ""
        if measured is not None:
            apart = measured - target
            value, state = ("held", "good") if abs(apart) <= tolerance else ("missed", "bad")
            against = f"{_number(abs(apart))} {'above' if apart > 0 else 'below'} the target"
        cards.append({"title": "Target", "value": value, "explanation": text, "against": against, "state": state})
    return cards


def _cards(report: dict[str, Any], baseline: str) -> list[dict[str, str]]:
    cards = []
    for name, title in _measures(report).items():
        against = ""
        if report["baseline"] and name in report["baseline"]:
            against = f"{baseline}: {_number(report['baseline'][name]['mean'])}"
        value = _number(report["result"][name]["mean"]) if report["result"] else "not measured"
        explanation = EXPLANATIONS[name]
        cards.append({"title": title, "value": value, "explanation": explanation, "against": against, "state": ""})
    return cards


def _facts(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    content, target = report["content"], report["target"]
    train = f" ({content['train']} photographs)" if content["train"] is not None else ""
    speed = f"{report['img_per_s']:.1f} images/s" if report["img_per_s"] else "not measured"
    facts = [
        ("content", content["source"] + train, "What it was trained on."),
        ("style", report["style"] or "none", "What results are to look like."),
        ("size, batch", f"{report['size']} px, {report['batch']}", "Side of the crops, and how many a step takes."),
        ("steps", f"{report['steps']:,}", "Updates of the generator."),
        ("wall time", _duration(report["seconds"]), "From the start of the command, measuring included."),
        ("speed", speed, "The median of all steps but the first three."),
        (
            "arithmetic",
            f"{report['dtype']} on {report['device']}, {report['threads']} threads",
            "What the networks were computed in.",
        ),
        (
            "target",
            ", ".join(f"{TITLES.get(name, name)} {value:g}" for name, value in target.items()) or "none",
            "The quality that was asked for.",
        ),
    ]
    if content["broken"]:
        facts.append(("broken images", f"{len(content['broken'])}, skipped", "Others stood in for them."))
    if report.get("not_measured"):
        facts.append(("not measured", "; ".join(report["not_measured"].values()), ""))
    return facts


def _table(report: dict[str, Any]) -> dict[str, Any] | None:
    if report["result"] is None:
        return None
    measures = _measures(report)
    values = [report["result"][measure]["values"] for measure in measures]
    names = report["content"]["val_images"]
    if report["style"] is None:
        first, names = "subset of the images", [str(number) for number in range(1, len(values[0]) + 1)]
    else:
        first = "photograph"
    rows = [(name, [_number(column[index]) for column in values]) for index, name in enumerate(names)]
    return {"first": first, "titles": list(measures.values()), "rows": rows}


def _different(*groups: list[Path]) -> list[list[Path]]:
    """The groups without files that have the content of one before them."""
    seen: set[bytes] = set()
    unique: list[list[Path]] = []
    for group in groups:
        unique.append([])
        for path in group:
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                unique[-1].append(path)
    return unique


def _pictures(paths: Sequence[Path], caption: str, total_bytes: int, width: int) -> list[dict[str, Any]]:
    """The sheets for the page, within ``total_bytes`` together."""
    pictures = []
    for path in paths:
        with Image.open(path) as opened:
            sheet = opened.convert("RGB")
        own = _CAPTIONS.get(path.stem.removeprefix("final")) if path.stem.startswith("final-") else None
        title = "" if path.stem.startswith("final") else _title(path.stem)
        data, size = _encode(sheet, total_bytes // len(paths), width)
        text = own or f"{caption}."
        pictures.append(
            {
                "source": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}",
                "width": size[0],
                "height": size[1],
                "alt": f"{title}: {text}" if title else text,
                "title": title,
                "caption": text,
                "file": f"{path.parent.name}/{path.name}",
            }
        )
    return pictures


def _encode(sheet: Image.Image, most_bytes: int, width: int) -> tuple[bytes, tuple[int, int]]:
    """A sheet as JPEG of at most ``most_bytes`` and ``width`` pixels across, and its size."""
    scale = min(1.0, width / sheet.width)
    while True:
        size = max(1, round(sheet.width * scale)), max(1, round(sheet.height * scale))
        encoded = io.BytesIO()
        sheet.resize(size, Image.Resampling.LANCZOS).save(encoded, "JPEG", quality=86, optimize=True)
        if len(encoded.getvalue()) <= most_bytes or min(size) <= 16:
            return encoded.getvalue(), size
        scale *= 0.85


def _title(stem: str) -> str:
    """``step-000300`` as a heading."""
    kind, _, rest = stem.partition("-")
    number, _, suffix = rest.partition("-")
    return f"{kind.capitalize()} {int(number):,} {suffix}".strip() if number.isdigit() else stem.replace("-", " ")


def _number(value: float | None) -> str:
    if value is None:
        return "∞"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
