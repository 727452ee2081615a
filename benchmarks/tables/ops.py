"""The table of docs/performance/ops.md from a result of ``fastgan bench ops``: our default beside the baselines.

python benchmarks/tables/ops.py benchmarks/results/MACHINE/ops-cpu.json
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

_WORK = {"ops-forward": "value", "ops-gradient": "value and gradient"}


def table(result: dict[str, Any]) -> str:
    """One line a case of the ops that have kernels.

    It has the time of fastgan, the time of the fastest baseline without and with a compiler over it, and the share of
    the machine's ceilings that is reached. Baselines with incorrect results are left out.
    """
    lines = [
        "| case | dtype | | ms | fastest eager baseline | | torch.compile | share of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (case, dtype, suite), group in itertools.groupby(sorted(result["rows"], key=_case), key=_case):
        rows = list(group)
        if not any(row["provider"] == "fastgan-native" for row in rows):
            continue
        (fastgan,) = [row for row in rows if row["provider"] == "fastgan"]
        baselines = [row for row in rows if not row["provider"].startswith("fastgan") and row["correct"]]
        eager = min(
            (row for row in baselines if row["provider"] != "compiled"), key=lambda row: row["ms_median"], default=None
        )
        compiled = [row for row in baselines if row["provider"] == "compiled"]
        time = fastgan["ms_median"]
        cells = [
            case,
            dtype,
            _WORK[suite],
            f"{time:.2f}",
            eager["provider"] if eager else "none correct",
            f"{eager['ms_median'] / time:.1f}x" if eager else "",
            f"{compiled[0]['ms_median'] / time:.1f}x" if compiled else "",
            f"{fastgan['fraction_of_limit']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _case(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["case"], row["dtype"], row["suite"]


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
