"""``report.html``: small, safe, one sentence a figure, nothing twice, and at home on a screen of any width."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.picture_files import noise, save
from PIL import Image

from fastgan.evaluation import report as report_module
from fastgan.evaluation.evaluator import TITLES
from fastgan.evaluation.plots import PLOTS, label_of
from fastgan.evaluation.report import EXPLANATIONS, TARGET_TOLERANCE, write_report

#: Of HTML: elements without an end.
VOID = {"meta", "img", "br", "link", "hr"}
HOSTILE = "<script>alert(1)</script>&'\"<img src=x onerror=alert(2)>"


def measures(value: float, count: int = 2) -> dict[str, Any]:
    one = {"mean": value, "std": 0.0, "values": [value] * count}
    return {"n": count, **dict.fromkeys(("ssim", "psnr", "style_distance", "content_distance"), one)}


def record(**changes: Any) -> dict[str, Any]:
    return {
        "fastgan": "1.2.3",
        "model": "fast",
        "complete": True,
        "steps": 400,
        "batch": 4,
        "size": 256,
        "seconds": 75.0,
        "img_per_s": 8.0,
        "device": "cpu",
        "dtype": "float32",
        "threads": 2,
        "machine": "a machine",
        "content": {
            "source": "photos",
            "train": 9,
            "val_images": ["a.png", "b.png"],
            "val_is_trained_on": False,
            "broken": {},
        },
        "style": "style.png",
        "target": {},
        "alarms": [],
        "baseline": measures(1.0),
        "result": measures(0.5),
        **changes,
    }


def lines(count: int, **values: float) -> list[dict[str, Any]]:
    spread = np.random.default_rng(0).normal(size=count)
    names = ("train/ssim", "train/style_distance", "loss/g", "loss/style", "loss/content", "loss/d", "loss/total")
    every = {**dict.fromkeys((*names, "loss/g_adversarial", "train/diversity", "time/img_per_s"), 1.0), **values}
    return [{"step": 1 + i, **{k: v + 0.1 * spread[i] for k, v in every.items()}} for i in range(count)]


def page_of(folder: Path, steps: int = 3, **changes: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder, record(**changes), lines(steps), caption="Content and result", baseline="photograph itself")
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    for seed, name in enumerate(["step-000100", "step-000200", "final"]):
        save(noise(60, 90, seed), folder / "samples" / f"{name}.png")
    return page_of(folder)


class Elements(HTMLParser):
    """All elements of a page, each with its attributes, its text and the elements around it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None], list[tuple[str, str]]]] = []
        self.open: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs), list(self.open)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs), list(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def named(self, tag: str) -> list[tuple[dict[str, str | None], list[tuple[str, str]]]]:
        return [(attributes, around) for name, attributes, around in self.all if name == tag]


def embedded(page: str) -> list[np.ndarray]:
    matches = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in matches]


def style_of(page: str) -> str:
    return page[page.index("<style>") : page.index("</style>")]


# --- on a screen of any width


def test_a_narrow_screen_is_served(page: str) -> None:
    """Rules that kept everything within its width in a browser at 385 px."""
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    style = style_of(page)
    assert "img, svg { display: block; max-width: 100%; height: auto; }" in style
    assert "overflow-wrap: anywhere" in style and "box-sizing: border-box" in style
    columns = re.findall(r"(?<=repeat\(auto-fit, )minmax\(.*?, 1fr\)", style)
    assert columns and all(column.startswith("minmax(min(100%, ") for column in columns)
    assert not re.findall(r"(?<![-\w])(?:min-)?width: (?:[4-9]\d\d|\d{4,})px", style)


def test_tables_scroll_by_themselves(page: str) -> None:
    tables = Elements(page).named("table")
    assert tables and all(("div", "scroll") in around for _, around in tables)
    (rule,) = re.findall(r"\.scroll \{[^}]*\}", style_of(page))
    assert "overflow-x: auto" in rule and "max-width: 100%" in rule


def test_dark_and_light(page: str) -> None:
    style = style_of(page)
    assert "@media (prefers-color-scheme: dark)" in style and "color-scheme: light dark" in style
    plots = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "currentColor" in plots and "#010203" not in plots and "#000000" not in plots


# --- safe


def test_nothing_of_a_run_is_markup(no_plots: None, tmp_path: Path) -> None:
    content = {**record()["content"], "source": HOSTILE, "val_images": [HOSTILE, "b"], "broken": {"x": HOSTILE}}
    alarms = [{"step": 3, "text": HOSTILE}]
    hostile = {"content": content, "style": HOSTILE, "machine": HOSTILE, "alarms": alarms, "model": HOSTILE}
    page = page_of(tmp_path, **hostile)
    assert "<script" not in page and "<img src=x" not in page and page.count("&lt;script&gt;") == 7
    Elements(page)
    assert "script-src" not in page and "content=\"default-src 'none'; " in page  # and what got in could not run
    bytes_in_name = {**content, "val_images": ["bad\udcff.png", "b"]}
    assert "bad\\udcff.png" in page_of(tmp_path, content=bytes_in_name)


# --- small, and nothing twice


def test_the_same_sheet_is_not_embedded_twice(no_plots: None, tmp_path: Path) -> None:
    for name, seed in {"step-000100": 0, "step-000200": 1, "final": 1}.items():
        save(noise(60, 90, seed), tmp_path / "samples" / f"{name}.png")
    page = page_of(tmp_path)
    assert len(embedded(page)) == 2 and "Step 100" in page and "Step 200" not in page


def test_sheets_of_the_end_come_first_and_those_on_the_way_are_spread(no_plots: None, tmp_path: Path) -> None:
    names = [*(f"step-{100 * number:06}" for number in range(1, 11)), "final-strength", "final"]
    for seed, name in enumerate(names):
        save(noise(60, 90, seed), tmp_path / "samples" / f"{name}.png")
    page = page_of(tmp_path)
    assert re.findall(r'href="samples/([^"]+)\.png"', page) == [
        "final",
        "final-strength",
        "step-000100",
        "step-000400",
        "step-000700",
        "step-001000",
    ]
    stopped = page_of(tmp_path, complete=False, result=None)
    assert re.findall(r'href="samples/([^"]+)\.png"', stopped)[0] == "step-001000"


def test_a_page_is_below_a_megabyte_and_a_half(tmp_path: Path) -> None:
    """With pictures that nothing compresses, and many steps."""
    names = [*(f"step-{number:06}" for number in range(6)), "final", "final-strength", "final-coverage"]
    for seed, name in enumerate(names):
        save(noise(800, 1200, seed), tmp_path / "samples" / f"{name}.png")
    page = page_of(tmp_path, steps=5000)
    assert len(page.encode()) < 1_500_000
    assert len(embedded(page)) == 7 and all(min(picture.shape[:2]) > 100 for picture in embedded(page))


# --- says what it shows


def test_every_figure_is_explained(page: str) -> None:
    assert set(EXPLANATIONS) >= set(TITLES)
    sentences = [*EXPLANATIONS.values(), *(plot.explanation for plot in PLOTS.values())]
    assert all(re.fullmatch(r"[A-Z][^.!?]*(?:\d\.\d[^.!?]*)*\.", sentence) for sentence in sentences), sentences
    for name in ("ssim", "psnr", "style_distance", "content_distance"):
        assert EXPLANATIONS[name].replace("'", "&#39;") in page
    for figure in re.findall(r"<figure>.*?</figure>", page, re.DOTALL):
        assert re.search(r"<figcaption>[A-Z][^<]*\.", figure)
    for value in re.findall(r'<div class="value">.*?</article>', page, re.DOTALL):
        assert re.search(r"<small>[A-Z][^<]*\.</small>", value)
    for fact in re.findall(r"<dd>.*?</dd>", page, re.DOTALL):
        assert re.search(r"<small>[A-Z][^<]*\.</small>", fact)


def test_pictures_have_a_text_and_headings_an_order(page: str) -> None:
    elements = Elements(page)
    assert elements.named("img") and all(attributes["alt"] for attributes, _ in elements.named("img"))
    plots = elements.named("svg")
    assert plots and all(a["role"] == "img" and a["aria-label"] and "viewbox" in a for a, _ in plots)
    levels = [int(tag[1]) for tag, _, _ in elements.all if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(scope["scope"] in ("col", "row") for scope, _ in elements.named("th"))
    assert [len(elements.named(tag)) for tag in ("html", "head", "body", "main", "title")] == [1] * 5


@pytest.mark.parametrize("metric", TARGET_TOLERANCE)
def test_a_target_is_held_or_missed(no_plots: None, tmp_path: Path, metric: str) -> None:
    tolerance = TARGET_TOLERANCE[metric]
    for target, word in ((0.5 + 0.9 * tolerance, "held"), (0.5 - 1.1 * tolerance, "missed")):
        page = page_of(tmp_path, target={metric: target})
        assert f'<div class="value">{word}</div>' in page
        assert f"{abs(0.5 - target):.3f} {'below' if word == 'held' else 'above'} the target" in page
    stopped = page_of(tmp_path, target={metric: 0.5}, complete=False, result=None)
    assert '<h3>Target</h3>\n<div class="value">not measured</div>' in stopped


def test_a_measure_has_one_name(tmp_path: Path) -> None:
    values = {"mean": 2.0, "std": 0.0, "values": [2.0] * 4}
    report = record(style=None, baseline=None, result={"n": 4, "kid_vgg": values, "diversity": values})
    steps = lines(3, **{"val/kid_vgg": 1.0, "val/diversity": 1.0})
    write_report(tmp_path, report, steps, caption="Images from noise", baseline="photographs")
    page = (tmp_path / "report.html").read_text()
    assert label_of("val/kid_vgg") == TITLES["kid_vgg"]
    assert page.count(TITLES["kid_vgg"]) >= 4  # card, table, plot and its description
    assert "feature" not in page.replace("features of VGG-19", "") and "val/" not in page
    assert json.loads((tmp_path / "report.json").read_text())["result"]["kid_vgg"]["mean"] == 2.0


def test_pictures_keep_to_their_bytes() -> None:
    sheet = Image.fromarray(noise(700, 900))
    data, size = report_module._encode(sheet, 40_000, 800)
    assert len(data) <= 40_000 and size[0] <= 800 and Image.open(io.BytesIO(data)).size == size
    assert abs(size[0] / size[1] - 900 / 700) < 0.02
    assert report_module._encode(Image.fromarray(noise(20, 30)), 40_000, 800)[1] == (30, 20)
