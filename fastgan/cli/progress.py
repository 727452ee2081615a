"""The progress bar of ``fastgan train``, and what it says at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from fastgan.engine.callbacks import Callback, EndEvent, MessageEvent, RollbackEvent, StepEvent

#: Without a terminal, a line each time this share of the run is done.
_LINES = 10


class Progress(Callback):
    """Images a second, time left and current SSIM: a bar in a terminal, ten lines in a log file."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._console = Console(stderr=True)
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
        self._rate: float | None = None
        self._ssim: float | None = None
        self._told = 0
        self._first_elapsed = 0.0
        self._first_progress = 0.0

    def on_start(self, trainer: Any) -> None:
        config, state = trainer.config, trainer.state
        photographs = trainer.photographs
        count = "an iterable" if photographs is None else f"{len(photographs.batches.folder)} photographs"
        held = 0 if photographs is None else len(photographs.held_out)
        dtype = str(trainer.dtype).removeprefix("torch.")
        self._say(
            f"[bold]fastgan[/] {escape(config.model.name)}: {count}, {held} held out, "
            f"style {escape(config.data.style)}, {config.data.batch} x {config.data.size} px, "
            f"{dtype} on {trainer.device}"
        )
        if photographs is not None and photographs.shared:
            self._say("[yellow]too few photographs to hold any out: quality is measured on those trained on[/]")
        if state.step:
            self._say(f"resumed at step {state.step}")
        self._first_elapsed = state.elapsed
        self._first_progress = trainer.budget.progress(state.step, state.elapsed)
        if self._console.is_terminal:
            self._bar.start()
            self._task = self._bar.add_task("training", total=1.0, step=state.step, numbers="", left="-:--")

    def on_step(self, trainer: Any, event: StepEvent) -> None:
        rate, ssim = event.metrics["time/img_per_s"], event.metrics["quality/ssim"]
        self._rate = rate if self._rate is None else 0.9 * self._rate + 0.1 * rate
        self._ssim = ssim if self._ssim is None else 0.9 * self._ssim + 0.1 * ssim
        style = event.metrics["quality/style_distance"]
        numbers = f"{self._rate:.1f} img/s  SSIM {self._ssim:.3f}  style {style:.3f}"
        gained = event.progress - self._first_progress
        spent = trainer.state.elapsed - self._first_elapsed
        left = _clock(spent * (1 - event.progress) / gained) if gained > 0 else "-:--"
        if self._task is not None:
            self._bar.update(self._task, completed=event.progress, step=event.step, numbers=numbers, left=left)
        elif int(event.progress * _LINES) > self._told or event.step == 1:
            self._told = int(event.progress * _LINES)
            self._say(f"{event.progress:>4.0%}  step {event.step}  {numbers}  left {left}")

    def on_rollback(self, trainer: Any, event: RollbackEvent) -> None:
        self._say(
            f"[yellow]a loss was not finite at step {event.step}: back to step {event.restored_step}, "
            f"learning rates x {event.damping:g}[/]"
        )

    def on_message(self, trainer: Any, event: MessageEvent) -> None:
        self._say(f"[yellow]{escape(event.text)}[/]")

    def on_end(self, trainer: Any, event: EndEvent) -> None:
        self._bar.stop()
        report = event.report
        if event.stopped:
            self._say(
                f"stopped at step {report['steps']}; saved. "
                f"Go on with [bold]fastgan train --out {escape(str(self._out))} --resume[/]"
            )
            return
        if report["content"]["broken"]:
            self._say(f"{len(report['content']['broken'])} broken images were skipped")
        if report["content"]["held_out"]:
            self._console.print(_table(report))
        self._say(f"{report['steps']} steps in {_clock(report['seconds'])}")
        self._say(f"pictures  {escape(str(self._out / 'samples'))}")
        self._say(f"report    {escape(str(self._out / 'report.html'))}")
        self._say(f"use it    fastgan stylize {escape(str(self._out))} PHOTO.jpg --out stylized")

    def close(self) -> None:
        self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)


def _table(report: dict[str, Any]) -> Table:
    count = len(report["content"]["held_out"])
    kind = "photographs trained on" if report["content"]["held_out_is_trained_on"] else "photographs not trained on"
    table = Table(title=f"{count} {kind}", title_justify="left", header_style="bold")
    table.add_column("")
    for title in ("photograph", "result"):
        table.add_column(title, justify="right")
    for name, title in (("style_distance", "style distance"), ("ssim", "SSIM"), ("psnr", "PSNR, dB")):
        values = (report["photographs"][name]["mean"], report["result"][name]["mean"])
        table.add_row(title, *("inf" if value is None else f"{value:.3f}" for value in values))
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
