"""Tables of results in a terminal, with or without rich, and comparison with an older result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fastgan.bench.ops.providers import is_fastgan
from fastgan.bench.results import Result, Row, key
from fastgan.utils.statistics import geometric_mean

_COLUMNS = ("case", "provider", "vs best", "ms", "p20-p80", "GB/s", "GFLOP/s", "limit")
_CAPTION = "vs best: time of the fastest correct baseline over this; limit: share of the machine's ceilings"
_NETWORK_COLUMNS = ("case", "provider", "vs best", "ms", "p20-p80", "img/s", "peak MB", "GFLOP/s", "floor")
_NETWORK_CAPTION = (
    "vs best: time of the fastest correct baseline, of the same dtype or float32, over this; peak MB: of the "
    "provider's own process, or of the GPU; floor: time of the bare convolutions over this"
)
#: Suites of whole networks: one table section for all dtypes of a case, and other columns.
NETWORK_SUITES = ("train", "infer")
_COMPARED = ("case", "provider", "ms then", "ms now", "now / then")
_WIDTH = 100


@dataclass(frozen=True)
class Cell:
    """Text, and its style: ``good``, ``bad`` or none."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table of separated sections of lines."""

    title: str
    columns: tuple[str, ...]
    sections: list[list[list[Cell]]]
    caption: str = ""


def tables(result: Result) -> list[Table]:
    """One table an op, with a section a case, its fastest provider first; one each for ``train`` and ``infer``."""
    result_tables = []
    for op, of_op in itertools.groupby(result["rows"], lambda row: row["case"].partition("-")[0]):
        rows, title = list(of_op), f"{op} on {result['header']['machine']}"
        if rows[0]["suite"] in NETWORK_SUITES:
            sections = [
                _section(list(of_case), _network_cells)
                for _, of_case in itertools.groupby(rows, lambda row: row["case"])
            ]
            result_tables.append(Table(title, _NETWORK_COLUMNS, sections, _NETWORK_CAPTION))
        else:
            sections = [
                _section(list(of_case), _cells) for _, of_case in itertools.groupby(rows, lambda row: key(row)[:4])
            ]
            result_tables.append(Table(title, _COLUMNS, sections, _CAPTION))
    return result_tables


def compare(result: Result, old: Result) -> Table:
    """The medians of common rows, this run's over the older one's: below 1 is faster now."""
    before = {key(row): row["ms_median"] for row in old["rows"]}
    rows = [row for row in result["rows"] if key(row) in before]
    sections = []
    for _, of_case in itertools.groupby(rows, lambda row: key(row)[:4]):
        lines = []
        of_case_rows = list(of_case)
        for label, row in _with_labels(of_case_rows, of_case_rows[0]):
            if row is None:
                lines.append([Cell(label), *[Cell("")] * 4])
                continue
            ratio = row["ms_median"] / before[key(row)]
            style = "good" if ratio < 0.9 else "bad" if ratio > 1.1 else ""
            times = (Cell(_format_number(before[key(row)])), Cell(_format_number(row["ms_median"])))
            lines.append([Cell(label), Cell(row["provider"]), *times, Cell(f"{ratio:.2f}x", style)])
        sections.append(lines)
    means = []
    for title, of_fastgan in (("fastgan", True), ("baselines, which show the drift of the machine", False)):
        ratios = [row["ms_median"] / before[key(row)] for row in rows if is_fastgan(row["provider"]) is of_fastgan]
        if ratios:
            means.append(f"{geometric_mean(ratios):.2f}x {title}")
    caption = f"geometric means: {'; '.join(means)}" if means else "the two results have no row in common"
    return Table("this run against the older one", _COMPARED, sections, caption)


def show(table: Table) -> None:
    """Print with rich if it is installed, else as plain text."""
    try:
        from rich.console import Console
    except ImportError:
        print(_to_text(table))
        return
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    rich_table = RichTable(
        title=table.title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(table.columns):
        rich_table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    styles = {"good": "bold green", "bad": "bold red", "": ""}
    for section in table.sections:
        for line in section:
            rich_table.add_row(*(Text(cell.text, style=styles[cell.style]) for cell in line))
        rich_table.add_section()
    console.print(rich_table)
    if table.caption:
        console.print(f"{table.caption}\n", soft_wrap=True, style="dim", markup=False)


def _to_text(table: Table) -> str:
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
    return [[Cell(label), *cells(row)] for label, row in _with_labels(ordered, rows[0])]


def _with_labels(rows: list[Row], first: Row) -> Iterator[tuple[str, Row | None]]:
    # The parts of the case are in the first column, one a line, so that the table fits a terminal.
    labels = first["case"].split("-")[1:]
    if first["suite"] not in NETWORK_SUITES:
        labels.append(f"{first['dtype']} {first['suite'].removeprefix('ops-')}")
    for number in range(max(len(labels), len(rows))):
        yield labels[number] if number < len(labels) else "", rows[number] if number < len(rows) else None


def _cells(row: Row | None) -> list[Cell]:
    if row is None:
        return [Cell("")] * 7
    name = f"{row['provider']} ({row['backend']})" if row.get("backend") else row["provider"]
    spread = f"{_format_number(row['ms_p20'])}-{_format_number(row['ms_p80'])}"
    rates = [Cell(_format_number(row[name])) for name in ("gb_per_s", "gflop_per_s")]
    limit = Cell(f"{row['fraction_of_limit']:.0%}")
    return [Cell(name), _ratio_cell(row), Cell(_format_number(row["ms_median"])), Cell(spread), *rates, limit]


def _network_cells(row: Row | None) -> list[Cell]:
    if row is None:
        return [Cell("")] * (len(_NETWORK_COLUMNS) - 1)
    return [
        Cell(f"{row['provider']} {row['dtype']}"),
        _ratio_cell(row),
        Cell(_format_number(row["ms_median"])),
        Cell(f"{_format_number(row['ms_p20'])}-{_format_number(row['ms_p80'])}"),
        Cell(_format_number(row["img_per_s"])),
        Cell(f"{row['peak_mb']:.0f}"),
        Cell(_format_number(row["gflop_per_s"])),
        Cell(f"{row['fraction_of_limit']:.0%}"),
    ]


def _ratio_cell(row: Row) -> Cell:
    ratio = row["ratio_to_best_peer"]
    if not row["correct"]:
        return Cell("wrong", "bad")
    if ratio is None:
        return Cell("none")
    return Cell(f"{ratio:.2f}x", ("good" if ratio >= 1 else "bad") if is_fastgan(row["provider"]) else "")


def _format_number(value: float) -> str:
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}" if value >= 1 else f"{value:.3f}"
