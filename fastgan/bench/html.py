"""A result as one self-contained HTML file."""

from __future__ import annotations

import html

from fastgan.bench.results import Result
from fastgan.bench.tables import Cell, Table, tables
from fastgan.utils.html import STYLE

_STYLE = """
:root { --good: #067647; --bad: #b42318; }
.wide { overflow-x: auto; }
th, td { text-align: right; padding: 4px 12px; white-space: nowrap; }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left; }
tbody tr:first-child td { border-top: 1px solid var(--line); }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
"""
_CAPTION = (
    "Medians of interleaved rounds. “vs best” is the time of the best baseline over this row's: above 1 is faster. "
    "Baselines are eager torch, torch.compile of the reference, and other packages; incorrect results get no ratio. "
    "“limit” is the time that the ceilings below allow over the time taken: moving the bytes at the rate of a copy, or "
    "computing the operations at the peak rate. “floor”, of whole networks, is the time of their convolutions by "
    "themselves over the time taken."
)


def page(result: Result, comparison: Table | None = None) -> str:
    """The tables of a result, its comparison with an older one, and its header."""
    header = result["header"]
    facts = {name: header[name] for name in ("machine", "platform", "device", "threads", "commit", "date")}
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>fastgan benchmark</title><style>{STYLE}{_STYLE}</style><main><h1>Benchmark</h1>",
        f"<div class='dim'>{html.escape(header['machine'])}</div><p>{_CAPTION}</p>",
        *(_table(table) for table in [*tables(result), *([comparison] if comparison else [])]),
        _facts("Ceilings", header["ceilings"]),
        _facts("Versions", header["versions"]),
        _facts("The run", facts),
    ]
    if header["skipped"]:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in header["skipped"])
        parts.append(f"<h2>Left out</h2><ul>{lines}</ul>")
    return "\n".join([*parts, "</main></html>"]) + "\n"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in table.columns)
    bodies = []
    for section in table.sections:
        lines = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in section)
        bodies.append(f"<tbody>{lines}</tbody>")
    drawn = f"<div class='wide'><table><thead><tr>{head}</tr></thead>{''.join(bodies)}</table></div>"
    return f"<h2>{html.escape(table.title)}</h2>{drawn}<p class='dim'>{html.escape(table.caption)}</p>"


def _cell(cell: Cell) -> str:
    mark = f" class='{cell.style}'" if cell.style else ""
    return f"<td{mark}>{html.escape(cell.text)}</td>"


def _facts(title: str, facts: dict[str, object]) -> str:
    lines = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(v))}</td></tr>" for name, v in facts.items())
    return f"<h2>{title}</h2><table>{lines}</table>"
