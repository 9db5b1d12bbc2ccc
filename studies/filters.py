"""Filters side by side at equal wall-clock: how far each climbs and how right its labels are.

    python -m studies.filters [--recipe copy-cpu] [--seeds 0 1 2] [--only none vote-3 …]

A variant with fewer members gets as many more steps: what is equal is the work of a training step times the members.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from easy2hard.config import load_recipe
from studies.common import finished, outcome

VOTE = '{name="vote",threshold=1.0}'
LENGTH = '{name="length",threshold=1}'
SURE = '{name="confidence",keep=0.8}'
TWIN = '{name="twin"}'

VARIANTS: dict[str, tuple[int, list[str]]] = {
    "none": (1, ['{name="none"}']),
    "confidence": (1, [SURE]),
    "vote-3": (3, [VOTE]),
    "vote-5": (5, [VOTE]),
    "vote-3+confidence": (3, [VOTE, SURE]),
    "vote-3+length": (3, [VOTE, LENGTH]),
    "vote-3+length+confidence": (3, [VOTE, LENGTH, SURE]),
    "vote-3+twin": (3, [VOTE, TWIN]),
    "vote-3+length+twin": (3, [VOTE, LENGTH, TWIN]),
    "twin": (1, [TWIN]),
    "length": (1, [LENGTH]),
}
"""Members, and filters in order."""

STEPS = {1: 2.7, 3: 1.0, 5: 0.62}
"""Steps of a variant by its members, relative to the recipe's: one member trains 2.7 times as many in the same time."""


def overrides(recipe: str, variant: str) -> list[str]:
    """Return the settings that make a variant of a recipe."""
    settings = load_recipe(recipe)
    members, filters = VARIANTS[variant]
    changed = [f"model.members={members}", f"rounds.filters=[{','.join(filters)}]"]
    for name, phase in (("supervised", settings.supervised), ("rounds", settings.rounds)):
        for key in ("steps", "warmup", "decay"):
            changed.append(f"{name}.{key}={round(getattr(phase, key) * STEPS[members])}")
    return changed


def main() -> None:
    """Run what has not ended yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="copy-cpu")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:5])
    parser.add_argument("--set", nargs="*", default=[], dest="more", help="more settings for every variant")
    parser.add_argument("--out", type=Path, default=Path("runs/filters"))
    options = parser.parse_args()
    table = Table("filter", "seed", "reach at 0.99", "label precision by round", "kept by round", "seconds", "status")
    for variant in options.only:
        for seed in options.seeds:
            out = options.out / f"{options.recipe}-{variant}-seed{seed}"
            settings = [*overrides(options.recipe, variant), "watch.enabled=false", *options.more, f"seed={seed}"]
            found = outcome(finished(out, options.recipe, settings))
            table.add_row(
                variant,
                str(seed),
                found["reach"],
                " ".join("-" if value is None else f"{value:.3f}" for value in found["precision"]),
                " ".join(map(str, found["kept"])),
                str(found["seconds"]),
                found["status"],
            )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
