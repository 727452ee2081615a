"""``python -m fastgan.bench``: ``fastgan bench`` with nothing installed but torch."""

from __future__ import annotations

import os
import sys

from fastgan.bench import options
from fastgan.errors import InputError
from fastgan.utils.format import printable
from fastgan.utils.signals import Interrupted, interruptible


def main() -> int:
    """0, 2 and one line on stderr for bad input, 128 + n where the signal n ends it."""
    values = options.parse()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the fastgan command: both must measure alike

    from fastgan.bench.run import bench

    try:
        with interruptible():
            return bench(**values)
    except InputError as error:
        print(f"fastgan: {printable(error)}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"fastgan: {stop}", file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())
