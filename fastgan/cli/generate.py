"""``fastgan generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastgan.cli.options import DEVICE_HELP, PRECISION_HELP
from fastgan.errors import FastganError, InputError
from fastgan.utils.format import printable, shell_quoted
from fastgan.utils.signals import Interrupted

#: Images made at once.
_TOGETHER = 64


def generate(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder of --model dcgan, or its model.")],
    out: Annotated[Path, typer.Option(help="The folder for the images.", show_default=False)],
    count: Annotated[int, typer.Option(help="How many.", min=1, max=1_000_000)] = 16,
    seed: Annotated[int, typer.Option(help="The images follow from it.", min=0, max=2**32 - 1)] = 0,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
) -> int:
    """Make images from noise: 000000.png and so on, in a folder that does not exist yet or is empty."""
    from fastgan.data import write_image
    from fastgan.inference import Sampler, load
    from fastgan.ops import to_pixels

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: already exists; give a new folder")
    sampler = load(model, device=device, precision=precision)
    if not isinstance(sampler, Sampler):
        raise InputError(
            f"{model}: makes pictures from photographs, not from noise; use fastgan stylize {shell_quoted(model)}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be created ({error.strerror})") from None
    number = 0
    try:
        for part in sampler.noise(count, seed=seed).split(_TOGETHER):
            for image in to_pixels(sampler.run(part)).cpu().numpy():
                write_image(image, out / f"{number:06d}.png")
                number += 1
    except Interrupted as stop:
        stop.add_note(f"{number} of {count} images are in {printable(out)}")
        raise
    except InputError as error:
        if number == 0:
            raise
        raise FastganError(f"{error}; {number} of {count} images are in {out}") from error
    print(f"{count} images in {printable(out)}")
    return 0
