"""``fastgan profile``."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fastgan.cli.train import check_task, load_settings, train
from fastgan.utils.format import printable

#: Options of ``train`` that ``profile`` lacks, as it has no run.
_RUN_OPTIONS = ("out", "resume")
_TITLES = {
    "data": "data",
    "generator": "G",
    "discriminator": "D",
    "features": "VGG-19",
    "losses": "losses",
    "optimizer": "optimizer",
    "other": "other",
}
_NUM_OPS = 15


def _with_train_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give ``command`` the options of ``train``, which it gets as keywords, between its first and its other ones."""
    first_parameter, *others = inspect.signature(command, eval_str=True).parameters.values()
    train_parameters = inspect.signature(train, eval_str=True).parameters
    parameters = [
        first_parameter,
        *(parameter for name, parameter in train_parameters.items() if name not in _RUN_OPTIONS),
        *(parameter for parameter in others if parameter.kind is not inspect.Parameter.VAR_KEYWORD),
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": int}
    return command


@_with_train_options
def profile(
    out: Annotated[Path, typer.Option(help="The folder to create.", show_default=False)],
    warmup: Annotated[int, typer.Option(help="Steps before any is measured.", min=0, max=10_000)] = 2,
    measure: Annotated[int, typer.Option(help="Steps measured, without a profiler.", min=1, max=10_000)] = 10,
    trace: Annotated[int, typer.Option(help="Steps under the profiler: in the trace.", min=1, max=100)] = 3,
    **options: Any,
) -> int:
    """Show where a training step spends its time: phases, ops, memory, and a trace for ui.perfetto.dev.

    Accepts the options of train. Nothing is saved but profile.json and the trace.
    """
    settings = load_settings(options)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences warnings about optional libraries

    from fastgan.profiling import profiler

    check_task(settings, options["task"])

    profiler.check_out(out)
    result = profiler.run(settings, profiler.ProfileSteps(warmup, measure, trace), _log)
    files = profiler.save(result, out)
    _show(result.report)
    print(f"written  {', '.join(map(printable, files))}: open the trace in https://ui.perfetto.dev")
    return 0


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    step, floor = report["step"], report["floor"]

    def table(title: str, *columns: str) -> Table:
        rich_table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0))
        for number, column in enumerate(columns):
            # Names are shortened to fit 80 columns, numbers are not.
            options: dict[str, Any] = {"justify": "right"} if number else {"max_width": 44, "overflow": "ellipsis"}
            rich_table.add_column(column, no_wrap=True, **options)
        return rich_table

    config, head = report["config"], report["header"]
    title = f"{config['model']['name']}, {config['data']['batch']} x {config['data']['size']} px, "
    phases = table(
        f"{title}{head['dtype']} on {head['device']}", "", "ms", "share", "forward", "backward", "GFLOP", "GFLOP/s"
    )
    for name, phase in report["phases"].items():
        times = (phase["seconds"], phase["forward_seconds"], phase["backward_seconds"])
        total, forward, backward = (_ms(seconds) for seconds in times)
        flop = (f"{phase['conv_gflop']:.2f}", f"{phase['conv_gflop_per_s']:.0f}") if phase["conv_gflop"] else ("", "")
        phases.add_row(_TITLES[name], total, f"{phase['share']:.1%}", forward, backward, *flop)
    median = step["seconds_median"]
    flop = f"{floor['gflop']:.2f}", f"{floor['gflop'] / median:.0f}"
    phases.add_row("step", _ms(median), "", "", "", *flop, style="bold")
    kind = "kernels" if head["device"] == "cuda" else "ops, under the profiler"
    ops = table(f"\n{kind}", "", "self ms", "share", "calls")
    for op in report["ops"][:_NUM_OPS]:
        ops.add_row(Text(op["name"]), _ms(op["self_seconds"]), f"{op['share']:.1%}", f"{op['calls']:.0f}")
    console.print(phases)
    console.print(ops)
    spread = f"{_ms(step['seconds_p20'])} to {_ms(step['seconds_p80'])}"
    print(f"\nstep     {_ms(median)} ms, median of {step['steps_measured']} (p20 to p80: {spread})")
    print(f"speed    {step['img_per_s']:.2f} img/s")
    print(f"memory   {report['memory']['peak_bytes'] / 2**20:,.0f} MiB at the peak")
    print(f"floor    {_ms(floor['seconds'])} ms, {floor['fraction']:.0%} of the step: its convolutions by torch, alone")
    slower = step["profiled_seconds"] / median
    print(f"profiler {_ms(step['profiled_seconds'])} ms a step, {slower:.2f} times as long")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.{0 if seconds >= 1 else 1 if seconds >= 0.01 else 2}f}"


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
