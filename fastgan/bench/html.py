"""A result as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

from fastgan.bench.results import Result
from fastgan.bench.tables import Table, tables
from fastgan.utils.html import render_page

_TEMPLATE = Path(__file__).parent / "page_template.html"


def page(result: Result, comparison: Table | None = None) -> str:
    """The tables of a result, its comparison with an older one, and its header."""
    header = result["header"]
    run = [(name, header[name]) for name in ("machine", "platform", "device", "threads", "commit", "date")]
    ceilings = list(header["ceilings"].items())
    return render_page(
        _TEMPLATE,
        machine=header["machine"],
        tables=[*tables(result), *([comparison] if comparison else [])],
        facts=[
            ("Ceilings", "The most that this machine can do, as measured: “limit” is a share of it.", ceilings),
            ("Versions", "Of the packages that took part.", list(header["versions"].items())),
            ("The run", "Where and when it was measured.", run),
        ],
        skipped=header["skipped"],
    )
