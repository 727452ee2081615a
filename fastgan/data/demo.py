"""The images of ``--content demo`` and ``--style demo``, without a download.

The photographs are those that every scikit-image wheel from 0.22 to 0.26 carries; its folder is found without
importing the package, which would take a second and needs SciPy.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastgan.data.decode import PathLike
from fastgan.data.listing import list_images
from fastgan.data.shards import ImagePath
from fastgan.errors import InputError
from fastgan.utils.reserved import DATA_WORDS, is_reserved

# Scenes first, then textures, which teach what a style does to fine detail. Left out are drawings, text, and
# pictures that are mostly one flat tone (moon, cell, clock_motion, coins).
_TRAIN = (
    "astronaut.png",
    "camera.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "grass.png",
    "gravel.png",
)
# A face in soft focus and a still life with hard edges; nothing like either is trained on.
_VAL = ("chelsea.png", "coffee.png")


def is_demo(source: PathLike | None) -> bool:
    """Whether ``data.content`` or ``data.style`` means what comes with fastgan, and no folder of that name."""
    return is_reserved(source, DATA_WORDS)


def list_photographs(content: PathLike) -> list[ImagePath]:
    """The photographs to measure on that ``content`` means: those that the demo holds out, a file, or those of a folder
    or shard. Errors as ``list_images``."""
    return list(demo_val()) if is_demo(content) else list_images(content)


def list_styles(style: PathLike) -> list[ImagePath]:
    """The style images that ``data.style`` means: the demo's, a file, or those of a folder. Errors: ``list_images``."""
    return [demo_style()] if is_demo(style) else list_images(style)


def demo_content() -> list[Path]:
    """The photographs for training. Raises InputError where scikit-image is not installed or has none of them."""
    return _photographs(_TRAIN)


def demo_val() -> list[Path]:
    """Two color photographs for validation, not in ``demo_content``. Raises InputError as it does."""
    return _photographs(_VAL)


def demo_style() -> Path:
    """The style image that comes with fastgan. Raises InputError where the installation lacks it."""
    path = Path(__file__).parent / "assets" / "demo_style.jpg"
    if not path.is_file():
        raise InputError(f"{path}: the demo's style image is missing; reinstall fastgan or give data.style=FILE")
    return path


def _photographs(names: tuple[str, ...]) -> list[Path]:
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "demo photographs come with scikit-image, which is not installed; "
            "run 'pip install scikit-image' or give data.content=DIR"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    paths = [folder / name for name in names if (folder / name).is_file()]
    if not paths:
        raise InputError(f"{folder}: this scikit-image has none of the demo photographs; give data.content=DIR")
    return paths
