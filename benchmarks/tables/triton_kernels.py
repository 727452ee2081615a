"""Resources of every Triton kernel on every GPU architecture, compiled without a GPU: registers, shared memory, spills.

python benchmarks/tables/triton_kernels.py benchmarks/results/triton-kernels.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def compile_kernels() -> dict[str, Any]:
    """Compile every kernel in kernel_rows configuration for every supported architecture; some minutes."""
    import torch
    import triton

    from fastgan.bench.triton import aot_compile
    from fastgan.bench.triton.aot_calls import CALLS

    rows = []
    for op, op_rows in aot_compile.tables(sorted(CALLS)):
        print(f"{op}: {len(op_rows)} forms for sm_{op_rows[0]['arch']}", file=sys.stderr, flush=True)
        rows += [{"op": op, **row} for row in op_rows]
    return {
        "header": {"triton": triton.__version__, "torch": torch.__version__, "archs": aot_compile.ARCHS},
        "rows": rows,
    }


def table(result: dict[str, Any]) -> str:
    """One line a kernel: its maximum over all forms in the default configuration. The first line names the Triton
    version.
    """
    archs = result["header"]["archs"]
    lines = [
        f"Compiled by Triton {result['header']['triton']}:",
        "",
        f"| kernel | forms compiled | {' | '.join(f'sm_{arch}' for arch in archs)} | shared memory, bytes | spilled |",
        f"|---|---|{'---|' * len(archs)}---|---|",
    ]
    for kernel in sorted({row["kernel"] for row in result["rows"]}):
        kernel_rows = [row for row in result["rows"] if row["kernel"] == kernel]
        default_rows = [row for row in kernel_rows if row["chosen"]]
        registers = [max(row["registers"] for row in default_rows if row["arch"] == arch) for arch in archs]
        shared, spilled = max(row["shared"] for row in default_rows), max(row["spilled"] for row in kernel_rows)
        cells = [f"`{kernel}`", len(kernel_rows) // len(archs), *registers, shared, spilled]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    result = compile_kernels()
    path.write_text(json.dumps(result, indent=0) + "\n")
    print(table(result))
