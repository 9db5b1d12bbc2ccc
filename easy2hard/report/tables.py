"""Tables on a terminal of what commands measure: exact match by difficulty, and the audit of a run's labels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from easy2hard.evaluation.audit import FALLEN, audit_ledger, first_fall, readiness_compared
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Task, span
from easy2hard.tasks.oracle import Oracle
from easy2hard.text import counted

if TYPE_CHECKING:
    import pandas as pd


def exact_match_json(measured: "pd.DataFrame") -> dict[str, dict[str, float]]:
    """Return what ``Run.evaluate`` measured by column and difficulty, as JSON has it."""
    texts, columns = measured["difficulty"].tolist(), measured.columns[1:]
    return {
        name: {text: round(score, 6) for text, score in zip(texts, measured[name].tolist(), strict=True)}
        for name in columns
    }


def exact_match_table(measured: "pd.DataFrame") -> Table:
    """Return what ``Run.evaluate`` measured as a table, a row a difficulty."""
    table = _table([name.replace("_", " ") for name in measured.columns])
    for text, *scores in measured.itertuples(index=False):
        table.add_row(text, *(f"{score:.4f}" for score in scores))
    return table


def exact_match_notes(measured: "pd.DataFrame", task: Task, manifest: Manifest) -> list[str]:
    """Return what stands below the table.

    Args:
        measured: what ``Run.evaluate`` returned.
        task: of the run.
        manifest: of the run, with the scores that figures are taken from (``runs.evaluations.measured``).
    """
    lines = [manifest.rounds[-1].reach_text]
    if task.hard_split:
        lines.append(f"hard split: {task.hard_split}")
    if task.baseline:
        lines.append(f"baseline: {task.baseline}")
    shared = [text for text in manifest.rounds[0].overlap if text in set(measured["difficulty"])]
    if shared:
        lines.append(f"difficulty {', '.join(shared)}: training may have seen some of the prompts, there are so few")
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
                record.proposed,
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


def audit_table(rows: Sequence[Mapping[str, Any]], baseline: str | None) -> Table:
    """Return an audit as a table, a row a round.

    Args:
        rows: of :func:`audit_rows`.
        baseline: what the task's baseline does; None where it has none.
    """
    table = _table(
        ["round", "difficulty", "proposed", "right", "kept", "precision", "recall", *["baseline"] * bool(baseline)]
    )
    for row in rows:
        right, *others = (_fraction(row[key]) for key in ("proposed_precision", "precision", "recall"))
        cells = [str(row["round"]), span(row["difficulties"]), str(row["proposed"]), right, str(row["kept"]), *others]
        table.add_row(*cells, *[_fraction(row["baseline"])] * bool(baseline))
    return table


def audit_notes(
    rows: Sequence[Mapping[str, Any]], settings: Settings, manifest: Manifest, baseline: str | None
) -> list[str]:
    """Return what stands below the table: each difficulty, filter and kind of mistake.

    Args:
        rows: of :func:`audit_rows`.
        settings: of the run they are of.
        manifest: of the same run.
        baseline: what the task's baseline does; None where it has none.
    """
    lines = []
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
    ready = settings.schedule.ready
    asked = [record.readiness for record in manifest.rounds]
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
        lines.append(f"{where}, difficulty {difficulty}: kept (precision, recall) after {', '.join(steps)}")
    if again := row.get("relabelled"):
        shares = f"{_fraction(again['precision'])}, {_fraction(again['recall'])}"
        lines.append(f"{where}, older rounds afresh: kept {again['kept']} of {again['proposed']} ({shares})")
    lines += [f"{where}: {counted(count, 'kept label')} wrong: {kind}" for kind, count in row["errors"].items()]
    return lines


def _table(head: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, justify="right")
    return table


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
