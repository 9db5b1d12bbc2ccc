"""Pretraining helps, shown small: self-improvement from a model that knows two related tasks, and from scratch.

    python -m studies.pretraining [--seeds 0 1]

A `small` model learns to copy and to add without carries (studies/related.py), is exported, and is where the runs of
one arm start from (`model.pretrained`). The other arms start from random weights of the same architecture: one takes as
many supervised steps on the third task, one also those that pretraining took. All else is the same: reverse addition,
supervised on 1-3 digits, one digit more a round.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from easy2hard.plugins import load_file
from easy2hard.runs.export import export_model
from easy2hard.runs.final_evaluation import outcome
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import parse_settings
from studies.common import bring_to_end

EASY = 3
PRETRAINING, STEPS = 500, 300
"""Supervised steps on the related tasks, and on the third."""
ARMS = {"pretrained": STEPS, "from scratch": STEPS, "from scratch, longer": PRETRAINING + STEPS}
"""Supervised steps of each arm on the third task."""


def recipe(task: str, difficulty: int, supervised: int, rounds: int, scale: float, seed: int) -> dict[str, Any]:
    """Return the settings that both arms, and the pretraining, have in common."""

    def part(share: float, steps: int = supervised) -> int:
        return max(1, round(share * steps * scale))

    return {
        "seed": seed,
        "task": {"name": task},
        "model": {"preset": "small"},
        "optimiser": {"name": "adamw", "learning_rate": 1e-3},
        "training": {"batch": 96, "groups": 6},
        "supervised": {
            "difficulty": difficulty,
            "steps": part(1),
            "warmup": part(0.05),
            "decay": part(0.4),
            "curriculum": 0.3,
        },
        "rounds": {
            "count": rounds,
            "steps": part(0.25, STEPS),
            "decay": part(0.15, STEPS),
            "learning_rate_scale": 0.3,
        },
        "labels": {
            "count": max(20, round(600 * scale)),
            "filters": [{"name": "length", "threshold": 1}, {"name": "confidence", "keep": 0.8}],
        },
        "watch": {"enabled": False},
        "evaluation": {"examples": max(10, round(200 * scale)), "beyond": 3},
    }


def run(out: Path, values: dict[str, Any]) -> RunDirectory:
    """Begin or continue a run until it ends."""
    return bring_to_end(Store(out) if out.exists() else None, out, parse_settings(values))


def pretrained(out: Path, scale: float) -> Path:
    """Return the folder of the model that has learned the two related tasks."""
    load_file(Path(__file__).with_name("related.py"))
    values = recipe("related", 4, PRETRAINING, 0, scale, seed=0)
    values["optimiser"] = {"name": "muon"}
    related = run(out / "related", values)
    print(f"related: {related.manifest.rounds[0].accuracy}")
    if not (out / "exported").exists():
        export_model(related, out / "exported")
    return out / "exported"


def main() -> None:
    """Run what has not ended yet, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of steps and labels")
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    options = parser.parse_args()
    table = Table(
        "start", "seed", "taught, 3 digits", "4 digits", "at the last frontier", "precision", "reach", "seconds"
    )
    rows = []
    for arm in options.only:
        for seed in options.seeds:
            values = recipe("reverse-addition", EASY, ARMS[arm], options.rounds, options.scale, seed)
            if arm == "pretrained":
                values["model"] = {"pretrained": str(pretrained(options.out, options.scale))}
            done = run(options.out / f"{arm.replace(',', '').replace(' ', '-')}-seed{seed}", values)
            found = outcome(done, max(10, round(500 * options.scale)))
            records = done.manifest.rounds
            frontier = [record.accuracy[str(EASY + record.round)] for record in records]
            rows.append({"arm": arm, "seed": seed, "frontier": frontier, "exact_match": found.exact_match})
            first = records[0].accuracy
            table.add_row(
                arm,
                str(seed),
                f"{first[str(EASY)]:.3f}",
                f"{first[str(EASY + 1)]:.3f}",
                f"{frontier[-1]:.3f}",
                " ".join("-" if value is None else f"{value:.2f}" for value in found.precision),
                str(found.reach),
                str(round(sum(record.seconds for record in records))),
            )
    (options.out / "pretraining.json").write_text(json.dumps(rows, indent=1))
    Console(width=120).print(table)
    draw(rows, options.out / "pretraining.png")


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw exact match at the frontier after each round, and by digits after the last one; means over the seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
    for arm, colour in zip(ARMS, ("tab:blue", "0.7", "0.4"), strict=True):
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        curves = [
            (left, [row["frontier"] for row in mine], 0),
            (right, [list(row["exact_match"].values()) for row in mine], 1),
        ]
        for axis, lines, begin in curves:
            columns = list(zip(*lines, strict=False))  # a run that got further is evaluated further
            x = range(begin, begin + len(columns))
            axis.plot(x, [mean(each) for each in columns], color=colour, marker=".", label=arm)
            axis.fill_between(x, [min(c) for c in columns], [max(c) for c in columns], color=colour, alpha=0.15)
    left.set(xlabel="round", ylabel="exact match", title="at the hardest difficulty trained on")
    right.set(xlabel="digits", title="after the last round")
    right.axvline(EASY + 0.5, color="0.8", linestyle="--")
    left.legend()
    figure.savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
