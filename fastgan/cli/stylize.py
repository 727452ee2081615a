"""``fastgan stylize``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli.failures import SOME_FAILED, has_no_place, item_line, tell_skipped
from fastgan.cli.messages import print_line
from fastgan.cli.options import DEVICE_HELP, PRECISION_HELP
from fastgan.errors import FastganError, InputError
from fastgan.utils.choices import DEVICES, PRECISIONS, check_choice
from fastgan.utils.format import printable, shell_quoted
from fastgan.utils.reserved import ANY_STYLE
from fastgan.utils.signals import Interrupted

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fastgan.inference import Stylizer

#: What helps where a picture does not fit into memory.
MEMORY_ADVICE = "give --tile"


def stylize(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|MODEL] INPUT...",
            help="A run folder, its model folder or any-style, which comes with fastgan and is meant where none is "
            "given; then pictures, or folders of them.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The folder for the results; for one picture also its name.", show_default=False)
    ],
    strength: Annotated[float, typer.Option(help="0 is the picture itself, 1 the full style.", min=0, max=1)] = 1.0,
    style: Annotated[
        str | None,
        typer.Option(help="The style image, or demo, for any-style or a model trained with --model fusion."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="At most this many pixels a side at once, for pictures beyond memory.")
    ] = None,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
) -> int:
    """Stylize pictures: one file an input, same name, same size.

    A picture that cannot be stylized is named, counted and passed over; the exit code is 3 then.
    """
    from fastgan.data import list_images

    model, inputs = split_arguments(arguments)
    if model == ANY_STYLE and style is None:
        raise InputError("--style: the model any-style has no style of its own; give a painting, or demo")
    jobs = plan([(path, list_images(path, shards=False, repeats=True)) for path in inputs], out)
    check_choice("--precision", precision, PRECISIONS)
    check_choice("--device", device, DEVICES)

    from fastgan.inference import Sampler, load

    stylizer = load(model, device=device, precision=precision)
    if isinstance(stylizer, Sampler):
        raise InputError(
            f"{model}: makes images from noise and takes no pictures; use fastgan generate {shell_quoted(model)}"
        )
    code = _code(stylizer, style)
    if tile is not None and tile < stylizer.min_tile:
        raise InputError(f"--tile {tile}: this model needs at least {stylizer.min_tile}")

    def make(source: Path, target: Path) -> None:
        _stylize_one(stylizer, source, target, partial(stylizer, strength=strength, code=code, tile=tile), out)

    done, failed = _each(jobs, make, out)
    tell_skipped(failed)
    print(f"{done} {'picture' if done == 1 else 'pictures'} in {printable(out)}", end="")
    print(f", {len(failed)} skipped" if failed else "")
    return SOME_FAILED if failed else 0


def split_arguments(arguments: list[str]) -> tuple[str, list[Path]]:
    """The model and the inputs: without a model, ``any-style``. The first argument is an input where it is the only one
    or has the suffix of a picture.

    Raises:
        InputError: it is the only one, and a model.
    """
    from fastgan.data import IMAGE_SUFFIXES
    from fastgan.inference import find_model

    first, *others = arguments
    if others and Path(first).suffix.lower() not in IMAGE_SUFFIXES:
        return first, [Path(name) for name in others]
    if not others:
        try:
            find_model(first)
        except InputError:
            pass
        else:
            raise InputError(f"INPUT: is missing; give pictures after the model {first}")
    return ANY_STYLE, [Path(name) for name in arguments]


def _code(stylizer: Stylizer, style: str | None) -> Tensor | None:
    """The code of ``--style``; None without one."""
    from fastgan.data import demo_style, is_demo, read_for_features

    if style is None:
        return None
    if not stylizer.takes_any_style:
        raise InputError(
            f"--style {style}: this model holds the one style that it was trained on; train with --model fusion"
        )
    return stylizer.code(read_for_features(demo_style() if is_demo(style) else style))


def _each(jobs: list[tuple[Path, Path]], make: Callable[[Path, Path], None], out: Path) -> tuple[int, list[str]]:
    """Make every (source, target), whatever one of them raises: how many are done, and a line for each that is not.

    Raises:
        FastganError: none could be made, or the disk is full; the line says how many were made.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    done, failed = 0, list[str]()
    try:
        for source, target in track(jobs, "stylizing", console=console, disable=not console.is_terminal):
            try:
                make(source, target)
                done += 1
            except Exception as error:
                line = item_line(source, error, MEMORY_ADVICE)
                if done and has_no_place(error):
                    tell_skipped(failed)
                    raise FastganError(f"{line}; {done} of {len(jobs)} pictures are in {out}") from error
                if len(jobs) == 1 or has_no_place(error):
                    raise InputError(line) from error
                failed.append(line)
    except Interrupted as stop:
        tell_skipped(failed)
        stop.add_note(f"{done} of {len(jobs)} pictures are in {printable(out)}")
        raise
    if not done:
        raise InputError(f"none of the {len(jobs)} pictures can be stylized; the first: {failed[0]}")
    return done, failed


def _stylize_one(
    stylizer: Stylizer, source: Path, target: Path, run: Callable[[np.ndarray], np.ndarray], out: Path
) -> None:
    from fastgan.data import read_picture, write_image

    picture = read_picture(source)
    if min(picture.pixels.shape[:2]) < stylizer.min_side:
        size = f"{picture.pixels.shape[1]} x {picture.pixels.shape[0]}"
        raise InputError(f"{source}: too small, {size} px; this model needs {stylizer.min_side} px a side")
    result = run(picture.pixels)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be created ({error.strerror})") from error
    write_image(result, target, alpha=picture.alpha, icc_profile=picture.icc_profile, dpi=picture.dpi)


def plan(inputs: list[tuple[Path, list[Path]]], out: Path) -> list[tuple[Path, Path]]:
    """(source, target) of every picture: a file goes to ``out/name``, a folder's keep their places under ``out``. The
    only picture goes to ``out`` itself, where that has the suffix of one and is no folder.

    A picture that is given twice with one target, by whatever spelling or link, is taken once; a line on stderr counts
    those.

    Raises:
        InputError: ``out`` names one picture, and there are more, or one in a format that is not written; two inputs
            would become one file, a result would replace an input, or has a name without the suffix of a format that
            can be written.
    """
    from fastgan.data import IMAGE_SUFFIXES, same_file

    one = out.suffix.lower() in IMAGE_SUFFIXES and not os.path.isdir(out)
    if os.path.exists(out) and not os.path.isdir(out) and not one:
        raise InputError(f"--out {out}: is a file; give a folder, or for one picture a name that ends as one")
    if not one and not os.path.isdir(out) and (guess_type(out.name, strict=False)[0] or "").startswith("image/"):
        raise InputError(
            f"--out {out}: a {out.suffix} cannot be written; names end in {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    jobs: dict[Path, Path] = {}
    repeated: list[Path] = []
    sources = {source.resolve() for _, files in inputs for source in files}
    for argument, files in inputs:
        for source in files:
            target = out if one else out / (source.relative_to(argument) if argument.is_dir() else source.name)
            if target in jobs and same_file(source, jobs[target]):
                repeated.append(source)
                continue
            if one and (target in jobs or argument.is_dir()):
                raise InputError(f"--out {out}: is the name of one picture, and more are given; give a folder")
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
        print_line(f"given more than once, taken once: {len(repeated)} (first {repeated[0]})")
    return [(source, target) for target, source in jobs.items()]
