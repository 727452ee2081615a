"""``python -m fastgan.bench``: ``fastgan bench`` with nothing installed but torch."""

from __future__ import annotations

import os
import sys

from fastgan.bench import options
from fastgan.errors import InputError


def main() -> int:
    """0, or 2 and one line on stderr for bad input."""
    values = options.parse()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the fastgan command: both must measure alike

    from fastgan.bench.run import bench

    try:
        return bench(**values)
    except InputError as error:
        print(f"fastgan: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
