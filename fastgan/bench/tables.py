"""Results as tables in a terminal, with rich or without it, and against an older result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fastgan.bench.ops.providers import is_ours
from fastgan.bench.results import Result, Row, key
from fastgan.utils.statistics import geometric_mean

_COLUMNS = ("case", "provider", "vs peer", "ms", "p20-p80", "GB/s", "GFLOP/s", "limit")
_READING = "vs peer: time of the fastest right peer over this; limit: share of what the machine's ceilings allow"
_WHOLE_COLUMNS = ("case", "provider", "vs peer", "ms", "p20-p80", "img/s", "peak MB", "GFLOP/s", "floor")
_WHOLE_READING = (
    "vs peer: time of the fastest right peer, of the same dtype or float32, over this; peak MB: of the provider's own "
    "process, or of the GPU; floor: time of the bare convolutions over this"
)
#: Suites of whole networks: all dtypes of a case side by side, and other columns.
WHOLE = ("train", "infer")
_COMPARED = ("case", "provider", "ms then", "ms now", "now / then")
_WIDTH = 100


@dataclass(frozen=True)
class Cell:
    """Text, and whether it is good or bad news."""

    text: str
    news: str = ""


@dataclass(frozen=True)
class Table:
    """Sections of lines, apart from one another."""

    title: str
    columns: tuple[str, ...]
    sections: list[list[list[Cell]]]
    caption: str = ""


def tables(result: Result) -> list[Table]:
    """One an op: a section a case, its fastest provider first; and one for each of ``train`` and ``infer``."""
    made = []
    for op, of_op in itertools.groupby(result["rows"], lambda row: row["case"].partition("-")[0]):
        rows, title = list(of_op), f"{op} on {result['header']['machine']}"
        if rows[0]["suite"] in WHOLE:
            sections = [
                _section(list(of_case), _whole_cells) for _, of_case in itertools.groupby(rows, lambda row: row["case"])
            ]
            made.append(Table(title, _WHOLE_COLUMNS, sections, _WHOLE_READING))
        else:
            sections = [
                _section(list(of_case), _cells) for _, of_case in itertools.groupby(rows, lambda row: key(row)[:4])
            ]
            made.append(Table(title, _COLUMNS, sections, _READING))
    return made


def compared(result: Result, old: Result) -> Table:
    """The medians of the rows that both have, this run's over the older one's: below 1 is faster now."""
    before = {key(row): row["ms_median"] for row in old["rows"]}
    rows = [row for row in result["rows"] if key(row) in before]
    sections = []
    for _, of_case in itertools.groupby(rows, lambda row: key(row)[:4]):
        lines = []
        of_case_rows = list(of_case)
        for label, row in _labelled(of_case_rows, of_case_rows[0]):
            if row is None:
                lines.append([Cell(label), *[Cell("")] * 4])
                continue
            ratio = row["ms_median"] / before[key(row)]
            news = "good" if ratio < 0.9 else "bad" if ratio > 1.1 else ""
            times = (Cell(_short(before[key(row)])), Cell(_short(row["ms_median"])))
            lines.append([Cell(label), Cell(row["provider"]), *times, Cell(f"{ratio:.2f}x", news)])
        sections.append(lines)
    means = []
    for title, wanted in (("fastgan", True), ("peers, which tell the machine's own drift", False)):
        ratios = [row["ms_median"] / before[key(row)] for row in rows if is_ours(row["provider"]) is wanted]
        if ratios:
            means.append(f"{geometric_mean(ratios):.2f}x {title}")
    told = f"geometric means: {'; '.join(means)}" if means else "the two results have no row in common"
    return Table("this run against the older one", _COMPARED, sections, told)


def show(table: Table) -> None:
    """Print with rich where it is installed, else as plain text."""
    try:
        from rich.console import Console
    except ImportError:
        print(_plain(table))
        return
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    drawn = RichTable(
        title=table.title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(table.columns):
        drawn.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    styles = {"good": "bold green", "bad": "bold red", "": ""}
    for section in table.sections:
        for line in section:
            drawn.add_row(*(Text(cell.text, style=styles[cell.news]) for cell in line))
        drawn.add_section()
    console.print(drawn)
    if table.caption:
        console.print(f"{table.caption}\n", soft_wrap=True, style="dim", markup=False)


def _plain(table: Table) -> str:
    lines = [line for section in table.sections for line in section]
    widths = [max(len(title), *(len(line[i].text) for line in lines)) for i, title in enumerate(table.columns)]

    def joined(texts: Sequence[str]) -> str:
        cells = (
            text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    out = [table.title, joined(table.columns)]
    for section in table.sections:
        out += ["", *(joined([cell.text for cell in line]) for line in section)]
    return "\n".join([*out, *([table.caption] if table.caption else []), ""])


def _section(rows: list[Row], cells: Callable[[Row | None], list[Cell]]) -> list[list[Cell]]:
    ordered = sorted(rows, key=lambda row: row["ms_median"])
    return [[Cell(label), *cells(row)] for label, row in _labelled(ordered, rows[0])]


def _labelled(rows: list[Row], first: Row) -> Iterator[tuple[str, Row | None]]:
    # The case's parts go down the first column, so that the table keeps to a terminal's width.
    labels = first["case"].split("-")[1:]
    if first["suite"] not in WHOLE:
        labels.append(f"{first['dtype']} {first['suite'].removeprefix('ops-')}")
    for number in range(max(len(labels), len(rows))):
        yield labels[number] if number < len(labels) else "", rows[number] if number < len(rows) else None


def _cells(row: Row | None) -> list[Cell]:
    if row is None:
        return [Cell("")] * 7
    name = f"{row['provider']} ({row['backend']})" if row.get("backend") else row["provider"]
    spread = f"{_short(row['ms_p20'])}-{_short(row['ms_p80'])}"
    rates = [Cell(_short(row["gb_per_s"])), Cell(_short(row["gflop_per_s"])), Cell(f"{row['fraction_of_limit']:.0%}")]
    return [Cell(name), _versus(row), Cell(_short(row["ms_median"])), Cell(spread), *rates]


def _whole_cells(row: Row | None) -> list[Cell]:
    if row is None:
        return [Cell("")] * (len(_WHOLE_COLUMNS) - 1)
    return [
        Cell(f"{row['provider']} {row['dtype']}"),
        _versus(row),
        Cell(_short(row["ms_median"])),
        Cell(f"{_short(row['ms_p20'])}-{_short(row['ms_p80'])}"),
        Cell(_short(row["img_per_s"])),
        Cell(f"{row['peak_mb']:.0f}"),
        Cell(_short(row["gflop_per_s"])),
        Cell(f"{row['fraction_of_limit']:.0%}"),
    ]


def _versus(row: Row) -> Cell:
    ratio = row["ratio_to_best_peer"]
    if not row["correct"]:
        return Cell("wrong", "bad")
    if ratio is None:
        return Cell("no peer")
    return Cell(f"{ratio:.2f}x", ("good" if ratio >= 1 else "bad") if is_ours(row["provider"]) else "")


def _short(value: float) -> str:
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}" if value >= 1 else f"{value:.3f}"
