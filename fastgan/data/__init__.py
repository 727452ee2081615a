"""Image data: files, folders, batches for training, augmentation, demo photographs."""

from fastgan.data.augment import AUGMENTATIONS, augment
from fastgan.data.decode import is_readable, read_for_features, read_image, read_picture
from fastgan.data.demo import demo_content, demo_style, demo_val, is_demo, list_photographs, list_styles
from fastgan.data.encode import write_image
from fastgan.data.failures import LoaderError, failure_reason
from fastgan.data.folder import CropBatches, ImageFolder
from fastgan.data.formats import IMAGE_SUFFIXES
from fastgan.data.listing import list_images, same_file
from fastgan.data.loader import default_workers, prefetch
from fastgan.data.picture import MIN_SIDE, Picture, from_pil, picture_from_pil
from fastgan.data.resize import enlarge_to, fit_short_side, reduce_short_side
from fastgan.data.shards import ImagePath, ShardImage
from fastgan.data.split import Split, split_train_val
from fastgan.data.style_variants import style_variants

__all__ = [
    "AUGMENTATIONS",
    "IMAGE_SUFFIXES",
    "MIN_SIDE",
    "CropBatches",
    "ImageFolder",
    "ImagePath",
    "LoaderError",
    "Picture",
    "ShardImage",
    "Split",
    "augment",
    "default_workers",
    "demo_content",
    "demo_style",
    "demo_val",
    "enlarge_to",
    "failure_reason",
    "fit_short_side",
    "from_pil",
    "is_demo",
    "is_readable",
    "list_images",
    "list_photographs",
    "list_styles",
    "picture_from_pil",
    "prefetch",
    "read_for_features",
    "read_image",
    "read_picture",
    "reduce_short_side",
    "same_file",
    "split_train_val",
    "style_variants",
    "write_image",
]
