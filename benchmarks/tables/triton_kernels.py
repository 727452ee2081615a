"""What every Triton kernel takes of every GPU, compiled without one: registers, shared memory, spills.

python benchmarks/ops/triton_kernels.py benchmarks/results/triton-kernels.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def compiled() -> dict[str, Any]:
    """Every kernel in every configuration for every architecture that is served; takes some minutes."""
    import torch
    import triton

    from fastgan.bench.triton import aot_compile
    from fastgan.bench.triton.aot_calls import CALLS

    rows = []
    for op, found in aot_compile.tables(sorted(CALLS)):
        print(f"{op}: {len(found)} forms for sm_{found[0]['arch']}", file=sys.stderr, flush=True)
        rows += [{"op": op, **row} for row in found]
    return {
        "header": {"triton": triton.__version__, "torch": torch.__version__, "archs": aot_compile.ARCHS},
        "rows": rows,
    }


def table(result: dict[str, Any]) -> str:
    """A line a kernel: the most that it takes in any form, in the configuration chosen by default. The first line says
    which Triton compiled them."""
    archs = result["header"]["archs"]
    lines = [
        f"Compiled by Triton {result['header']['triton']}:",
        "",
        f"| kernel | forms compiled | {' | '.join(f'sm_{arch}' for arch in archs)} | shared memory, bytes | spilled |",
        f"|---|---|{'---|' * len(archs)}---|---|",
    ]
    for kernel in sorted({row["kernel"] for row in result["rows"]}):
        every = [row for row in result["rows"] if row["kernel"] == kernel]
        chosen = [row for row in every if row["chosen"]]
        registers = [max(row["registers"] for row in chosen if row["arch"] == arch) for arch in archs]
        shared, spilled = max(row["shared"] for row in chosen), max(row["spilled"] for row in every)
        cells = [f"`{kernel}`", len(every) // len(archs), *registers, shared, spilled]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    result = compiled()
    path.write_text(json.dumps(result, indent=0) + "\n")
    print(table(result))
