"""``fastgan bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    what: Annotated[str, typer.Argument(metavar="[ops|train|infer|loader|all]", help="What to measure.")] = "all",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_: Annotated[Path | None, typer.Option("--json", help="Write header and rows to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="A folder for bench.html and bench.json.")] = None,
    compare: Annotated[Path | None, typer.Option(help="An older result: how do its medians compare?")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, two rounds: does it work?")] = False,
    only: Annotated[str, typer.Option(metavar="OP,...", help="Of the ops these alone.")] = "",
    tune: Annotated[
        bool, typer.Option("--tune", help="First time every configuration of the Triton kernels; keep the fastest.")
    ] = False,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="With torch.compile; the default unless --quick.")
    ] = None,
) -> int:
    """Measure fastgan against plain torch, torch.compile and the packages installed, and against the machine's limits.

    "ops" is every op by itself, "train" the whole training step, "infer" a picture through the network. Providers take
    turns, medians are compared, and a result that is wrong gets no ratio.
    """
    from fastgan.bench.run import bench as run

    names = [name.strip() for name in only.split(",") if name.strip()]
    return run(
        what,
        device=device,
        json_file=json_,
        report=report,
        compare=compare,
        quick=quick,
        only=names,
        compiled=compiled,
        tune=tune,
    )
