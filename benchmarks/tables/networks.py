"""The table of docs/performance/training-step.md from results of ``fastgan bench train`` and ``fastgan bench infer``.

python benchmarks/tables/networks.py benchmarks/results/MACHINE/train-cpu.json [infer-cpu.json ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(result: dict[str, Any]) -> str:
    """One line a provider of every case, the fastest first, with its time over that of fastgan.

    A provider whose result is incorrect gets no figure for its speed.
    """
    rows = [row for row in result["rows"] if row["suite"] in ("train", "infer")]
    lines = [
        "| case | provider | dtype | ms | time over fastgan's | img/s | peak MB | share of the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = sorted((row for row in rows if row["case"] == case), key=lambda row: row["ms_median"])
        fastgan = next((row for row in of_case if row["provider"] == "fastgan" and row["correct"]), None)
        for row in of_case:
            correct = row["correct"]
            cells = [
                case,
                row["provider"],
                row["dtype"],
                f"{row['ms_median']:.0f}" if correct else "wrong",
                f"{row['ms_median'] / fastgan['ms_median']:.2f}x" if correct and fastgan else "",
                f"{row['img_per_s']:.3g}" if correct else "",
                f"{row['peak_mb']:.0f}",
                f"{row['fraction_of_limit']:.2f}" if correct else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(table(json.loads(Path(name).read_text())))
