"""``fastgan stylize``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fastgan.errors import InputError


def stylize(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder or its model folder.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The folder for the results.", show_default=False)],
    strength: Annotated[float, typer.Option(help="0 is the picture itself, 1 the full style.", min=0, max=1)] = 1.0,
    style: Annotated[
        Path | None, typer.Option(help="The style image, for a model trained with --model fusion.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="At most this many pixels a side at once, for pictures beyond memory.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> int:
    """Stylize pictures: one file an input, same name, same size."""
    from fastgan.data import list_images, read_picture, write_image

    jobs = plan([(path, list_images(path, shards=False, repeats=True)) for path in inputs], out)
    _check_choice("--precision", precision, ("auto", "fp32", "bf16", "fp16"))
    _check_choice("--device", device, ("auto", "cpu", "cuda"))

    from rich.console import Console
    from rich.progress import track

    from fastgan.data import read_for_features
    from fastgan.inference import Sampler, load

    stylizer = load(model, device=device, precision=precision)
    if isinstance(stylizer, Sampler):
        raise InputError(f"{model}: makes images from noise and takes no pictures; use fastgan generate {model}")
    code = None
    if style is not None:
        if not stylizer.takes_any_style:
            raise InputError(
                f"--style {style}: this model holds the one style that it was trained on; train with --model fusion"
            )
        code = stylizer.code(read_for_features(style))
    if tile is not None and tile < stylizer.min_tile:
        raise InputError(f"--tile {tile}: this model needs at least {stylizer.min_tile}")
    console = Console(stderr=True)
    broken: list[str] = []
    for source, target in track(jobs, "stylizing", console=console, disable=not console.is_terminal):
        try:
            picture = read_picture(source)
            if min(picture.pixels.shape[:2]) < stylizer.min_side:
                size = f"{picture.pixels.shape[1]} x {picture.pixels.shape[0]}"
                raise InputError(f"{source}: too small, {size} px; this model needs {stylizer.min_side} px a side")
        except InputError as error:
            if len(jobs) == 1:
                raise
            broken.append(str(error))
            continue
        result = stylizer(picture.pixels, strength=strength, code=code, tile=tile)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {out}: cannot be created ({error.strerror})") from None
        write_image(result, target, alpha=picture.alpha, icc_profile=picture.icc_profile, dpi=picture.dpi)
    if len(broken) == len(jobs):
        raise InputError(f"none of the {len(jobs)} pictures can be read; the first: {broken[0]}")
    for line in broken:
        print(f"fastgan: skipped: {line}", file=sys.stderr)
    print(f"{len(jobs) - len(broken)} pictures in {out}" + (f", {len(broken)} skipped" if broken else ""))
    return 0


def plan(inputs: list[tuple[Path, list[Path]]], out: Path) -> list[tuple[Path, Path]]:
    """(source, target) of every picture: a file goes to ``out/name``, a folder's keep their places under ``out``.

    A picture that is given twice with one target, by whatever spelling or link, is taken once; a line on stderr counts
    those.

    Raises:
        InputError: two inputs would become one file, a result would replace an input, or has a name without the suffix
            of a format that can be written.
    """
    from fastgan.data import IMAGE_SUFFIXES, same_file

    jobs: dict[Path, Path] = {}
    repeated: list[Path] = []
    sources = {source.resolve() for _, files in inputs for source in files}
    for argument, files in inputs:
        for source in files:
            target = out / (source.relative_to(argument) if argument.is_dir() else source.name)
            if target in jobs and same_file(source, jobs[target]):
                repeated.append(source)
                continue
            if target in jobs:
                raise InputError(f"{source}: would be written to {target}, as {jobs[target]} would; rename one")
            if target.resolve() in sources:
                raise InputError(f"--out {out}: {target} would replace an input; give another folder")
            if target.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(
                    f"{source}: its result cannot be written; names end in {' '.join(sorted(IMAGE_SUFFIXES))}"
                )
            jobs[target] = source
    for argument, _ in inputs:
        if argument.is_dir() and out.resolve().is_relative_to(argument.resolve()):
            raise InputError(f"--out {out}: lies inside the input {argument}; give a folder beside it")
    if repeated:
        print(f"fastgan: given more than once, taken once: {len(repeated)} (first {repeated[0]})", file=sys.stderr)
    return [(source, target) for target, source in jobs.items()]


def _check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{option} {value}: expected one of {', '.join(allowed)}")
