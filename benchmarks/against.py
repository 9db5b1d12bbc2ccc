"""This commit beside another one, in turn on one machine: what got slower?

    python -m benchmarks.against COMMIT [--only train answers …] [--out runs/against] [--turns 2]

Each section of benchmarks/bench.py runs by the other commit, by this one, by this one and by the other one again: what
drifts on a machine falls on both alike. A commit's figure is the median of its turns' ratios to the peer; beside it
stands what became of our own amounts alone, since the peer's vary, too. Benches of different days are not to be
compared. The working tree is this commit, changes included.
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
Found = dict[Key, list[tuple[float, float]]]
"""Of each row and turn, the ratio to the peer, and our own amount."""
ROOT = Path(__file__).resolve().parents[1]


def unpack(commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def measured(tree: Path, section: str, out: Path) -> dict[Key, tuple[float, float]]:
    """Return ratio and amount of a section's rows, measured by the files of a tree; ``out`` keeps them."""
    command = [sys.executable, "-m", "benchmarks.bench", "--only", section, "--out", str(out)]
    subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
    rows = json.loads(out.read_text())
    return {(row["name"], row["size"], row["difficulty"]): (row["ratio"], row["ours"]) for row in rows}


def table(before: Found, now: Found) -> Table:
    """Return medians of both commits, and their quotients, of the rows that both have."""
    made = Table("name", "size", "digits", "before", "now", "now / before", "ours alone", f"below {LEAST}")
    for key in sorted(before.keys() & now.keys()):
        (old, new), amounts = (
            [statistics.median(turn[which] for turn in each[key]) for each in (before, now)] for which in (0, 1)
        )
        name, size, digits = key
        ours = amounts[0] / amounts[1] if name == "memory" else amounts[1] / amounts[0]  # of memory less is better
        marks = [text for text, each in (("ratio", new / old), ("ours", ours)) if each < LEAST]
        cells = f"{old:.2f}", f"{new:.2f}", f"{new / old:.3f}", f"{ours:.3f}", ", ".join(marks)
        made.add_row(name, size, str(digits), *cells)
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
    if out.exists():
        parser.error(f"--out {given.out}: is there already; name a new folder")
    unpack(given.commit, out / "tree")
    trees = {"before": out / "tree", "now": ROOT}
    found: dict[str, Found] = {name: {} for name in trees}
    for section in given.only:
        for turn in range(given.turns):
            for name in reversed(trees) if turn % 2 else trees:
                for key, pair in measured(trees[name], section, out / f"{section}-{name}-{turn}.json").items():
                    found[name].setdefault(key, []).append(pair)
        Console().print(table(found["before"], found["now"]))


if __name__ == "__main__":
    main()
