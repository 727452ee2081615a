"""What docs/performance.md has of a result of ``fastgan bench ops``: the path taken by default beside its peers.

python benchmarks/ops/table.py benchmarks/results/MACHINE/ops-cpu.json
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

_WORK = {"ops-forward": "value", "ops-gradient": "value and gradient"}


def table(result: dict[str, Any]) -> str:
    """A line a case of the ops that have kernels.

    How long fastgan takes, how many times as long the fastest peer without and with a compiler takes, and which
    share of what the machine's ceilings allow is reached. A peer whose result is wrong is left out.
    """
    lines = [
        "| case | dtype | | ms | fastest eager peer | | torch.compile | share of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (case, dtype, suite), group in itertools.groupby(sorted(result["rows"], key=_case), key=_case):
        rows = list(group)
        if not any(row["provider"] == "fastgan-native" for row in rows):
            continue
        (ours,) = [row for row in rows if row["provider"] == "fastgan"]
        peers = [row for row in rows if not row["provider"].startswith("fastgan") and row["correct"]]
        eager = min(
            (row for row in peers if row["provider"] != "compiled"), key=lambda row: row["ms_median"], default=None
        )
        compiled = [row for row in peers if row["provider"] == "compiled"]
        time = ours["ms_median"]
        cells = [
            case,
            dtype,
            _WORK[suite],
            f"{time:.2f}",
            eager["provider"] if eager else "none right",
            f"{eager['ms_median'] / time:.1f}x" if eager else "",
            f"{compiled[0]['ms_median'] / time:.1f}x" if compiled else "",
            f"{ours['fraction_of_limit']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _case(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["case"], row["dtype"], row["suite"]


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
