"""Results of ``fastgan bench train`` and ``fastgan bench infer`` as a table for docs/performance.md.

python benchmarks/train/table.py benchmarks/results/MACHINE/train-cpu.json [infer-cpu.json ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(result: dict[str, Any]) -> str:
    """A line a provider of every case, the fastest first: how many times as long each takes as fastgan, and the rest.

    A provider whose result is wrong gets no figure for its speed.
    """
    rows = [row for row in result["rows"] if row["suite"] in ("train", "infer")]
    lines = [
        "| case | provider | dtype | ms | time over fastgan's | img/s | peak MB | share of the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = sorted((row for row in rows if row["case"] == case), key=lambda row: row["ms_median"])
        ours = next((row for row in of_case if row["provider"] == "fastgan" and row["correct"]), None)
        for row in of_case:
            right = row["correct"]
            cells = [
                case,
                row["provider"],
                row["dtype"],
                f"{row['ms_median']:.0f}" if right else "wrong",
                f"{row['ms_median'] / ours['ms_median']:.2f}x" if right and ours else "",
                f"{row['img_per_s']:.3g}" if right else "",
                f"{row['peak_mb']:.0f}",
                f"{row['fraction_of_limit']:.2f}" if right else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(table(json.loads(Path(name).read_text())))
