"""Tables on a terminal of what commands measure: exact match by difficulty, and the audit of a run's labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from easy2hard.evaluation.audit import FALLEN, audit_ledger, first_fall, readiness_compared
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, parse_difficulty, span
from easy2hard.tasks.oracle import Oracle

Scores = Mapping[str, Mapping[Difficulty, float]]
"""Column -> difficulty -> share."""


def exact_match_json(columns: Scores) -> dict[str, dict[str, float]]:
    """Return scores by column and difficulty, as JSON has them."""
    return {
        name.replace(" ", "_"): {difficulty_text(d): round(value, 6) for d, value in scores.items()}
        for name, scores in columns.items()
    }


def exact_match_lines(columns: Scores, task: Task, manifest: Manifest) -> list[str]:
    """Return scores as a table, a line a difficulty, and notes below it."""
    lines = ["  ".join(f"{name:>{max(6, len(name))}}" for name in ["difficulty", *columns])]
    measured = columns["exact match"]
    for difficulty in measured:
        values = (f"{scores[difficulty]:>{max(6, len(name))}.4f}" for name, scores in columns.items())
        lines.append(f"{difficulty_text(difficulty):>10}  {'  '.join(values)}")
    if task.hard_split:
        lines.append(f"hard split: {task.hard_split}")
    if task.baseline:
        lines.append(f"baseline: {task.baseline}")
    shared = [text for text in manifest.rounds[0].overlap if parse_difficulty(text) in measured]
    if shared:
        lines.append(f"supervised on the same prompts, for want of others: difficulty {', '.join(shared)}")
    if manifest.learned_nothing:
        lines.append(f"the run: {manifest.learned_nothing}")
    return [*lines, *manifest.marks, *manifest.remarks]


def audit_rows(run: RunDirectory, oracle: Oracle) -> list[dict[str, Any]]:
    """Return how good the labels of each round after the first are (``audit_ledger``).

    Raises:
        UserError: a ledger is missing or changed.
    """
    return [
        {
            "round": record.round,
            "difficulties": record.difficulties,
            **audit_ledger(
                run.intact(run.ledger_path(record.round)),
                oracle,
                [each.name for each in record.filters],
            ),
            **(
                {"relabelled": audit_ledger(run.intact(run.relabelled_path(record.round)), oracle)}
                if record.relabelled
                else {}
            ),
            **({"readiness": record.readiness} if record.readiness else {}),
        }
        for record in run.manifest.rounds[1:]
    ]


def audit_lines(rows: Sequence[Mapping[str, Any]], run: RunDirectory, baseline: str | None) -> list[str]:
    """Return an audit as a table, a line a round, and below it each difficulty, filter and kind of mistake.

    Args:
        rows: of :func:`audit_rows`.
        run: the run they are of.
        baseline: what the task's baseline does; None where it has none.
    """
    names = ["round", "difficulty", "proposed", "right", "kept", "precision", "recall"]
    widths = [5, 10, 8, 7, 7, 9, 7]
    if baseline:
        names, widths = [*names, "baseline"], [*widths, 8]
    lines = [_line(names, widths)]
    for row in rows:
        right, precision, recall = (_fraction(row[key]) for key in ("proposed_precision", "precision", "recall"))
        cells = [row["round"], span(row["difficulties"]), row["proposed"], right, row["kept"], precision, recall]
        lines.append(_line([*cells, _fraction(row["baseline"])] if baseline else cells, widths))
    if rows and baseline:
        lines.append(f"baseline, the share of the same prompts that it answers rightly: {baseline}")
    for row in rows:
        lines += _round_lines(row)
    if rows:
        fallen = first_fall(rows)
        lines.append(
            "no label was kept: there is no precision"
            if not any(row["kept"] for row in rows)
            else f"label precision never fell below {FALLEN}"
            if fallen is None
            else f"label precision first fell below {FALLEN} in round {rows[fallen]['round']}"
        )
    ready = run.settings.schedule.ready
    asked = [record.readiness for record in run.manifest.rounds]
    for way, counts in readiness_compared(asked, ready).items():
        lines.append(
            f"ready from {ready}, by {way}: {counts['asked']} times asked, {counts['daring']} times yes where the"
            f" oracle says no, {counts['careful']} times no where it says yes"
        )
    return lines


def _round_lines(row: Mapping[str, Any]) -> list[str]:
    where, lines = f"round {row['round']}", []
    for difficulty, stages in row["by_difficulty"].items():
        steps = (
            f"{each['filter']} {each['kept']} ({_fraction(each['precision'])}, {_fraction(each['recall'])})"
            for each in stages
        )
        lines.append(f"{where}, {difficulty}: kept (precision, recall) after {', '.join(steps)}")
    if again := row.get("relabelled"):
        shares = f"{_fraction(again['precision'])}, {_fraction(again['recall'])}"
        lines.append(f"{where}, older rounds afresh: kept {again['kept']} of {again['proposed']} ({shares})")
    lines += [f"{where}: {count} kept labels are wrong: {kind}" for kind, count in row["errors"].items()]
    return lines


def _line(cells: Sequence[object], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(map(str, cells), widths, strict=True))


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
