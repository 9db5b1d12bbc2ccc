"""What each filter makes of one and the same base: rounds that branch off a supervised phase, for expensive bases.

    python -m studies.branches forward-addition-cpu --filters none length vote vote+length [--set rounds.count=3]

Filters are joined by "+", in the order they are applied. Each has the recipe's settings where the recipe has it, and
those of `JURIES` or the defaults elsewhere. The collapse watch is off: it would end what this wants to see. Unlike the
sweeps `filters-copy` and `filters-reverse`, members and steps are the same for all.

With --seconds every branch has so much time for its rounds instead of so many rounds. None begins later; the last one
may end later. All judges at equal time, three members each, with the recipes' watch, which holds what is not known yet:

    python -m studies.branches reverse-addition-vote-cpu --seconds 480 --filters vote majority weighted-vote \\
        co-teaching parts parts+vote confidence length none --set watch.enabled=true supervised.difficulty=8 \\
        supervised.steps=1500 supervised.warmup=60 supervised.decay=750 training.batch=128
    python -m studies.branches forward-addition-cpu --seconds 300 --filters vote majority weighted-vote \\
        co-teaching parts parts+vote confidence length none --set watch.enabled=true model.members=3 \\
        supervised.steps=500 supervised.warmup=30 supervised.decay=350 rounds.steps=50 rounds.warmup=5 \\
        rounds.decay=40 labels.count=800 schedule.stride=1
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
from studies.tables import inline

JURIES = {
    "vote": {"name": "vote", "threshold": 1.0},
    "majority": {"name": "vote", "threshold": 0.6},
    "weighted-vote": {"name": "vote", "threshold": 0.7, "weights": "agreement"},
    "co-teaching": {"name": "vote", "threshold": 1.0, "voters": "others"},
    "confidence": {"name": "confidence", "keep": 0.8},
}
"""Filters as they are where the recipe has none of the name."""
COUNT = 200
"""Rounds at most where time is what ends a branch."""


def filters_text(recipe: Settings, names: str) -> str:
    """Return the setting that has these filters, as the recipe has them where it does."""
    known = JURIES | {each.name: each.model_dump(exclude_none=True) for each in recipe.labels.filters}
    return f"labels.filters={inline([known.get(name, {'name': name}) for name in names.split('+')])}"


def branch(options: argparse.Namespace, seed: int, names: str) -> dict[str, Any]:
    """Return what a branch came to, run until its end."""
    name = f"{options.recipe}-seed{seed}"
    common = ["watch.enabled=false", *options.more, f"seed={seed}"]
    base = finished(options.out / f"{name}-base", options.recipe, [*common, "rounds.count=0"])
    chosen = [filters_text(load_recipe(options.recipe, common), names)]
    out = options.out / f"{name}-{names}"
    if options.seconds is not None:
        # A budget counts all rounds, the base's among them.
        minutes = (base.manifest.rounds[0].seconds + options.seconds) / 60
        common = [f"rounds.count={COUNT}", *common]
        chosen += [f"budget.minutes={minutes}"]
        out = options.out / f"{name}-{names}-{options.seconds:g}s"
    settings = load_recipe(options.recipe, [*common, *chosen])
    store = Store(out) if out.exists() else Store(base.path).branch(out, 0, settings)
    run = bring_to_end(store, out, settings)
    rounds = run.manifest.rounds[1:]
    spent = {"rounds": len(rounds), "seconds": round(sum(record.seconds for record in rounds), 1)}
    return {"seed": seed, "filters": names, **spent, **outcome(run, options.examples).model_dump()}


def by_round(row: dict[str, Any]) -> tuple[str, str]:
    """Return the share of all kept labels that are right, and difficulty, labels kept and their precision by round."""
    kept = [(count, share) for count, share in zip(row["kept"], row["precision"], strict=True) if share is not None]
    total = f"{sum(count * share for count, share in kept) / sum(count for count, _ in kept):.4f}" if kept else "-"
    shares = ("-" if share is None else f"{share:.3f}" for share in row["precision"])
    each = zip(row["difficulties"], row["kept"], shares, strict=True)
    return total, "; ".join(f"{span}: {count} {share}" for span, count, share in each)


def main() -> None:
    """Run what has not ended yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--filters", nargs="+", default=["none", "length", "vote", "vote+length"])
    parser.add_argument("--seconds", type=float, help="time of each branch's rounds; default: the recipe's rounds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--examples", type=int, default=500, help="evaluation prompts of each difficulty")
    parser.add_argument("--last", type=int, default=8, help="hardest difficulties that the table shows")
    parser.add_argument("--set", nargs="*", default=[], dest="more", help="more settings for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/branches"))
    options = parser.parse_args()
    rows = [branch(options, seed, names) for seed in options.seeds for names in options.filters]
    columns = ["seed", "filters", "rounds", "seconds", "kept", "precision", "by round", "reach at 0.99", "exact match"]
    table = Table(*columns)
    for row in rows:
        precision, rounds = by_round(row)
        own = (row["seed"], row["filters"], row["rounds"], row["seconds"], sum(row["kept"]), precision, rounds)
        scores = list(row["exact_match"].items())[-options.last :]
        table.add_row(*map(str, own), str(row["reach"]), " ".join(f"{name}: {value:.3f}" for name, value in scores))
    (options.out / f"{options.recipe}.json").write_text(json.dumps(rows, indent=1))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
