"""A sheet of styles by photographs: a row a style, its painting first, then what becomes of each photograph.

    python examples/gallery.py runs/wave runs/udnie --content PHOTOS/ --out gallery.jpg
    python examples/gallery.py runs/any --style PAINTINGS/ --content PHOTOS/ --out gallery.jpg

A model of one style gives a row; a model that takes any style gives a row for each picture of ``--style``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fastgan
from fastgan.data import is_readable, list_photographs, list_styles, read_image, write_image
from fastgan.errors import FastganError, InputError
from fastgan.evaluation.image_grid import picture_sheet
from fastgan.inference import Stylizer

SHORT_SIDE = 384


def rows(models: list[str], styles: list[np.ndarray], photographs: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The pictures of each row: a style, and the photographs in it. Raises InputError for a model of another kind."""
    for path in models:
        model = fastgan.load(path)
        if not isinstance(model, Stylizer):
            raise InputError(f"{path}: makes images from noise; give a model that stylizes")
        if not model.takes_any_style:
            yield [square(model.styles[0]), *(model(photograph) for photograph in photographs)]
            continue
        for style in styles or model.styles:
            yield [square(style), *(model(photograph, style=style) for photograph in photographs)]


def square(image: np.ndarray) -> np.ndarray:
    """The middle of an image, so that the columns of a sheet stand one below the other."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def main(arguments: list[str] | None = None) -> int:
    """Write the sheet; 0, or 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a run folder or a model folder")
    parser.add_argument("--style", help="a painting or a folder of them, for models that take any style")
    parser.add_argument("--content", default="demo", help="a photograph, a folder of them, or demo")
    parser.add_argument("--count", type=int, default=4, help="photographs at most")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        paths = [path for path in list_photographs(args.content) if is_readable(path)][: args.count]
        photographs = [square(read_image(path, reduce_to=SHORT_SIDE)) for path in paths]
        styles = [] if args.style is None else [read_image(path) for path in list_styles(args.style)]
        blank = np.full_like(photographs[0], 255)
        write_image(picture_sheet([[blank, *photographs], *rows(args.models, styles, photographs)]), args.out)
    except FastganError as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
