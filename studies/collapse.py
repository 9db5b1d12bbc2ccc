"""A collapse that is forced: wrong labels in one round, with the collapse watch and without.

    python -m studies.collapse [--recipe copy-vote-cpu] [--seeds 0] [--round 3] [--kind drop] [--share 0.3]

A clean run, watched, shows how far the recipe gets and that the watch leaves it alone. Two runs branch off just before
the spoilt round: one with the watch switched off, one with the watch as it is. Nothing tells the watch which round is
spoilt.
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from easy2hard.runs.final_evaluation import outcome
from easy2hard.runs.manifest import RoundRecord
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.rounds import NoiseSettings
from easy2hard.tasks.base import span
from studies.common import bring_to_end, finished

KINDS = get_args(NoiseSettings.model_fields["kind"].annotation)


def runs_of(options: argparse.Namespace, seed: int) -> dict[str, dict[str, Any]]:
    """Return what the three runs of a seed came to, by name."""
    common = [*options.more, f"seed={seed}"]
    name = f"{options.recipe}-seed{seed}"
    clean = finished(options.out / name, options.recipe, [*common, "watch.enabled=true"])
    runs = {"clean": clean}
    noise = f'noise={{round={options.round},kind="{options.kind}",share={options.share}}}'
    for variant, watched in (("spoilt, no watch", "false"), ("spoilt, watched", "true")):
        settings = load_recipe(options.recipe, [*common, noise, f"watch.enabled={watched}"])
        out = options.out / f"{name}-round{options.round}-{options.kind}-{options.share}-watch-{watched}"
        store = Store(out) if out.exists() else Store(clean.path).branch(out, options.round - 1, settings)
        runs[variant] = bring_to_end(store, out, settings)
    return {
        variant: {
            **outcome(run).model_dump(),
            "status": run.manifest.status,
            "rounds": [actions(record) for record in run.manifest.rounds[1:]],
        }
        for variant, run in runs.items()
    }


def actions(record: RoundRecord) -> dict[str, Any]:
    """Return what the watch saw and did in a round."""
    return {
        "difficulty": span(record.difficulties),
        "signals": record.signals.known if record.signals else {},
        "spoilt": record.spoilt,
        "watch": record.watch and f"{record.watch.action}: {record.watch.reason}",
        "from_round": record.from_round,
    }


def main() -> None:
    """Run what has not ended yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="copy-vote-cpu")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--round", type=int, default=3, help="the round to spoil")
    parser.add_argument("--kind", choices=KINDS, default="drop")
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--set", nargs="*", default=[], dest="more", help="more settings for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"))
    options = parser.parse_args()
    by_run = Table("seed", "run", "reach at 0.99", "label precision by round", "status")
    by_round = Table("seed", "run", "round", "difficulty", "spoilt", "signals", "watch")
    rows = []
    for seed in options.seeds:
        for variant, found in runs_of(options, seed).items():
            rows.append({"seed": seed, "run": variant, **found})
            precision = " ".join("-" if value is None else f"{value:.3f}" for value in found["precision"])
            by_run.add_row(str(seed), variant, str(found["reach"]), precision, found["status"])
            for number, each in enumerate(found["rounds"], 1):
                signals = " ".join(f"{name} {value:.2f}" for name, value in each["signals"].items())
                back = f" (weights of round {each['from_round']})" if each["from_round"] is not None else ""
                said = f"{each['watch']}{back}" if each["watch"] else ""
                by_round.add_row(
                    str(seed), variant, str(number), each["difficulty"], str(each["spoilt"]), signals, said
                )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.recipe}-{options.kind}-{options.share}.json").write_text(json.dumps(rows, indent=1))
    console = Console(width=200)
    console.print(by_round)
    console.print(by_run)


if __name__ == "__main__":
    main()
