"""The table of docs/performance/loader.md from a result of ``fastgan bench loader``.

python benchmarks/tables/loader.py benchmarks/results/MACHINE/loader.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = "| | images a second | processor's ms an image | cores for 1,000 images a second |\n|---|---|---|---|"


def table(result: dict[str, Any]) -> str:
    """One line for each provider, the least CPU time first."""
    rows = sorted(result["rows"], key=lambda row: row["cpu_ms_per_image"])
    lines = [
        f"| {row['provider']} | {row['img_per_s']:.0f} | {row['cpu_ms_per_image']:.2f} "
        f"| {row['cores_for_1000_img_per_s']:.1f} |"
        for row in rows
    ]
    return "\n".join([HEAD, *lines])


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
