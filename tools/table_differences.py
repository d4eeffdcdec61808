"""Paired differences between two columns (or two rows) of a table's runs, with 95 % intervals.

    python tools/table_differences.py results/tables/image2point/4/modelnet10.csv
        --columns "ResNet-20 FIP-ALL" "ResNet-20 from scratch"
    python tools/table_differences.py results/tables/image2point/7/modelnet10.csv --rows IOmsWb IO

Runs are paired by seed, which draws clouds, new layers and order; the interval is Student's t, uncorrected
for the number of comparisons. Prints a Markdown table with a line for every row (column) that both have.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from pointlift.evaluate.curves import paired_difference
from pointlift.report.tables import markdown_table

Runs = dict[tuple[str, str], dict[int, float]]


def read_runs(file: Path) -> Runs:
    """(row, column) -> seed -> number, of the finished runs."""
    found: Runs = {}
    with file.open(encoding="utf-8", newline="") as handle:
        for line in csv.DictReader(handle):
            if line["status"] == "done" and line["number"]:
                found.setdefault((line["row"], line["column"]), {})[int(line["seed"])] = float(line["number"])
    return found


def differences(runs: Runs, first: str, second: str, by_row: bool) -> list[list[str]]:
    """Lines of first - second for every place along the other axis."""
    lines = []
    places = dict.fromkeys(cell[1] if by_row else cell[0] for cell in runs)
    for place in places:
        a, b = (runs.get((name, place) if by_row else (place, name), {}) for name in (first, second))
        seeds = sorted(a.keys() & b.keys())
        if len(seeds) < 2:
            continue
        d = paired_difference([a[s] for s in seeds], [b[s] for s in seeds])
        lines.append(
            [
                place,
                f"{first} - {second}",
                f"{d.mean:+.2f}",
                f"{d.ci_low:+.2f} to {d.ci_high:+.2f}",
                d.verdict,
                str(len(seeds)),
            ]
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the CSV that pointlift table wrote")
    parser.add_argument("--columns", nargs=2, action="append", default=[], metavar=("A", "B"))
    parser.add_argument("--rows", nargs=2, action="append", default=[], metavar=("A", "B"))
    args = parser.parse_args()
    if not args.file.is_file():
        parser.error(f"there is no file {args.file}: pointlift table writes it when a table has run")
    runs = read_runs(args.file)
    names = [{cell[0] for cell in runs}, {cell[1] for cell in runs}]
    lines: list[list[str]] = []
    for pairs, by_row in ((args.columns, False), (args.rows, True)):
        for first, second in pairs:
            for name in (first, second):
                if name not in names[0 if by_row else 1]:
                    kind = "row" if by_row else "column"
                    parser.error(
                        f"{args.file} has no {kind} {name!r}, one of "
                        f"{', '.join(sorted(names[0 if by_row else 1]))} is expected"
                    )
            lines += differences(runs, first, second, by_row)
    print(markdown_table(["where", "difference", "mean", "95 % interval", "verdict", "seeds"], lines))


if __name__ == "__main__":
    main()
