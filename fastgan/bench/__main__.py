"""``python -m fastgan.bench``: the options of ``fastgan bench``, with nothing installed but torch."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fastgan.errors import InputError


def main() -> int:
    """0, or 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fastgan.bench")
    parser.add_argument("what", nargs="?", default="all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, dest="json_file")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--no-compile", action="store_false", dest="compiled", default=None)
    given = vars(parser.parse_args())
    given["only"] = [name.strip() for name in given["only"].split(",") if name.strip()]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the fastgan command: both must measure alike

    from fastgan.bench.run import bench

    try:
        return bench(**given)
    except InputError as error:
        print(f"fastgan: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
