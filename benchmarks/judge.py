"""Judge models beside a published network, by the measures of ``fastgan evaluate`` and by a network of its own.

    python benchmarks/judge.py ours=runs/udnie --published PEERS/udnie --style udnie.jpg --content BSDS/ --out judged

Writes ``judge.json``, every value, and ``judge.jpg``: a row a photograph, and beside it what each network makes of it.
Prints a row of a table for each network. The other judge is AlexNet, which training never sees: its Gram matrices of
the whole picture and of windows, as those of VGG-19. Look at the pictures before the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held_out_networks import STYLE_LAYERS as ALEXNET_STYLE_LAYERS
from held_out_networks import AlexNetEncoder, PublishedNetwork
from torch import Tensor

import fastgan
from fastgan.data import is_readable, list_images, read_image, write_image
from fastgan.data.tensors import image_to_tensor
from fastgan.errors import FastganError, InputError
from fastgan.evaluation import EvalResult, Evaluator
from fastgan.evaluation.evaluator import CONTENT_LAYER, StyleReference
from fastgan.evaluation.image_grid import picture_sheet
from fastgan.inference import Sampler
from fastgan.losses import style_distance, style_grams
from fastgan.metrics.coverage import window_style_distances
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.models.style_code import SHORT_SIDE
from fastgan.precision import select_device
from fastgan.utils.files import write_text

COLUMNS = {
    "SSIM": "ssim",
    "LPIPS": "lpips",
    "style distance": "style_distance",
    "by the other network": "other/style_distance",
    "mean of windows": "window_style_distance",
    "by the other network, windows": "other/window_style_distance",
    "coverage": "coverage",
    "luminance": "luminance_correlation",
    "fixed pattern": "fixed_pattern",
}

#: A picture (H, W, 3) uint8 of a photograph.
Model = Callable[[np.ndarray], np.ndarray]


class OtherJudge:
    """Style distance by AlexNet, of the picture and of its windows.

    No coverage: by AlexNet a style's own windows are farther from the whole than most photographs' are.
    """

    def __init__(self, style: Tensor) -> None:
        encoder: Any = AlexNetEncoder()  # called as VGG-19 is
        self._encoder = encoder
        self._targets = style_grams(encoder, [style], ALEXNET_STYLE_LAYERS)

    def measure(self, results: list[Tensor]) -> dict[str, list[float]]:
        """One value a picture (1, 3, H, W) in [-1, 1]."""
        whole, windows = [], []
        for result in results:
            whole.append(style_distance(self._encoder(result), self._targets).item())
            distances = window_style_distances(self._encoder, result, self._targets)
            windows.append(distances.double().mean().item())
        return {"other/style_distance": whole, "other/window_style_distance": windows}


def judge(models: dict[str, Model], photographs: list[np.ndarray], style: np.ndarray) -> dict[str, EvalResult]:
    """Every measure of each model and of the photographs themselves, and by ``pictures`` what it makes of them."""
    device = select_device("auto")
    encoder = VGGEncoder((*STYLE_LAYERS, CONTENT_LAYER)).to(device)
    target = image_to_tensor(style)
    evaluator = Evaluator(encoder, StyleReference.from_images(encoder, [target.to(device)]))
    other = OtherJudge(target)
    measured = {}
    for name, model in models.items():
        results = [image_to_tensor(model(image)) for image in photographs]
        on_device = [result.to(device) for result in results]
        measured[name] = evaluator.measure(photographs, lambda _, number, results=on_device: results[number])  # type: ignore[misc]
        measured[name].values |= other.measure(results)
        print(row(name, measured[name]), flush=True)
    return measured


def header() -> str:
    """The table's head, in Markdown; the last column is the coverage that nine of ten pictures have."""
    columns = ["picture", *COLUMNS, "nine of ten cover"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def row(name: str, measured: EvalResult) -> str:
    """One network's means."""
    cells = []
    for key in COLUMNS.values():
        values = measured.values.get(key)
        cells.append("" if values is None or not all(map(math.isfinite, values)) else f"{np.mean(values):.3f}")
    cells.append(f"{np.quantile(measured.values['coverage'], 0.1):.2f}")
    return f"| {' | '.join([name, *cells])} |"


def load_models(args: argparse.Namespace, style: np.ndarray) -> dict[str, Model]:
    """The networks of the command line, by the names that it gives them."""
    models: dict[str, Model] = {}
    for argument in args.models:
        name, _, path = argument.rpartition("=")
        model = fastgan.load(path)
        if isinstance(model, Sampler):
            raise InputError(f"{path}: makes images from noise; give a model that stylizes")
        options = {"style": style} if model.takes_any_style else {}
        models[name or Path(path).name] = lambda image, model=model, options=options: model(image, **options)  # type: ignore[misc]
    if args.published is not None:
        models["published"] = PublishedNetwork(args.published)
    if not models:
        raise InputError("give a MODEL, or --published DIR")
    return models


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="[NAME=]MODEL", help="a run folder or a model folder")
    parser.add_argument("--content", type=Path, required=True, help="photographs that nothing was trained on")
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--published", type=Path, help="the folder of a published network")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24, help="photographs at most")
    parser.add_argument("--rows", type=int, default=8, help="photographs on the sheet")
    args = parser.parse_args()
    try:
        paths = [path for path in list_images(args.content, shards=False) if is_readable(path)][: args.count]
        photographs = [read_image(path, reduce_to=SHORT_SIDE) for path in paths]
        style = read_image(args.style, reduce_to=SHORT_SIDE)
        models = load_models(args, style)
        print(header())
        measured = judge({"photograph": lambda image: image, **models}, photographs, style)
    except FastganError as error:
        print(f"judge: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    # Files by their names: where they lie on this machine is nobody else's concern.
    record = {
        "style": args.style.name,
        "photographs": [path.name for path in paths],
        "short_side": SHORT_SIDE,
        "torch": torch.__version__,
        "rows": {name: result.to_json() for name, result in measured.items()},
    }
    write_text(args.out / "judge.json", json.dumps(record, indent=2) + "\n")
    rows = [[image, *(model(image) for model in models.values())] for image in photographs[: args.rows]]
    write_image(picture_sheet(rows), args.out / "judge.jpg")
    print(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
