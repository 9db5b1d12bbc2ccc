"""The paper's study of label noise: wrong labels in one round, and what becomes of them in the rounds after it.

    python -m studies.noise [--recipe copy-vote-cpu] [--seeds 0 1 2] [--rounds 2] [--after 3]

For every kind of noise and share, a run branches off just before the spoilt round. The table and the picture show exact
match at the hardest difficulty trained on so far, after the spoilt round and each of the rounds that follow.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.rounds import NoiseSettings
from easy2hard.tasks.base import difficulty_text, hardest
from studies.common import bring_to_end, finished

KINDS = get_args(NoiseSettings.model_fields["kind"].annotation)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def frontiers(run: RunDirectory, first: int) -> list[float]:
    """Return exact match at the frontier after round ``first`` and each round after it."""
    return [
        record.accuracy[difficulty_text(max(record.difficulties, key=hardest))]
        for record in run.manifest.rounds[first:]
    ]


def curve(options: argparse.Namespace, seed: int, spoilt: int, kind: str, share: float) -> list[float]:
    """Return the frontiers of one run with noise, begun where the clean run was before the spoilt round."""
    common = ["watch.enabled=false", f"rounds.count={spoilt + options.after}", *options.more, f"seed={seed}"]
    clean = finished(options.out / f"{options.recipe}-seed{seed}-to{spoilt + options.after}", options.recipe, common)
    if not share:
        return frontiers(clean, spoilt)
    noise = f'noise={{round={spoilt},kind="{kind}",share={share}}}'
    settings = load_recipe(options.recipe, [*common, noise])
    out = options.out / f"{options.recipe}-seed{seed}-round{spoilt}-{kind}-{share}"
    store = Store(out) if out.exists() else Store(clean.path).branch(out, spoilt - 1, settings)
    return frontiers(bring_to_end(store, out, settings), spoilt)


def main() -> None:
    """Run what has not ended yet, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="copy-vote-cpu")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", nargs="+", type=int, default=[2], help="rounds to spoil, one in each run")
    parser.add_argument("--after", type=int, default=3, help="rounds that follow")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    parser.add_argument("--set", nargs="*", default=[], dest="more", help="more settings for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/noise"))
    options = parser.parse_args()
    table = Table("round", "kind", "share", *(f"+{number}" for number in range(options.after + 1)))
    rows = []
    for spoilt in options.rounds:
        for kind in options.kinds:
            for share in options.shares:
                curves = [curve(options, seed, spoilt, kind, share) for seed in options.seeds]
                rows.append({"round": spoilt, "kind": kind, "share": share, "curves": curves})
                means = [mean(values) for values in zip(*curves, strict=True)]
                table.add_row(str(spoilt), kind, f"{share:.2f}", *(f"{value:.3f}" for value in means))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "noise.json").write_text(json.dumps(rows, indent=1))
    Console(width=120).print(table)
    draw(rows, options.out / "noise.png")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each kind and round: exact match at the frontier, a line for each share."""
    panels = list(dict.fromkeys((row["round"], row["kind"]) for row in rows))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.2 * len(panels), 3), sharey=True, layout="constrained", squeeze=False
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        mine = [row for row in rows if (row["round"], row["kind"]) == panel]
        for index, row in enumerate(mine):
            columns = list(zip(*row["curves"], strict=True))
            shade = str(0.75 - 0.75 * index / max(len(mine) - 1, 1))
            axis.plot(
                range(len(columns)), [mean(c) for c in columns], color=shade, marker=".", label=f"{row['share']:.0%}"
            )
            axis.fill_between(
                range(len(columns)), *zip(*((min(c), max(c)) for c in columns), strict=True), color=shade, alpha=0.1
            )
        axis.set_title(f"{panel[1]}, round {panel[0]}", fontsize=9)
        axis.set_xlabel("rounds after the spoilt one")
        axis.set_xticks(range(len(columns)))
    axes[0][0].set_ylabel("exact match at the frontier")
    axes[0][-1].legend(title="spoilt", fontsize=7)
    figure.savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
