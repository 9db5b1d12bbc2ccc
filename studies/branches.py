"""What each filter makes of one and the same base: rounds that branch off a supervised phase, for expensive bases.

    python -m studies.branches forward-addition-cpu --filters none length vote vote+length [--set rounds.count=3]

Filters are joined by "+", in the order they are applied, with the recipe's settings where it has the filter and the
defaults elsewhere. The collapse watch is off: it would end what this wants to see. Unlike the sweeps `filters-copy` and
`filters-reverse`, members and steps are the same for all.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from easy2hard.runs.final_evaluation import outcome
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings
from studies.common import bring_to_end, finished


def filters_text(recipe: Settings, names: str) -> str:
    """Return the setting that has these filters, as the recipe has them where it does."""
    known = {each.name: each.model_dump(exclude_none=True) for each in recipe.labels.filters}
    chosen = (known.get(name, {"name": name}) for name in names.split("+"))
    tables = (",".join(f"{key}={json.dumps(value)}" for key, value in each.items()) for each in chosen)
    return f"labels.filters=[{','.join(f'{{{each}}}' for each in tables)}]"


def branch(options: argparse.Namespace, seed: int, names: str) -> dict[str, Any]:
    """Return what a branch came to, run until its end."""
    name = f"{options.recipe}-seed{seed}"
    common = ["watch.enabled=false", *options.more, f"seed={seed}"]
    base = finished(options.out / f"{name}-base", options.recipe, [*common, "rounds.count=0"])
    settings = load_recipe(options.recipe, [*common, filters_text(load_recipe(options.recipe, common), names)])
    out = options.out / f"{name}-{names}"
    store = Store(out) if out.exists() else Store(base.path).branch(out, 0, settings)
    run = bring_to_end(store, out, settings)
    return {"seed": seed, "filters": names, **outcome(run, options.examples).model_dump()}


def main() -> None:
    """Run what has not ended yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--filters", nargs="+", default=["none", "length", "vote", "vote+length"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--examples", type=int, default=500, help="evaluation prompts of each difficulty")
    parser.add_argument("--last", type=int, default=8, help="hardest difficulties that the table shows")
    parser.add_argument("--set", nargs="*", default=[], dest="more", help="more settings for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/branches"))
    options = parser.parse_args()
    rows = [branch(options, seed, names) for seed in options.seeds for names in options.filters]
    table = Table("seed", "filters", "labels kept by round", "label precision by round", "reach at 0.99", "exact match")
    for row in rows:
        table.add_row(
            str(row["seed"]),
            row["filters"],
            " ".join(f"{span}: {kept}" for span, kept in zip(row["difficulties"], row["kept"], strict=True)),
            " ".join("-" if value is None else f"{value:.3f}" for value in row["precision"]),
            str(row["reach"]),
            " ".join(f"{name}: {value:.3f}" for name, value in list(row["exact_match"].items())[-options.last :]),
        )
    (options.out / f"{options.recipe}.json").write_text(json.dumps(rows, indent=1))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
