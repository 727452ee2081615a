"""Train the any-style model that fastgan ships, and put it into the package.

    python benchmarks/any_style.py train --styles PAINTINGS/ --content PHOTOS/ --minutes 75 --out runs/any-style
    python benchmarks/any_style.py export runs/any-style
    python benchmarks/any_style.py judge --styles PAINTINGS/ --content PHOTOS/

``train`` takes the recipe of ``any_style.yaml``, goes on from ``--init`` and leaves out what the model is judged on:
the paintings of ``HELD_OUT_STYLES``, and of the photographs below a folder ``bsds`` the first and every sixth after it,
by name.
``export`` writes the weights of convolutions and linear layers in half precision and the curve of the training to
``results/any-style``; ``judge`` writes there what ``judge.py`` measures of the shipped model on what is held out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from judge import COLUMNS, Model, header, judge

import fastgan
from fastgan.config import load_config
from fastgan.data import list_images, read_image
from fastgan.errors import FastganError, InputError
from fastgan.evaluation.metrics_log import read_metrics
from fastgan.inference.model_files import find_model, save_model
from fastgan.models.style_code import SHORT_SIDE
from fastgan.utils.files import make_folder, read_json, write_text

HERE = Path(__file__).parent
ASSETS = Path(fastgan.__file__).parent / "inference" / "assets" / "any_style"
RESULTS = HERE / "results" / "any-style"
#: Paintings that the model is judged on; pencil is a copy of sketch.
HELD_OUT_STYLES = (
    "udnie",
    "wave",
    "wave_crop",
    "the_scream",
    "mosaic",
    "mosaic_ducks_massimo",
    "candy",
    "composition_vii",
    "la_muse",
    "feathers",
    "sketch",
    "pencil",
    "vg_la_cafe",
)
#: Not trained on, either: all but black, and the style's loss is relative to the style.
LEFT_OUT_STYLES = ("en_campo_gris",)
#: Of the photographs below a folder ``bsds``, by name, the first and every so many on are held out.
HELD_OUT_INTERVAL = 6
#: Steps that a point of the curve is the mean of.
_CURVE_STEPS = 25
_CURVE = ("loss/g", "loss/content", "loss/style", "train/ssim", "train/style_distance")


def link_files(files: list[Path], folder: Path) -> None:
    """Fill ``folder`` with links to ``files``, and with nothing else."""
    make_folder(folder)
    for old in folder.iterdir():
        old.unlink()
    for file in files:
        (folder / file.name).symlink_to(file.resolve())


def held_out_photographs(content: Path) -> list[Path]:
    """The photographs that are never trained on."""
    return sorted(content.glob("**/bsds/*.jpg"))[::HELD_OUT_INTERVAL]


def train(args: argparse.Namespace) -> None:
    """Train by the recipe; links to what it is trained on, and to what it is not, lie beside ``out``."""
    held = held_out_photographs(args.content)
    photographs = [path for path in list_images(args.content, shards=False) if path not in set(held)]
    left_out = HELD_OUT_STYLES + LEFT_OUT_STYLES
    paintings = [path for path in list_images(args.styles, shards=False) if path.stem not in left_out]
    if not photographs or not paintings:
        raise InputError("--content, --styles: nothing is left to train on")
    folders = {name: args.out.with_name(f"{args.out.name}-{name}") for name in ("content", "styles", "held-out")}
    for files, folder in zip((photographs, paintings, held), folders.values(), strict=True):
        link_files([Path(str(file)) for file in files], folder)
    fields = {
        "data.content": str(folders["content"]),
        "data.style": str(folders["styles"]),
        "train.minutes": args.minutes,
        "train.init": args.init,
        "train.seed": args.seed,
    }
    config = load_config(HERE / "any_style.yaml", [(f"--{name}", name, value) for name, value in fields.items()])
    fastgan.Trainer(config, out=args.out, resume=args.resume).fit()


def export(run: Path) -> None:
    """Write the model of ``run`` into the package, and its curve beside the other results."""
    description = read_json(find_model(run) / "config.json", 1 << 20)
    extra = {name: description[name] for name in ("features", "size") if name in description}
    save_model(ASSETS, fastgan.load(run, device="cpu", precision="fp32").generator, extra, half=True)
    make_folder(RESULTS)
    write_text(RESULTS / "curve.json", json.dumps(curve(run), indent=1) + "\n")
    print(f"{ASSETS}: {sum(file.stat().st_size for file in ASSETS.iterdir()):,} bytes")


def curve(run: Path) -> dict[str, object]:
    """The means of every 25 steps, and how long the training took."""
    lines = [line for line in read_metrics(run / "metrics.jsonl") if "loss/g" in line]
    points = [lines[start : start + _CURVE_STEPS] for start in range(0, len(lines), _CURVE_STEPS)]
    report = read_json(run / "report.json", 1 << 24) if (run / "report.json").exists() else {}
    return {
        "steps": len(lines),
        "seconds": round(report.get("seconds", sum(line["time/step"] for line in lines)), 1),
        "threads": torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ
        else int(os.environ["OMP_NUM_THREADS"]),
        "torch": torch.__version__,
        "every": _CURVE_STEPS,
        **{name: [round(sum(line[name] for line in part) / len(part), 4) for part in points] for name in _CURVE},
    }


def judge_styles(args: argparse.Namespace) -> None:
    """Measure the shipped model on held-out paintings and photographs; the file is written after every painting."""
    photographs = held_out_photographs(args.content)
    paths = photographs[:: max(1, len(photographs) // args.count)][: args.count]
    images = [read_image(path, reduce_to=SHORT_SIDE) for path in paths]
    stylizer = fastgan.load("any-style")
    names = args.only or [name for name in HELD_OUT_STYLES if name != "pencil"]
    measured: dict[str, dict[str, float]] = {}
    print(header())
    for file in list_images(args.styles, shards=False):
        if file.stem not in names:
            continue
        style = read_image(file, reduce_to=SHORT_SIDE)
        code = stylizer.code(style)
        models: dict[str, Model] = {file.stem: partial(stylizer, code=code)}
        result = judge(models, images, style)[file.stem]
        means = {key: float(np.mean(result.values[key])) for key in COLUMNS.values() if key in result.values}
        measured[file.stem] = {key: round(value, 4) for key, value in means.items()}
        record = {"photographs": [path.name for path in paths], "short_side": SHORT_SIDE, "styles": measured}
        make_folder(RESULTS)
        write_text(RESULTS / "judged.json", json.dumps(record, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--styles", type=Path, required=True)
    training.add_argument("--content", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=75.0)
    training.add_argument("--init", help="a run or model to go on from, any-style for the one that is shipped")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--resume", action="store_true")
    training.add_argument("--out", type=Path, required=True)
    exporting = commands.add_parser("export")
    exporting.add_argument("run", type=Path)
    judging = commands.add_parser("judge")
    judging.add_argument("--styles", type=Path, required=True)
    judging.add_argument("--content", type=Path, required=True)
    judging.add_argument("--count", type=int, default=24, help="photographs, of those that are held out")
    judging.add_argument("--only", nargs="*", help="names of paintings, in place of all that are held out")
    args = parser.parse_args()
    try:
        if args.command == "train":
            train(args)
        elif args.command == "judge":
            judge_styles(args)
        else:
            export(args.run)
    except FastganError as error:
        print(f"any_style: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
