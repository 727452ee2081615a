"""Runs small enough for a test: pictures, fields of the config, watchers, comparisons."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fastgan.inference import Stylizer
from fastgan.metrics.lpips import lpips_unavailable_reason
from fastgan.training import Callback, Trainer
from fastgan.training.tasks import StylizeTask

#: A run that costs some 20 ms a step; untrained features, so that no weights file is read.
TINY: dict[str, Any] = {
    "model.features": "random",
    "model.generator.width": 4,
    "model.generator.depth": 1,
    "model.discriminator.width": 4,
    "model.discriminator.depth": 2,
    "data.size": 32,
    "data.batch": 2,
    "data.val_images": 2,
    "data.prefetch": 1,
    "loss.adversarial": 0.1,
    "train.steps": 4,
    "train.precision": "fp32",
    "train.device": "cpu",
    "train.compile": False,
    "eval.every": 2,
    "checkpoint.every": 1000,
    "log.samples_every": 1000,
    "log.tensorboard": False,
}

#: What DESIGN's run-folder contract promises in every line of metrics.jsonl.
METRICS = {
    "step",
    "loss/g",
    "loss/d",
    "loss/g_adversarial",
    "loss/total",
    "loss/content",
    "loss/style",
    "train/ssim",
    "train/psnr",
    "train/style_distance",
    "train/diversity",
    "time/step",
    "time/data",
    "time/img_per_s",
    "memory/peak_bytes",
}

#: Measures of pictures, of two or more.
MEASURES = {
    "ssim",
    "psnr",
    "style_distance",
    "content_distance",
    "coverage",
    "window_style_distance",
    "luminance_correlation",
    "fixed_pattern",
    *(() if lpips_unavailable_reason() else ("lpips",)),
}
#: What one picture alone has of them.
MEASURES_OF_ONE = MEASURES - {"fixed_pattern"}


def picture(height: int, width: int, seed: int, *, busy: bool = False) -> np.ndarray:
    """Waves of random direction and color with a little noise, (H, W, 3) uint8: structure at several scales."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 40
    waves = sum(
        rng.normal(size=3)
        * np.sin(rng.uniform(2, 30 if busy else 9) * x + rng.uniform(2, 30 if busy else 9) * y)[..., None]
        for _ in range(4)
    )
    noise = rng.normal(size=(height, width, 3))
    return np.clip(128 + 45 * waves + 6 * noise, 0, 255).astype(np.uint8)


def save_picture(pixels: np.ndarray, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def batch(seed: int, count: int = 2, size: int = 32) -> torch.Tensor:
    """uint8 (N, H, W, 3)."""
    return torch.from_numpy(np.stack([picture(size, size, 1000 * seed + image) for image in range(count)]))


def floats(seed: int, count: int = 2, size: int = 32) -> torch.Tensor:
    """The same pictures as float (N, 3, H, W) in [-1, 1]."""
    return batch(seed, count, size).permute(0, 3, 1, 2).float() / 127.5 - 1


class StopAt(Callback):
    """Asks a run to stop after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, event: Any) -> None:
        if event.step == self.step:
            trainer.request_stop()


class Recorder(Callback):
    """Every event, in order, as (name, event)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda trainer, event=None: self.events.append((name, event))
        return super().__getattribute__(name)

    def close(self) -> None:
        self.events.append(("close", None))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def of(self, name: str) -> list[Any]:
        return [event for kind, event in self.events if kind == name]


def task_of(trainer: Trainer) -> StylizeTask:
    assert isinstance(trainer.task, StylizeTask)
    return trainer.task


def stylizer_of(trainer: Trainer) -> Stylizer:
    model = trainer.model()
    assert isinstance(model, Stylizer)
    return model


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts and lists, by dotted name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from flat(item, f"{name}.{index}")
    else:
        yield name, value


def differences(one: Any, other: Any) -> list[str]:
    """Names of the leaves that are not the same bits; times are left out."""
    left, right = dict(flat(one)), dict(flat(other))
    unequal = set(left) ^ set(right)
    for name in set(left) & set(right):
        a, b = left[name], right[name]
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
        if not same:
            unequal.add(name)
    return sorted(
        name for name in unequal if name != ".train_seconds" and "time/" not in name and "memory/" not in name
    )


def read_lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if not key.startswith(("time/", "memory/"))} for line in lines]


def fingerprint(folder: Path) -> dict[str, str]:
    """Path and hash of every file below, and the folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }
