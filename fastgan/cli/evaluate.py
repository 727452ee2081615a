"""``fastgan evaluate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fastgan.errors import InputError


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder or its model folder.")],
    content: Annotated[Path, typer.Option(help="Photographs to measure on: a file or a folder.", show_default=False)],
    style: Annotated[
        Path | None, typer.Option(help="The style image; by default the one that the model was trained on.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every value to this file.")] = None,
    features: Annotated[
        str | None,
        typer.Option(help="VGG-19 weights: vgg19, torchvision, random or a file; by default as in training."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the model: auto, fp32, bf16 or fp16.")] = "auto",
) -> int:
    """Measure SSIM, PSNR, style and content distance on photographs, at a short side of 384 pixels."""
    from fastgan.data import list_images

    paths = list_images(content)
    if json_ is not None and (json_.is_dir() or not json_.parent.is_dir()):
        raise InputError(f"--json {json_}: cannot be written; give a file in a folder that exists")

    import torch
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from fastgan import ops
    from fastgan.data import read_image
    from fastgan.engine import Evaluator, load
    from fastgan.engine.evaluate import CONTENT_LAYER, SHORT_SIDE, stylizer_run
    from fastgan.engine.infer import find_model
    from fastgan.files import write_text
    from fastgan.losses import style_grams
    from fastgan.models import STYLE_LAYERS, VGGEncoder

    stylizer = load(model, precision=precision)
    if style is None:
        style = find_model(model) / "styles"
        if not style.is_dir():
            raise InputError(f"--style: {style} is missing; name the style image")
    styles = [
        ops.from_pixels(torch.from_numpy(read_image(path, reduce_to=SHORT_SIDE))[None]).to(stylizer.device)
        for path in list_images(style)
    ]
    encoder = VGGEncoder((*STYLE_LAYERS, CONTENT_LAYER), features or stylizer.features).to(stylizer.device)
    evaluator = Evaluator(encoder, style_grams(encoder, styles))
    measures = None
    broken: list[str] = []
    console = Console(stderr=True)
    for path in track(paths, "evaluating", console=console, disable=not console.is_terminal):
        try:
            image = read_image(path, reduce_to=SHORT_SIDE)
        except InputError as error:
            if len(paths) == 1:
                raise
            broken.append(str(error))
            continue
        measured = evaluator.measure([image], stylizer_run(stylizer))
        if measures is None:
            measures = measured
        else:
            for name, values in measured.values.items():
                measures.values[name] += values
    if measures is None:
        raise InputError(f"--content {content}: none of the {len(paths)} images can be read; the first: {broken[0]}")
    for line in broken:
        print(f"fastgan: skipped: {line}", file=sys.stderr)
    result = measures.to_json()
    table = Table(title=f"{result['n']} photographs at {SHORT_SIDE} px", title_justify="left", header_style="bold")
    for title in ("", "mean", "std"):
        table.add_column(title, justify="right" if title else "left")
    for name, title in (
        ("ssim", "SSIM"),
        ("psnr", "PSNR, dB"),
        ("style_distance", "style distance"),
        ("content_distance", "content distance"),
    ):
        shown = ("inf" if result[name][key] is None else f"{result[name][key]:.4f}" for key in ("mean", "std"))
        table.add_row(title, *shown)
    Console().print(table)
    if broken:
        print(f"{len(broken)} broken images were skipped")
    if json_ is not None:
        write_text(json_, json.dumps(result, indent=2) + "\n")
    return 0
