"""The quality that the article's models reach, row by row of the specification.

It measures images from noise, every fusion, the literal networks, and the effect of the adversarial part.

    python benchmarks/article.py dcgan       --out benchmarks/results/MACHINE --content PHOTOS/ [--minutes 15]
    python benchmarks/article.py fusion      --out benchmarks/results/MACHINE --content PHOTOS/ --style STYLES/
    python benchmarks/article.py article     --out benchmarks/results/MACHINE --content PHOTOS/ --style FILE
    python benchmarks/article.py adversarial --out benchmarks/results/MACHINE --content PHOTOS/ --style FILE

Every training is the command of fastgan that it prints. With ``--held-out DIR`` a model is measured on the first 24
photographs of another folder (``fusion`` on the first 12, each in another style); with ``--pictures DIR`` sheets of the
demo's photographs are written there. ``fusion`` trains each of the four fusions and measures it at five strengths, in
styles that it was trained on and, with ``--unseen DIR``, in others; its sheets show styles that it was not trained on.
``adversarial`` trains with the default weight and without, at equal time and the same SSIM held by the controller, and
compares beside the style distance what no loss has seen: patches of the results with patches of the style
(``patch_distance``: ``fastgan.metrics.KID`` of VGG-19 features). ``table`` prints what docs/article.md has
of the results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import HELD_OUT, ROOT, run
from torch import Tensor

import fastgan
from fastgan.data import (
    demo_content,
    demo_style,
    demo_val,
    is_readable,
    list_images,
    read_image,
    reduce_short_side,
    write_image,
)
from fastgan.data.tensors import image_to_tensor
from fastgan.evaluation.evaluator import as_uint8_model, make_evaluator
from fastgan.evaluation.image_grid import STRENGTHS, comparison_sheet, strength_sheet
from fastgan.evaluation.style_targets import StyleTargets
from fastgan.inference.stylizer import Stylizer
from fastgan.metrics import KID, pooled_features
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.models.style_code import SHORT_SIDE
from fastgan.precision import select_dtype
from fastgan.utils.system import git_commit

FUSIONS = ("adain", "convex", "additive", "mlp")
_PATCH, _PATCHES = 64, 16


class Judge:
    """Measures a trained model on photographs, in styles taken in turn."""

    def __init__(self, photographs: list[np.ndarray], styles: list[np.ndarray]) -> None:
        self.photographs = photographs
        self.styles = styles
        self.encoder = VGGEncoder()
        self.evaluator = make_evaluator(self.encoder, StyleTargets(styles, self.encoder), arbitrary_style=True)
        # Targets are in float32; what they are compared with is in the precision of training, three times as fast.
        self.encoder.to_compute(select_dtype("auto", torch.device("cpu")), torch.channels_last)
        self._distance = KID(self._pooled([image_to_tensor(style) for style in styles], 256 // len(styles) + 1))

    def measure(self, stylizer: Stylizer, strength: float = 1.0, *, patches: bool = False) -> dict[str, float]:
        """Means of SSIM, PSNR and style distance; with ``patches`` also the patch distance."""
        codes = [stylizer.code(style) for style in self.styles] if stylizer.takes_any_style else None
        results: list[Tensor] = []

        def make(content: Tensor, number: int) -> Tensor:
            if codes is None:
                result = as_uint8_model(stylizer)(content, number)
            else:
                result = stylizer.run(content, strength, code=codes[number % len(codes)])
            results.append(result)
            return result

        values = self.evaluator.measure(self.photographs, make, window_stride=0).values
        means = {name: float(np.mean(values[name])) for name in ("ssim", "psnr", "style_distance")}
        if patches:
            self._distance.reset()
            self._distance.update(self._pooled(results, _PATCHES))
            means["patch_distance"] = self._distance.compute().item()
        return means

    @torch.no_grad()
    def _pooled(self, images: list[Tensor], count: int) -> Tensor:
        rng = torch.Generator().manual_seed(0)
        pooled = []
        for image in images:
            crops = []
            for _ in range(count):
                top, left = (int(torch.randint(side - _PATCH + 1, (), generator=rng)) for side in image.shape[-2:])
                crops.append(image[..., top : top + _PATCH, left : left + _PATCH])
            pooled.append(pooled_features(self.encoder(torch.cat(crops), STYLE_LAYERS)))
        return torch.cat(pooled)


def train(options: list[str], folder: Path) -> dict[str, Any]:
    """Run the command, unless ``--keep`` has the finished run; what its report says of it."""
    if not (folder / "report.json").is_file():
        run(["fastgan", "train", *options, "--out", str(folder)])
    report = json.loads((folder / "report.json").read_text())
    keys = ("model", "steps", "batch", "size", "img_per_s", "dtype", "device", "threads", "torch", "machine", "alarms")
    command = " ".join(["fastgan", "train", *(Path(option).name for option in options)])
    return {
        "command": command,
        "wall_seconds": round(report["seconds"], 1),
        **{key: report[key] for key in keys},
        "commit": git_commit(ROOT),
    }


def curve(folder: Path, names: tuple[str, ...]) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl`` that have all of ``names``, with these alone."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {"step": line["step"], **{name: line[name] for name in names}}
        for line in lines
        if all(line.get(name) is not None for name in names)
    ]


def dcgan(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """S1: distance and spread of images from noise over the training."""
    folder = runs / "dcgan"
    options = ["--model", "dcgan", "--content", args.content, "--minutes", args.minutes]
    result = train(options, folder)
    report = json.loads((folder / "report.json").read_text())
    names = ("kid_vgg", "diversity", "style_distance")
    result["curve"] = curve(folder, tuple(f"val/{name}" for name in names))
    for key in ("baseline", "result"):
        result[key] = {name: report[key][name]["mean"] for name in names}
    keep(args, folder / "samples" / "final.png", "dcgan.png")
    keep(args, folder / "samples" / "final-interpolation.png", "dcgan-interpolation.png")
    keep(args, folder / "plots" / "generated.png", "dcgan-curve.png")
    return {"dcgan": result}


def fusion(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """S6: each fusion at five strengths, on photographs not trained on, in styles trained on."""
    results = {}
    photographs = held_out(args)[: HELD_OUT // 2]
    judge = Judge(photographs, images_of(args.style)[: len(photographs)])
    unseen = Judge(photographs, images_of(args.unseen)) if args.unseen is not None else None
    for mode in args.fusions.split(","):
        folder = runs / f"fusion-{mode}"
        options = ["--model", "fusion", "--fusion", mode, "--content", args.content, "--style", args.style]
        results[mode] = train([*options, "--size", "128", "--minutes", args.minutes], folder)
        stylizer = fastgan.load(folder)
        assert isinstance(stylizer, Stylizer)
        results[mode]["strengths"] = {str(strength): judge.measure(stylizer, strength) for strength in STRENGTHS}
        if unseen is not None:
            results[mode]["unseen_styles"] = unseen.measure(stylizer)
        show(
            args,
            f"fusion-{mode}.jpg",
            strength_sheet(list(zip(demo_photographs(), demo_styles(), strict=True)), stylizer),
        )
    return results


def article(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """S11: the literal networks at 256 px."""
    folder = runs / "article"
    options = ["--model", "article", "--content", args.content, "--style", args.style]
    result = train([*options, "--minutes", args.minutes], folder)
    stylizer = fastgan.load(folder)
    assert isinstance(stylizer, Stylizer)
    (style,) = images_of(args.style)
    result["result"] = Judge(held_out(args), [style]).measure(stylizer)
    show(args, "article.jpg", comparison_sheet([(photo, style) for photo in demo_photographs()], stylizer))
    return {"article": result}


def adversarial(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """With an adversarial part and without, at equal time and the same target."""
    (style,) = images_of(args.style)
    judge = Judge(held_out(args), [style])
    results, sheets = {}, []
    label = Path(args.style).stem
    for name, change in (("with", ["--set", "loss.adversarial=0.1"]), ("without", [])):
        folder = runs / f"adversarial-{label}-{name}"
        options = ["--content", args.content, "--style", args.style, "--size", "128", "--minutes", args.minutes]
        result = train([*options, "--target-ssim", "0.5", *change], folder)
        stylizer = fastgan.load(folder)
        assert isinstance(stylizer, Stylizer)
        result["result"] = judge.measure(stylizer, patches=True)
        results[f"{label}, {name}"] = result
        sheets.append(comparison_sheet([(photo, style) for photo in demo_photographs()], stylizer))
    show(args, f"adversarial-{label}.jpg", np.concatenate(sheets, axis=0))
    return results


def tables(folder: Path) -> list[str]:
    """The results in ``folder`` as docs/article.md shows them, in Markdown."""
    results = {
        file.stem.removeprefix("article-"): json.loads(file.read_text()) for file in folder.glob("article-*.json")
    }
    return [draw(results[name]) for name, draw in _TABLES.items() if name in results]


def _dcgan_table(results: dict[str, Any]) -> str:
    result = results["dcgan"]
    points = [point for point in result["curve"] if point["step"] in _shown_steps(result["curve"])]
    rows = [(f"{point['step']:,}", [point[f"val/{name}"] for name in _NOISE]) for point in points]
    rows.append((f"end ({result['steps']:,})", [result["result"][name] for name in _NOISE]))
    rows.append(("other photographs", [result["baseline"][name] for name in _NOISE]))
    lines = ["| step | KID (VGG-19) | diversity | style distance |", "|---|---|---|---|"]
    lines += [f"| {title} | {values[0]:.1f} | {values[1]:.2f} | {values[2]:.3f} |" for title, values in rows]
    return "\n".join(lines)


def _shown_steps(curve: list[dict[str, float]]) -> set[float]:
    """Some five of the points, each about twice as far as the one before."""
    steps = [point["step"] for point in curve]
    return {steps[min(len(steps), 2**power) - 1] for power in range(5)}


def _fusion_table(results: dict[str, Any]) -> str:
    lines = [
        "| fusion | steps | " + " | ".join(f"strength {strength:g}" for strength in STRENGTHS) + " | unseen styles |",
        "|---|---|" + "---|" * (len(STRENGTHS) + 1),
    ]
    for mode, result in results.items():
        measured = [result["strengths"][str(strength)] for strength in STRENGTHS]
        if "unseen_styles" in result:
            measured.append(result["unseen_styles"])
        cells = [f"{values['style_distance']:.3f} at {values['ssim']:.2f}" for values in measured]
        lines.append(f"| {mode} | {result['steps']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pictures_table(results: dict[str, Any]) -> str:
    lines = ["| run | steps | style distance | SSIM | PSNR, dB | patch distance |", "|---|---|---|---|---|---|"]
    for name, run_ in results.items():
        values = run_["result"]
        patch = f"{values['patch_distance']:.1f}" if "patch_distance" in values else ""
        lines.append(
            f"| {name} | {run_['steps']:,} | {values['style_distance']:.3f} | {values['ssim']:.3f} "
            f"| {values['psnr']:.1f} | {patch} |"
        )
    return "\n".join(lines)


_NOISE = ("kid_vgg", "diversity", "style_distance")
_TABLES = {
    "dcgan": _dcgan_table,
    "fusion": _fusion_table,
    "article": _pictures_table,
    "adversarial": _pictures_table,
}


def held_out(args: argparse.Namespace) -> list[np.ndarray]:
    """The first photographs of ``--held-out``, or of ``--content`` where none is args."""
    if args.held_out is None and args.content == "demo":
        return images_of(demo_val())
    return images_of(
        [path for path in list_images(args.held_out or args.content, shards=False) if is_readable(path)][:HELD_OUT]
    )


def images_of(source: str | Path | list[Path]) -> list[np.ndarray]:
    """The images of a file, a folder, a list or, for ``demo``, the demo's style, as quality is measured."""
    paths = [demo_style()] if source == "demo" else source if isinstance(source, list) else list_images(source)
    return [read_image(path, reduce_to=SHORT_SIDE) for path in paths]


def demo_photographs() -> list[np.ndarray]:
    """Three photographs to show."""
    return images_of([*demo_val(), demo_content()[0]])


def demo_styles() -> list[np.ndarray]:
    """Three pictures to show as styles: the demo's, a stained tissue and deep space."""
    named = {path.stem: path for path in demo_content()}
    return images_of([demo_style(), named["ihc"], named["hubble_deep_field"]])


def show(args: argparse.Namespace, name: str, sheet: np.ndarray) -> None:
    """Write a sheet to ``--pictures``."""
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
        write_image(reduce_short_side(sheet, 560), args.pictures / name)


def keep(args: argparse.Namespace, picture: Path, name: str) -> None:
    """Copy a picture to ``--pictures``."""
    if args.pictures is not None and picture.is_file():
        args.pictures.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, args.pictures / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"dcgan": dcgan, "fusion": fusion, "article": article, "adversarial": adversarial}
    parser.add_argument("name", choices=(*commands, "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--content", default="demo")
    parser.add_argument("--style", default="demo")
    parser.add_argument("--minutes", default="15")
    parser.add_argument("--fusions", default=",".join(FUSIONS))
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--unseen", type=Path, help="styles not trained on, for fusion")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    args = parser.parse_args()
    if args.name == "table":
        print("\n\n".join(tables(args.out)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        results = commands[args.name](args, args.keep or Path(scratch))
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"article-{args.name}.json"
    if args.name in ("fusion", "adversarial") and file.is_file():
        results = json.loads(file.read_text()) | results  # one fusion, or one style, at a time is allowed
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(file)


if __name__ == "__main__":
    main()
