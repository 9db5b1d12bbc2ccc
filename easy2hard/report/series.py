"""What charts of the page and figures on paper have in common: series of a run's numbers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from easy2hard.evaluation.audit import BINS
from easy2hard.report.compare import RunGroup
from easy2hard.report.rundata import RoundData, RunData
from easy2hard.runs.manifest import RoundRecord
from easy2hard.tasks.base import hardest, parse_difficulty


def scores_by_difficulty(record: RoundRecord) -> dict[float, float]:
    """Return accuracy by difficulty; of pairs, the mean by their greater number."""
    return by_greater_number(record.accuracy)


def baseline_by_difficulty(run: RunData) -> dict[float, float]:
    """Return the exact match of the task's baseline by difficulty, averaged alike; empty where it has none."""
    return by_greater_number({text: value for each in run.rounds for text, value in each.record.baseline.items()})


def by_greater_number(scores: Mapping[str, float]) -> dict[float, float]:
    """Return a value of each difficulty; of pairs, the mean by their greater number."""
    by_hardest: dict[float, list[float]] = defaultdict(list)
    for text, value in scores.items():
        by_hardest[float(hardest(parse_difficulty(text)))].append(value)
    return {d: sum(values) / len(values) for d, values in sorted(by_hardest.items())}


def measured_by(groups: Sequence[RunGroup]) -> str:
    """Return which evaluation the last round's scores are of."""
    newest = [run.newest for group in groups for run in group.runs]
    return "; ".join(dict.fromkeys(each.measured_by for each in newest if each and each.accuracy))


def scores_by_round(runs: Sequence[RunData]) -> dict[int, dict[str, list[float]]]:
    """Return every run's accuracy by round and difficulty."""
    found: dict[int, dict[str, list[float]]] = {}
    for run in runs:
        for each in run.rounds:
            for text, value in each.record.accuracy.items():
                found.setdefault(each.record.round, {}).setdefault(text, []).append(value)
    return dict(sorted(found.items()))


def frontiers(run: RunData) -> dict[int, int]:
    """Return the hardest difficulty that each round's weights were trained on; a roll-back lowers it."""
    reached: dict[int, int] = {}
    before = 0
    for record in (each.record for each in run.rounds):
        if record.from_round is not None:
            before = reached.get(record.from_round, before)
        before = max(before, *map(hardest, record.difficulties), 0)
        reached[record.round] = before
    return reached


def stage_shares(key: str, each: RoundData) -> dict[str, float]:
    """Return ``precision`` or ``recall`` after each filter, where it is known."""
    stages = each.audit["by_filter"] if each.audit else []
    return {stage["filter"]: stage[key] for stage in stages if stage[key] is not None}


def kept_shares(each: RoundData) -> dict[str, float]:
    """Return the share of the proposals that is left after each filter."""
    proposed = each.record.proposed
    return {stage.name: stage.kept / proposed for stage in each.record.filters if proposed}


def filter_names(each: RoundData) -> list[str]:
    """Return a round's filters in their order."""
    return [stage.name for stage in each.record.filters]


def signal(key: str, each: RoundData) -> float | None:
    """Return a signal of a round's labels, where it has one."""
    return each.record.signals.known.get(key) if each.record.signals else None


def reliability(rounds: Sequence[RoundData]) -> dict[float, float]:
    """Return the share that is right by the middle of a bin of confidence."""
    counted: dict[float, list[tuple[int, float]]] = defaultdict(list)
    for each in rounds:
        for bin_ in each.audit["calibration"] if each.audit else []:
            counted[bin_["from"] + 0.5 / BINS].append((bin_["count"], bin_["right"]))
    return {
        round(x, 4): sum(count * right for count, right in values) / sum(count for count, _ in values)
        for x, values in sorted(counted.items())
    }


def step_means(run: RunData, column: int, size: int) -> dict[float, float]:
    """Return a column of the training logs by step, averaged over ``size`` steps."""
    parts = [each.training[:, column] for each in run.rounds if len(each.training)]
    values = np.concatenate(parts) if parts else np.empty(0)
    return {float(begin): float(values[begin : begin + size].mean()) for begin in range(0, len(values), size)}


def after_filter(name: str) -> str:
    """Return what a line after a filter is called."""
    return "of finished answers" if name == "unfinished" else f"after {name}"


def is_one_run(groups: Sequence[RunGroup]) -> bool:
    """Return whether it is one run alone."""
    return len(groups) == 1 and len(groups[0].runs) == 1
