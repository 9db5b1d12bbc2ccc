"""What a whole run costs: operations counted from its settings, time from what `make bench` measured.

    python -m benchmarks.cost [reverse-addition-paper] [--scale laptop] [--labellers 1000] [--teraflops 400] [--use 0.1]

Operations are those of matrix products (benchmarks/bench.py, ``forward_flops``); a training step takes three forward
passes' worth. Hours on the measured machine are operations over the rate that benchmarks/results.json has for the
preset (``*_floor``; bfloat16 training by ``train_bfloat16_over_float32``); which machine that was, and its rates, are
said first. Hours on an accelerator are an assumption, not a measurement: its peak times the share of it that is used.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import forward_flops
from easy2hard.improvement.schedules import next_difficulties
from easy2hard.runs.experiment import Experiment
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, Task, hardest

RESULTS = Path(__file__).parent / "results.json"
NAMES = {"train": "train, rounds", "label": "label", "evaluate": "evaluate"}


def row_operations(settings: Settings, task: Task, difficulty: Difficulty) -> float:
    """Return the operations of answering one prompt of a difficulty, or of judging its answer."""
    prompts = task.sample(np.random.default_rng(0), difficulty, 8)
    prompt, answer = prompts.shape[1], float(task.answer_bounds(prompts).mean())
    return forward_flops(settings.model.size, len(task.vocabulary), round(prompt + answer) - 1, prompt - 1)


def operations(settings: Settings, task: Task) -> dict[str, float]:
    """Return the operations of a whole run by phase; an accelerated schedule is taken at its slowest."""
    easy = task.supervised_difficulties(settings.supervised.difficulty)
    history = [task.evaluated_difficulties(settings.supervised.difficulty)]
    members, rounds = settings.model.members, settings.rounds
    known: dict[Difficulty, float] = {}

    def mean(difficulties: list[Difficulty]) -> float:
        for difficulty in difficulties:
            if difficulty not in known:
                known[difficulty] = row_operations(settings, task, difficulty)
        return float(np.mean([known[difficulty] for difficulty in difficulties]))

    base = mean(easy)
    found = {"train, supervised": 3 * members * settings.supervised.steps * settings.training.batch * base}
    found |= {"label": 0.0, "train, rounds": 0.0, "evaluate": 0.0}
    for number in range(rounds.count + 1):
        if number:
            history.append(next_difficulties(settings.schedule, task, history))
            new = mean(history[-1])
            found["label"] += members * settings.labels.count * len(history[-1]) * new
            past = [(len(history[0]), base), *((len(each), mean(each)) for each in history[1:-1])]
            old = sum(weight * each for weight, each in past) / sum(weight for weight, _ in past)
            row = rounds.newest_share * new + (1 - rounds.newest_share) * old
            found["train, rounds"] += 3 * members * rounds.steps * (rounds.batch or settings.training.batch) * row
        reached = task.capped(max(map(hardest, history[-1])) + settings.evaluation.beyond)
        tested = task.evaluated_difficulties(reached)
        found["evaluate"] += members * settings.evaluation.examples * len(tested) * mean(tested)
    return found


def results() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of benchmarks/results.json by name and size."""
    return {(row["name"], row["size"]): row for row in json.loads(RESULTS.read_text())}


def measured_on(settings: Settings) -> str:
    """Return what machine the measured rates are of, and what they are."""
    row = results()["train_floor", settings.model.preset]
    found = rates(settings)
    each = ", ".join(f"{name} {found[key] / 1e9:,.0f}" for name, key in NAMES.items())
    return (
        f"Measured machine: {row.get('machine') or 'not noted (results/speed.md)'}. Preset {settings.model.preset}, "
        f"{settings.training.precision}: {each} GFLOP/s; a large float32 product reaches {row['peer']:,.0f}."
    )


def rates(settings: Settings) -> dict[str, float]:
    """Return the measured operations a second by phase."""
    rows = results()
    floor = {
        name: 1e9 * rows[f"{name}_floor", settings.model.preset]["ours"] for name in ("train", "label", "evaluate")
    }
    half = settings.training.precision == "bfloat16"
    train = floor["train"] * (rows["train_bfloat16_over_float32", "paper"]["ratio"] if half else 1)
    return {"train, supervised": train, "train, rounds": train, "label": floor["label"], "evaluate": floor["evaluate"]}


def main() -> None:
    """Print operations and hours by phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="reverse-addition-paper")
    parser.add_argument("--scale", help="shrink the recipe first")
    parser.add_argument("--labellers", type=int, default=1000, help="accelerators that label and evaluate")
    parser.add_argument("--teraflops", type=float, default=400.0, help="peak of one accelerator")
    parser.add_argument("--use", type=float, default=0.1, help="share of the peak that is used")
    options = parser.parse_args()
    settings = load_recipe(options.recipe, scale=options.scale)
    task = Experiment(settings).task
    found, measured = operations(settings, task), rates(settings)
    rate = options.teraflops * 1e12 * options.use
    print(measured_on(settings) + "\n")
    print(f"| phase | 10^15 operations | hours, measured machine | hours, 1 accelerator | hours, {options.labellers} |")
    print("|---|---|---|---|---|")
    totals = np.zeros(4)
    for name, amount in found.items():
        shared = 1 if name.startswith("train") else options.labellers
        row = np.array(
            [amount / 1e15, amount / measured[name] / 3600, amount / rate / 3600, amount / rate / 3600 / shared]
        )
        totals += row
        print(f"| {name} | " + " | ".join(f"{value:,.4g}" for value in row) + " |")
    print("| all | " + " | ".join(f"{value:,.4g}" for value in totals) + " |")


if __name__ == "__main__":
    main()
