"""The record of a run: the content of ``report.json``."""

from __future__ import annotations

from typing import Any

import torch

from fastgan.evaluation import EvalResult
from fastgan.metrics.lpips import lpips_unavailable_reason
from fastgan.training.callbacks import Run
from fastgan.utils.format import dtype_name
from fastgan.utils.system import machine_name
from fastgan.version import __version__


def run_record(
    run: Run, result: EvalResult | None, seconds: float, lines: list[dict[str, Any]], *, complete: bool
) -> dict[str, Any]:
    """The content of ``report.json``."""
    config, state, photographs = run.config, run.state, run.photographs
    rates = [line["time/img_per_s"] for line in lines[3:]] or [line["time/img_per_s"] for line in lines]
    reason = lpips_unavailable_reason()
    return {
        "fastgan": __version__,
        "model": config.model.name,
        "complete": complete,
        "steps": state.global_step,
        "batch": config.data.batch,
        "size": config.data.size,
        "seconds": round(seconds, 2),
        "img_per_s": sorted(rates)[len(rates) // 2] if rates else None,
        "device": str(run.device),
        "dtype": dtype_name(run.dtype),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": machine_name(run.device),
        "content": {
            "source": config.data.content if photographs is not None else "an iterable",
            "train": len(photographs.batches.folder) if photographs is not None else None,
            "val_images": [path.name for path in photographs.val_paths] if photographs is not None else [],
            "val_is_trained_on": photographs.shared if photographs is not None else None,
            "broken": {str(path): reason for path, reason in run.broken.items()},
        },
        "style": config.data.style,
        "target": {} if config.quality.target is None else dict([config.quality.target]),
        "structure_weight": None if state.controller is None else state.controller.weight,
        "rollbacks": state.rollbacks,
        "best": None if state.best is None else {"step": state.best.step, "score": state.best.score},
        "decisions": state.decisions,
        "changes": [{"step": step, "text": text} for step, text in state.changes],
        "alarms": [{"step": step, "text": text} for step, text in state.alarms],
        "baseline": _measured(run.baseline),
        "result": _measured(result),
        "not_measured": {} if config.data.style is None or reason is None else {"lpips": reason},
    }


def _measured(measures: EvalResult | None) -> dict[str, Any] | None:
    return measures.to_json() if measures is not None and measures.n else None
