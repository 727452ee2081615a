"""A sweep over learning rate and batch size (SPEC S18): a loop over configs, nothing more.

    python examples/sweep.py --content PHOTOS/ --style PAINTING.jpg --minutes 3

Every combination gets the same wall time and is measured on the same photographs, held out of training. Add fields to
``GRID`` to sweep over something else; any field of ``config.yaml`` will do.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import fastgan

GRID: dict[str, list[float]] = {"optim.generator.lr": [5e-4, 1e-3, 2e-3], "data.batch": [2, 4, 8]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", default="demo")
    parser.add_argument("--style", default="demo")
    parser.add_argument("--size", type=int, default=128)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=3.0, help="for each combination")
    length.add_argument("--steps", type=int, help="instead of minutes: equal work, not equal time")
    parser.add_argument("--json", type=Path, help="write every result to this file")
    given = parser.parse_args()
    train = {"steps": given.steps} if given.steps else {"minutes": given.minutes}
    results = []
    print(f"{'':40} steps  style distance   SSIM")
    for values in itertools.product(*GRID.values()):
        point = dict(zip(GRID, values, strict=True))
        config = nested({"data.content": given.content, "data.style": given.style, "data.size": given.size, **point})
        title = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in point.items())
        try:
            report = fastgan.Trainer({**config, "train": train}).fit()
        except fastgan.training.DivergenceError as error:
            results.append({**point, "diverged": str(error)})
            print(f"{title:40} {error}", flush=True)
        else:
            style, ssim = (report["result"][name]["mean"] for name in ("style_distance", "ssim"))
            results.append({**point, "steps": report["steps"], "style_distance": style, "ssim": ssim})
            print(f"{title:40} {report['steps']:5} {style:15.3f} {ssim:6.3f}", flush=True)
        if given.json:
            given.json.write_text(json.dumps(results, indent=2) + "\n")


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    """Dotted fields as the mapping of sections that ``Trainer`` takes."""
    config: dict[str, Any] = {}
    for name, value in fields.items():
        *sections, last = name.split(".")
        inner = config
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return config


if __name__ == "__main__":
    main()
