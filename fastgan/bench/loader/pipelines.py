"""The pipelines that ``fastgan bench loader`` measures, and the photographs that they read.

Each yields batches of ``BATCH`` uint8 crops of ``SIZE`` x ``SIZE`` from photographs reduced to a short side of
``SHORT_SIDE``, half of them flipped, without end. The baselines are what their own documentation shows; their crops
stay uint8, as fastgan's do, though most training loops convert them to float there.
"""

from __future__ import annotations

import contextlib
import io
import random
import tarfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from fastgan.data import CropBatches, ImageFolder, demo_content, demo_val, jpeg, prefetch, read_image

SIZE, SHORT_SIDE, BATCH = 256, 384, 16
#: The usual size of a COCO photograph.
WIDTH, HEIGHT, QUALITY = 640, 480, 90
_SHARDS = 16

#: Makes batches from a folder by a number of worker processes; 0 loads them in the calling thread.
Pipeline = Callable[[Path, int], Generator[Tensor, None, None]]


def write_photographs(folder: Path, count: int) -> int:
    """Write ``count`` JPEGs of 640 x 480 cut out of the demo photographs, and the same in 16 shards; their total bytes.

    Raises:
        InputError: the demo photographs are missing.
    """
    rng = random.Random(0)
    photographs = [Image.fromarray(read_image(path)) for path in [*demo_content(), *demo_val()]]
    loose, shards = folder / "photographs", folder / "shards"
    loose.mkdir()
    shards.mkdir()
    total = 0
    with contextlib.ExitStack() as closing:
        archives = [
            closing.enter_context(tarfile.open(shards / f"{number:02}.tar", "w"))
            for number in range(min(_SHARDS, count))
        ]
        for number in range(count):
            photograph = photographs[number % len(photographs)]
            most = min(photograph.width / WIDTH, photograph.height / HEIGHT)
            scale = most * rng.uniform(0.9, 1)
            left = rng.uniform(0, photograph.width - scale * WIDTH)
            top = rng.uniform(0, photograph.height - scale * HEIGHT)
            box = (left, top, left + scale * WIDTH, top + scale * HEIGHT)
            file = io.BytesIO()
            photograph.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box).save(file, "JPEG", quality=QUALITY)
            name = f"{number:012}.jpg"
            (loose / name).write_bytes(file.getvalue())
            total += len(file.getvalue())
            member = tarfile.TarInfo(name)
            member.size = len(file.getvalue())
            file.seek(0)
            archives[number % len(archives)].addfile(member, file)
    return total


def fastgan(folder: Path, workers: int) -> Generator[Tensor, None, None]:
    """fastgan with worker processes; 0 loads in the calling thread."""
    return _fastgan(folder, workers, depth=2 if workers else 0)


def fastgan_thread(folder: Path, workers: int) -> Generator[Tensor, None, None]:
    """fastgan as in training on a CPU: one background thread, whatever the number of workers."""
    return _fastgan(folder, 0, depth=2 if workers else 0)


def fastgan_pillow(folder: Path, workers: int) -> Generator[Tensor, None, None]:
    """fastgan without simplejpeg."""
    available, jpeg.AVAILABLE = jpeg.AVAILABLE, False  # the processes are started from here
    try:
        yield from fastgan(folder, workers)
    finally:
        jpeg.AVAILABLE = available


def _fastgan(folder: Path, workers: int, *, depth: int) -> Generator[Tensor, None, None]:
    images = ImageFolder(folder / "photographs", size=SIZE, short_side=SHORT_SIDE, cache_bytes=0)
    return prefetch(CropBatches(images, batch=BATCH, seed=0), depth=depth, workers=workers)


class _Files(Dataset[Tensor]):
    """``torchvision.datasets.ImageFolder`` of one class, without it."""

    def __init__(self, folder: Path, transform: Callable[[Any], Tensor], load: Callable[[str], Any]) -> None:
        self.files = [str(path) for path in sorted(folder.iterdir())]
        self.transform = transform
        self.load = load

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.load(self.files[index]))


def torchvision(folder: Path, workers: int) -> Generator[Tensor, None, None]:
    """Pillow and ``torchvision.transforms``, by a ``DataLoader``."""
    return _map_style(_Files(folder / "photographs", _pil_transform(), _load_pil), workers)


def torchvision_v2(folder: Path, workers: int) -> Generator[Tensor, None, None]:
    """``decode_image`` and ``torchvision.transforms.v2`` on uint8 tensors, by a ``DataLoader``."""
    from torchvision.io import ImageReadMode, decode_image, read_file
    from torchvision.transforms import v2

    transform = v2.Compose([v2.Resize(SHORT_SIDE, antialias=True), v2.RandomCrop(SIZE), v2.RandomHorizontalFlip()])
    files = _Files(folder / "photographs", transform, lambda path: decode_image(read_file(path), ImageReadMode.RGB))
    return _map_style(files, workers)


def webdataset(folder: Path, workers: int) -> Generator[Tensor, None, None]:
    """``WebDataset(...).shuffle().decode("pil").map(transform).batched()``, by a ``WebLoader``."""
    import webdataset as wds

    transform = _pil_transform()
    shards = [str(path) for path in sorted((folder / "shards").iterdir())]
    samples = wds.WebDataset(shards, shardshuffle=_SHARDS, nodesplitter=wds.split_by_node).repeat().shuffle(100)
    batches = (
        samples.decode("pil")
        .to_tuple("jpg")
        .map(lambda sample: transform(sample[0]))
        .batched(BATCH, collation_fn=torch.stack)
    )
    return _endless(wds.WebLoader(batches, **_options(workers, batch_size=None)))


#: fastgan, and the baselines by their packages' names.
PIPELINES: dict[str, Pipeline] = {
    "fastgan": fastgan,
    "fastgan-thread": fastgan_thread,
    "fastgan-pillow": fastgan_pillow,
    "torchvision": torchvision,
    "torchvision-v2": torchvision_v2,
    "webdataset": webdataset,
}


def looks_valid(batch: Tensor) -> bool:
    """Whether a batch has the shape and contrast of crops of photographs, in either layout."""
    shapes = ((BATCH, SIZE, SIZE, 3), (BATCH, 3, SIZE, SIZE))
    return batch.dtype == torch.uint8 and tuple(batch.shape) in shapes and bool(np.ptp(batch.numpy()) > 100)


def _load_pil(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _pil_transform() -> Callable[[Any], Tensor]:
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(SHORT_SIDE),
            transforms.RandomCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )


def _map_style(files: Dataset[Tensor], workers: int) -> Generator[Tensor, None, None]:
    # Drawn with replacement without end, so that no end of an epoch stops the workers.
    sampler = RandomSampler(files, replacement=True, num_samples=1 << 30)  # type: ignore[arg-type]
    return _endless(DataLoader(files, sampler=sampler, **_options(workers, batch_size=BATCH)))


def _options(workers: int, batch_size: int | None) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "multiprocessing_context": "fork" if workers else None,
    }


def _endless(loader: Any) -> Generator[Tensor, None, None]:
    batches: Iterator[Tensor] = iter(loader)
    try:
        yield from batches
    finally:
        del batches  # ends the processes
