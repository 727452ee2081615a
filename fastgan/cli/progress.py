"""The progress bar of ``fastgan train``, and what it says at the end."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from fastgan.evaluation.evaluator import TITLES
from fastgan.training.callbacks.base import Callback, EndEvent, MessageEvent, RollbackEvent, StepEvent
from fastgan.utils.format import dtype_name, printable, shell_quoted

#: Without a terminal, a line each time this share of the run is done.
_LINES = 10


class _Stderr:
    """``sys.stderr`` that no longer matters once it is gone: a terminal that was closed, a pipe that nobody reads, a
    full disk. The run goes on and saves."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except OSError:
            _discard_stderr()
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except OSError:
            _discard_stderr()


def _discard_stderr() -> None:
    # What is left in Python's buffer would fail once more at exit, and make the exit code 120.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):
        os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


class Progress(Callback):
    """Images a second, time left and current quality: a bar in a terminal, ten lines in a log file."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._console = Console(file=cast(IO[str], _Stderr()))
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("step {task.fields[step]}"),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            console=self._console,
        )
        self._task: Any = None
        self._running: dict[str, float] = {}
        self._told = 0
        self._first_elapsed = 0.0
        self._first_progress = 0.0

    def on_start(self, trainer: Any) -> None:
        config, state = trainer.config, trainer.state
        photographs = trainer.photographs
        count = "an iterable" if photographs is None else f"{len(photographs.batches.folder)} photographs"
        held = 0 if photographs is None else len(photographs.val_images)
        dtype = dtype_name(trainer.dtype)
        self._print(
            f"[bold]fastgan[/] {_shown(config.model.name)}: {count}, {held} held out, "
            + (f"style {_shown(config.data.style)}, " if config.data.style is not None else "")
            + f"{config.data.batch} x {config.data.size} px, {dtype} on {trainer.device}"
        )
        if photographs is not None and photographs.shared:
            self._print("[yellow]none is held out: quality is measured on photographs trained on[/]")
        if state.global_step:
            self._print(f"resumed at step {state.global_step}")
        self._first_elapsed = state.train_seconds
        self._first_progress = trainer.run_length.progress(state.global_step, state.train_seconds)
        if self._console.is_terminal:
            self._bar.start()
            self._task = self._bar.add_task("training", total=1.0, step=state.global_step, numbers="", left="-:--")

    def on_step(self, trainer: Any, event: StepEvent) -> None:
        watched = trainer.task.progress_metrics
        for name in ("time/img_per_s", *watched):
            value = event.metrics[name]
            if math.isfinite(value):
                self._running[name] = 0.9 * self._running.get(name, value) + 0.1 * value
        shown = [f"{title} {self._running[name]:.3f}" for name, title in watched.items() if name in self._running]
        numbers = "  ".join([f"{self._running['time/img_per_s']:.1f} img/s", *shown])
        gained = event.progress - self._first_progress
        spent = trainer.state.train_seconds - self._first_elapsed
        left = _clock(spent * (1 - event.progress) / gained) if gained > 0 else "-:--"
        if self._task is not None:
            self._bar.update(self._task, completed=event.progress, step=event.step, numbers=numbers, left=left)
        elif int(event.progress * _LINES) > self._told or event.step == 1:
            self._told = int(event.progress * _LINES)
            self._print(f"{event.progress:>4.0%}  step {event.step}  {numbers}  left {left}")

    def on_rollback(self, trainer: Any, event: RollbackEvent) -> None:
        self._print(f"[yellow]{_shown(event)}[/]")

    def on_message(self, trainer: Any, event: MessageEvent) -> None:
        self._print(f"[yellow]{_shown(event.text)}[/]")

    def on_end(self, trainer: Any, event: EndEvent) -> None:
        self._bar.stop()
        config, report = trainer.config, event.report
        if event.stopped:
            self._print(
                f"stopped at step {report['steps']}; saved. "
                f"Go on with [bold]fastgan train --out {escape(shell_quoted(self._out))} --resume[/]"
            )
            return
        if report["content"]["broken"]:
            self._print(f"{len(report['content']['broken'])} broken images were skipped")
        if report["result"]:
            self._console.print(_table(report, trainer.task.baseline_label))
            for reason in report["not_measured"].values():
                self._print(f"not measured: {_shown(reason)}")
        self._print(f"{report['steps']} steps in {_clock(report['seconds'])}")
        self._print(f"pictures  {_shown(self._out / 'samples')}")
        self._print(f"report    {_shown(self._out / 'report.html')}")
        use = f"stylize {shell_quoted(self._out)} PHOTO.jpg --out stylized"
        if config.data.style is None:
            use = f"generate {shell_quoted(self._out)} --out generated"
        self._print(f"use it    fastgan {escape(use)}")

    def close(self) -> None:
        if self._bar.live.is_started:  # else an empty line would be printed
            self._bar.stop()

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)


def _table(report: dict[str, Any], baseline: str) -> Table:
    result, before = report["result"], report["baseline"]
    if report["style"] is None:
        title = "images from noise, 4 subsets"
    else:
        shared = report["content"]["val_is_trained_on"]
        title = f"{result['n']} photographs {'trained on' if shared else 'not trained on'}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("")
    for column in (baseline, "result"):
        table.add_column(column, justify="right")
    for name, text in TITLES.items():
        if name in result:
            values = (before[name]["mean"] if before else None, result[name]["mean"])
            table.add_row(text, *("inf" if value is None else f"{value:.3f}" for value in values))
    return table


def _shown(text: object) -> str:
    """A text that neither a terminal nor rich's markup takes for more."""
    return escape(printable(text))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
