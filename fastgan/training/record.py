"""The record of a run: the content of ``report.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fastgan.evaluation import Measures
from fastgan.utils.format import dtype_name
from fastgan.utils.system import machine_name
from fastgan.version import __version__

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


def run_record(
    trainer: Trainer, result: Measures | None, seconds: float, lines: list[dict[str, Any]], *, complete: bool
) -> dict[str, Any]:
    """The content of ``report.json``."""
    config, state, photographs = trainer.config, trainer.state, trainer.photographs
    rates = [line["time/img_per_s"] for line in lines[3:]] or [line["time/img_per_s"] for line in lines]
    target = {"ssim": config.quality.target_ssim, "psnr": config.quality.target_psnr}
    return {
        "fastgan": __version__,
        "model": config.model.name,
        "complete": complete,
        "steps": state.step,
        "batch": config.data.batch,
        "size": config.data.size,
        "seconds": round(seconds, 2),
        "img_per_s": sorted(rates)[len(rates) // 2] if rates else None,
        "device": str(trainer.device),
        "dtype": dtype_name(trainer.dtype),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": machine_name(trainer.device),
        "content": {
            "source": config.data.content if photographs is not None else "an iterable",
            "train": len(photographs.batches.folder) if photographs is not None else None,
            "held_out": [path.name for path in photographs.held_out_paths] if photographs is not None else [],
            "held_out_is_trained_on": photographs.shared if photographs is not None else None,
            "broken": {str(path): reason for path, reason in trainer.broken.items()},
        },
        "style": config.data.style,
        "target": {name: value for name, value in target.items() if value is not None},
        "control_weight": None if state.controller is None else state.controller.weight,
        "rollbacks": state.rollbacks,
        "best": None if state.best is None else {"step": state.best.step, "score": state.best.score},
        "decisions": state.decisions,
        "alarms": [{"step": step, "text": text} for step, text in state.alarms],
        "photographs": _measured(trainer.start),
        "result": _measured(result),
    }


def _measured(measures: Measures | None) -> dict[str, Any] | None:
    return measures.to_json() if measures is not None and measures.n else None
