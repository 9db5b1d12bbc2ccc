"""This commit beside another one, in turn on one machine: what got slower?

    python -m benchmarks.against COMMIT [--only train answers …] [--out runs/against] [--turns 2]

Each section of benchmarks/bench.py runs by the other commit, by this one, by this one and by the other one again: what
drifts on a machine falls on both alike. A commit's figure is the median of its turns' ratios to the peer; benches of
different days are not to be compared. The working tree is this commit, changes included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

COMPARED = ("train", "answers", "round", "generate", "memory")
"""Sections whose ratio is how many times better than the peer."""
LEAST = 0.97
"""Of the other commit's ratio; what has less is marked."""
Key = tuple[str, str, int]
"""Of a row: name, size, digits."""
ROOT = Path(__file__).resolve().parents[1]


def unpack(commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def ratios(tree: Path, section: str, out: Path) -> dict[Key, float]:
    """Return the ratios of a section's rows, measured by the files of a tree; ``out`` keeps them."""
    command = [sys.executable, "-m", "benchmarks.bench", "--only", section, "--out", str(out)]
    subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
    return {(row["name"], row["size"], row["difficulty"]): row["ratio"] for row in json.loads(out.read_text())}


def table(before: dict[Key, list[float]], now: dict[Key, list[float]]) -> Table:
    """Return medians of both commits, and their quotient, of the rows that both have."""
    made = Table("name", "size", "digits", "before", "now", "now / before")
    for key in sorted(before.keys() & now.keys()):
        old, new = (statistics.median(each[key]) for each in (before, now))
        mark = "" if new >= LEAST * old else f"  less than {LEAST}"
        made.add_row(key[0], key[1], str(key[2]), f"{old:.2f}", f"{new:.2f}", f"{new / old:.3f}{mark}")
    return made


def main() -> None:
    """Measure both commits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--only", nargs="+", choices=COMPARED, default=list(COMPARED))
    parser.add_argument("--turns", type=int, default=2, help="of each commit (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/against"), help="new folder for the results")
    given = parser.parse_args()
    out = given.out.resolve()
    unpack(given.commit, out / "tree")
    trees = {"before": out / "tree", "now": ROOT}
    found: dict[str, dict[Key, list[float]]] = {name: {} for name in trees}
    for section in given.only:
        for turn in range(given.turns):
            for name in sorted(trees, reverse=turn % 2 == 1):
                for key, ratio in ratios(trees[name], section, out / f"{section}-{name}-{turn}.json").items():
                    found[name].setdefault(key, []).append(ratio)
        Console().print(table(found["before"], found["now"]))


if __name__ == "__main__":
    main()
