"""The trade-off between photograph and style: LPIPS against style distance, coverage as color, a point a model.

    python benchmarks/judge.py light=runs/light heavy=runs/heavy --published PEERS/udnie --style udnie.jpg \
        --content BSDS/ --out judged
    python benchmarks/trade_off.py judged/judge.json --out trade-off.png

The models are those that ``judge.py`` measured, on the same photographs: the same training with other weights of the
loss or other targets, for instance. A point to the lower left is better in both; prints the table of the points.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fastgan.errors import FastganError, InputError
from fastgan.evaluation.evaluator import TITLES

#: Columns of the table, with the measures of the two axes and of the color first.
MEASURES = ("lpips", "style_distance", "coverage", "ssim", "luminance_correlation")


def read_points(paths: list[Path]) -> dict[str, dict[str, float]]:
    """The means of each model by its name, without the photograph itself. Raises InputError for other files, and where
    they were measured on other photographs or in another style."""
    points: dict[str, dict[str, float]] = {}
    subjects = set()
    for path in paths:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            subjects.add((record["style"], *record["photographs"]))
            for name, row in record["rows"].items():
                if name != "photograph":
                    points[name] = {measure: float(row[measure]["mean"]) for measure in MEASURES}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path}: is no result of judge.py with LPIPS") from None
    if len(subjects) != 1:
        raise InputError(f"{paths[-1]}: has another style or other photographs than {paths[0]}")
    return points


def table(points: dict[str, dict[str, float]]) -> str:
    """The points in Markdown, the nearest to the photograph first."""
    lines = [f"| model | {' | '.join(TITLES[measure] for measure in MEASURES)} |", f"|---|{'---|' * len(MEASURES)}"]
    for name, values in sorted(points.items(), key=lambda point: point[1]["lpips"]):
        lines.append(f"| {name} | {' | '.join(f'{values[measure]:.3f}' for measure in MEASURES)} |")
    return "\n".join(lines)


def draw(points: dict[str, dict[str, float]], out: Path) -> None:
    """Write the plot as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes: Any = figure.subplots()
    across, up, colors = ([values[measure] for values in points.values()] for measure in MEASURES[:3])
    scatter = axes.scatter(across, up, c=colors, cmap="viridis", vmin=0.0, vmax=1.0, s=90, edgecolors="black")
    for name, x, y in zip(points, across, up, strict=True):
        if name == "published":
            axes.scatter([x], [y], marker="*", s=260, facecolors="none", edgecolors="black")
        axes.annotate(name, (x, y), xytext=(8, 6), textcoords="offset points", fontsize=8)
    axes.margins(0.2)
    axes.set_xlabel("LPIPS to the photograph (0 is the photograph)")
    axes.set_ylabel("style distance (0 is the style)")
    figure.colorbar(scatter, label="coverage")
    figure.savefig(out, format="png")


def main(arguments: list[str] | None = None) -> int:
    """Write the plot and print the table; 0, or 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judged", nargs="+", type=Path, metavar="FILE", help="judge.json of benchmarks/judge.py")
    parser.add_argument("--out", type=Path, required=True, help="the plot, PNG")
    args = parser.parse_args(arguments)
    try:
        points = read_points(args.judged)
        try:
            draw(points, args.out)
        except OSError as error:
            raise InputError(f"--out {args.out}: cannot be written ({error.strerror})") from None
    except FastganError as error:
        print(f"trade_off: {error}", file=sys.stderr)
        return 2
    print(table(points))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
