"""Pictures in and out: files, folders, batches for training, augmentation, the demo's own photographs."""

from fastgan.data.augment import AUGMENTATIONS, augment
from fastgan.data.demo import demo_content, demo_held_out, demo_style
from fastgan.data.folder import Batches, ImageFolder
from fastgan.data.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    MIN_SIDE,
    enlarge_to,
    fit_short_side,
    from_pil,
    is_readable,
    list_images,
    read_image,
    read_picture,
    reduce_short_side,
    write_image,
)
from fastgan.data.loader import LoaderError, default_workers, iterate
from fastgan.data.shards import Photo, ShardImage
from fastgan.data.split import Split, hold_out

__all__ = [
    "AUGMENTATIONS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "Batches",
    "ImageFolder",
    "LoaderError",
    "Photo",
    "ShardImage",
    "Split",
    "augment",
    "default_workers",
    "demo_content",
    "demo_held_out",
    "demo_style",
    "enlarge_to",
    "fit_short_side",
    "from_pil",
    "hold_out",
    "is_readable",
    "iterate",
    "list_images",
    "read_image",
    "read_picture",
    "reduce_short_side",
    "write_image",
]
