"""What a reader wants to know first, in a sentence each: what was taught, what it reached, whether to trust it."""

from dataclasses import dataclass

from easy2hard.evaluation.audit import FALLEN, first_fall
from easy2hard.evaluation.reach import REACHED, is_missed
from easy2hard.report.chart import number
from easy2hard.report.compare import RunGroup, range_text
from easy2hard.report.rundata import RunData
from easy2hard.report.series import baseline_by_difficulty, measured_by, scores_by_difficulty
from easy2hard.tasks.base import hardest, parse_difficulty


@dataclass(frozen=True)
class Verdict:
    """The question that runs of the same settings answer, and the answer. A sentence that says nothing is empty."""

    name: str
    question: str
    reached: str
    labels: str
    baseline: str


def verdict(group: RunGroup) -> Verdict:
    """Return the verdict on a group's runs."""
    return Verdict(group.name, _question(group.runs[0]), _reached(group), _labels(group), _baseline(group.runs[0]))


def precision(run: RunData) -> float | None:
    """Return the precision of all kept labels of a run together."""
    audits = [each.audit for each in run.rounds if each.audit and each.audit["kept"]]
    kept = sum(audit["kept"] for audit in audits)
    return sum(audit["precision"] * audit["kept"] for audit in audits) / kept if kept else None


def lowest(run: RunData) -> float | None:
    """Return the label precision of a run's worst round."""
    values = [each.audit["precision"] for each in run.rounds if each.audit and each.audit["precision"] is not None]
    return min(values, default=None)


def _question(run: RunData) -> str:
    task = run.manifest.task
    if not run.supervised:
        return f"How far does {task} get with labels of its own?"
    return (
        f"Taught {task} up to {run.extent(run.supervised)} with true answers: how far does it get with its own labels?"
    )


def _reached(group: RunGroup) -> str:
    run = group.runs[0]
    measured = [each for each in group.runs if each.newest and each.newest.accuracy]
    if not measured:
        return "Nothing is measured yet."
    reaches, by = [each.reach for each in measured], measured_by([group])
    if len(reaches) > 1:
        unit = "" if run.pairs else f" {run.unit}"
        reach = f"{range_text(reaches, digits=1)}{unit}, the mean of {len(reaches)} seeds"
        return f"Reach: {reach}. Up to its reach, a run's exact match is not significantly below {REACHED:g} ({by})."
    newest = measured[0].rounds[-1].record
    if not reaches[0]:
        return f"It reaches nothing: exact match is significantly below {REACHED:g} even where it is easiest ({by})."
    missed = {hardest(parse_difficulty(d)): is_missed(s, newest.examples) for d, s in newest.accuracy.items()}
    there = max((d for d, is_below in missed.items() if not is_below), default=0)
    beyond = ""
    if there > reaches[0] and not run.pairs:
        first = min(d for d, is_below in missed.items() if is_below)
        beyond = f" At {run.extent(first)} it is below; the hardest that is not is {run.extent(there)}."
    reach = run.extent(reaches[0])
    return f"It reaches {reach}: up to there, exact match is not significantly below {REACHED:g} ({by}).{beyond}"


def _labels(group: RunGroup) -> str:
    audited = [run for run in group.runs if any(each.audit for each in run.rounds)]
    if not audited:
        reason = group.runs[0].judged
        return f"Whether its labels are right is not known here: {reason}." if reason else ""
    values = [value for value in map(precision, audited) if value is not None]
    if not values:
        return "No label was kept."
    worst = range_text([min(value for run in audited if (value := lowest(run)) is not None)])
    shares = f"{range_text(values)} of those kept are right, {worst} in the worst round"
    if min(values) == 1:
        shares = "all of those kept are right"
    falls = [
        f"in round {rounds[fallen].record.round}{f' of {run.name}' if len(audited) > 1 else ''}"
        for run in audited
        for rounds in [[each for each in run.rounds if each.audit]]
        if (fallen := first_fall([each.audit or {} for each in rounds])) is not None
    ]
    if not falls:
        return f"Its labels can be trusted: {shares}."
    return f"Its labels cannot all be trusted: {shares}. Label precision first fell below {FALLEN} {', '.join(falls)}."


def _baseline(run: RunData) -> str:
    """Return what the task's baseline has at the hardest difficulty that the run reached, or else was asked."""
    its, ours = baseline_by_difficulty(run), scores_by_difficulty(run.newest) if run.newest else {}
    shared = [d for d in its if d in ours]
    if not shared:
        return ""
    at = max((d for d in shared if d <= run.reach), default=max(shared))
    how = f" ({run.task.baseline})" if run.task else ""
    return (
        f"The task's baseline, which answers without having learned it{how}, has exact match {number(its[at])} at "
        f"{run.extent(int(at))}; this run has {number(ours[at])}."
    )
