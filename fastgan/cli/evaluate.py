"""``fastgan evaluate``."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from fastgan.data import ImagePath
    from fastgan.evaluation import EvalResult
    from fastgan.inference import Sampler, Stylizer

#: Styles whose codes are kept, 2.4 MB each at most.
_CODES = 64
#: Styles of a model's own folder whose mean is taken: half a second each.
_MAX_STYLES = 1000


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder or its model folder.")],
    content: Annotated[Path, typer.Option(help="Photographs to measure on: a file or a folder.", show_default=False)],
    style: Annotated[
        Path | None,
        typer.Option(help="The style image, or a folder; by default what the model was trained on."),
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every value to this file.")] = None,
    features: Annotated[
        str | None,
        typer.Option(help="VGG-19 weights: vgg19, torchvision, random or a file; by default as in training."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the model: auto, fp32, bf16 or fp16.")] = "auto",
) -> int:
    """Measure SSIM, PSNR, style and content distance on photographs, at a short side of 384 pixels.

    A model that takes any style is measured in all of them, photograph by photograph in turn. One that makes images
    from noise is measured against the photographs: feature distance, feature spread, style distance.
    """
    from fastgan.data import list_images

    paths = list_images(content)
    if json_ is not None and (json_.is_dir() or not json_.parent.is_dir()):
        raise InputError(f"--json {json_}: cannot be written; give a file in a folder that exists")

    from fastgan.inference import Sampler, load
    from fastgan.models.style_code import SHORT_SIDE
    from fastgan.utils.files import write_text

    trained = load(model, precision=precision)
    broken: list[str] = []
    if isinstance(trained, Sampler):
        if style is not None:
            raise InputError(f"--style {style}: this model makes images from noise and has no style; leave it out")
        measures = _noise(trained, paths, features, broken)
        title = f"images from noise, {measures.n} subsets, against {len(paths) - len(broken)} photographs"
    else:
        measures = _pictures(trained, model, paths, style, features, broken)
        title = f"{measures.n} photographs at {SHORT_SIDE} px"
    for line in broken:
        print(f"fastgan: skipped: {line}", file=sys.stderr)
    _show(measures, title)
    if broken:
        print(f"{len(broken)} broken images were skipped")
    if json_ is not None:
        write_text(json_, json.dumps(measures.to_json(), indent=2) + "\n")
    return 0


def _pictures(
    stylizer: Stylizer, model: Path, paths: list[ImagePath], style: Path | None, features: str | None, broken: list[str]
) -> EvalResult:
    import torch
    from rich.console import Console
    from rich.progress import track

    from fastgan.data import list_images, read_image
    from fastgan.evaluation import EvalResult
    from fastgan.evaluation.evaluator import CONTENT_LAYER, as_uint8_model, make_evaluator
    from fastgan.evaluation.style_targets import StyleTargets
    from fastgan.inference.model_files import StyleImages
    from fastgan.models import STYLE_LAYERS, VGGEncoder
    from fastgan.models.style_code import SHORT_SIDE

    images: Sequence[np.ndarray]
    if style is None:
        images = StyleImages(model)
        if not stylizer.takes_any_style and len(images) > _MAX_STYLES:
            raise InputError(
                f"{images.paths[0].parent}: holds {len(images):,} styles, and a model of one style is measured against "
                f"the mean of at most {_MAX_STYLES:,}; name them with --style"
            )
    else:
        images = [read_image(path, reduce_to=SHORT_SIDE) for path in list_images(style)]
    encoder = VGGEncoder((*STYLE_LAYERS, CONTENT_LAYER), features or stylizer.features).to(stylizer.device)
    evaluator = make_evaluator(encoder, StyleTargets(images, encoder), arbitrary_style=stylizer.takes_any_style)
    run = as_uint8_model(stylizer)
    if stylizer.takes_any_style:
        code = lru_cache(_CODES)(lambda index: stylizer.code(images[index]))
        run = as_uint8_model(stylizer, lambda number: code(number % len(images)))
    encoder.to_compute(encoder.dtype, torch.channels_last)
    measures = EvalResult()
    console = Console(stderr=True)
    for path in track(paths, "evaluating", console=console, disable=not console.is_terminal):
        try:
            image = read_image(path, reduce_to=SHORT_SIDE)
            if min(image.shape[:2]) < stylizer.min_side:
                raise InputError(f"{path}: too small for this model, which needs {stylizer.min_side} px a side")
        except InputError as error:
            if len(paths) == 1:
                raise
            broken.append(str(error))
            continue
        measures.extend(evaluator.measure([image], run, first=measures.n))
    if not measures.n:
        raise InputError(f"--content: none of the {len(paths)} images can be read; the first: {broken[0]}")
    return measures


def _noise(sampler: Sampler, paths: list[ImagePath], features: str | None, broken: list[str]) -> EvalResult:
    import torch

    from fastgan.data import CropBatches, ImageFolder
    from fastgan.evaluation.evaluator import NUM_EVAL_IMAGES, NoiseEvaluator
    from fastgan.models import STYLE_LAYERS, VGGEncoder
    from fastgan.training.setup import noise_short_side

    size = sampler.generator.size
    folder = ImageFolder(
        paths, size=size, short_side=noise_short_side(size), max_broken=1.0, on_broken=lambda _, why: broken.append(why)
    )
    crops = CropBatches(folder, batch=NUM_EVAL_IMAGES, seed=0).batch_at(0)
    encoder = VGGEncoder(STYLE_LAYERS, features or sampler.features).to(sampler.device)
    encoder.to_compute(sampler.dtype, torch.channels_last)
    return NoiseEvaluator(encoder, crops).measure(sampler.run(sampler.noise(NUM_EVAL_IMAGES, seed=1)))


def _show(measures: EvalResult, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from fastgan.evaluation.evaluator import TITLES

    result = measures.to_json()
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in ("", "mean", "std"):
        table.add_column(column, justify="right" if column else "left")
    for name, text in TITLES.items():
        if name in result:
            shown = ("inf" if result[name][key] is None else f"{result[name][key]:.4f}" for key in ("mean", "std"))
            table.add_row(text, *shown)
    Console().print(table)
