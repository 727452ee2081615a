"""The README's table of results: quality and speed in a few lines, from the files of two machines, or of one twice.

    python benchmarks/tables/summary.py benchmarks/results/MACHINE benchmarks/results/OTHER

The first has the results of ``quality.py``, the second those of ``fastgan bench train`` and ``fastgan bench infer``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: Runs of ``quality.py``: label of the result file -> what was trained.
RUNS = {"demo": "the demo's photographs and painting"}


def table(quality: Path, speed: Path) -> str:
    """The table in Markdown, from the folders of results."""
    lines = ["| measured | result |", "|---|---|"]
    for label, pictures in RUNS.items():
        run = _read(quality, f"quality-{label}")["demo"]
        minutes, seconds = divmod(round(run["wall_seconds"]), 60)
        unseen = run["held_out"]
        lines.append(
            f"| run of {minutes}:{seconds:02d} minutes on {pictures}, measured on {unseen['n']} other photographs "
            f"| coverage {unseen['coverage']:.2f}, style distance {unseen['style_distance']:.3f}, "
            f"LPIPS {unseen['lpips']:.3f}, SSIM {unseen['ssim']:.3f} |"
        )
    lines.append(f"| training step, 4 photographs of 256 px | {_speed(_read(speed, 'train-cpu'))} |")
    lines.append(f"| picture of 512 px through the network | {_speed(_read(speed, 'infer-cpu'))} |")
    return "\n".join(lines)


def _speed(result: dict[str, Any]) -> str:
    """fastgan's median, and the times of the others as multiples of it, each in its fastest dtype."""
    rows = sorted((row for row in result["rows"] if row["correct"]), key=lambda row: row["ms_median"])
    fastest: dict[str, dict[str, Any]] = {}
    for row in rows:
        fastest.setdefault(row["provider"], row)
    fastgan = fastest.pop("fastgan")
    others = (f"{name} {row['ms_median'] / fastgan['ms_median']:.2f}x" for name, row in fastest.items())
    return f"{fastgan['ms_median']:.0f} ms; {', '.join(others)}"


def _read(folder: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return result


if __name__ == "__main__":
    print(table(Path(sys.argv[1]), Path(sys.argv[2])))
