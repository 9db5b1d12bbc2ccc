"""The page of a sweep: the question, the verdict and the table first, then charts, all of one evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from easy2hard.report.chart import Axis, Chart, Line, Mark
from easy2hard.report.charts import ROUND, floor_of
from easy2hard.report.compare import differing_texts, settings_text, spread_line
from easy2hard.report.html import Section, filled
from easy2hard.report.series import by_greater_number
from easy2hard.report.svg import STYLES
from easy2hard.sweep.plan import Sweep
from easy2hard.sweep.row import Row
from easy2hard.sweep.verdict import Summary, gap_text, table, verdict

if TYPE_CHECKING:
    from easy2hard.sweep.execute import Laboratory

WHOLE = "\u00a0to\u00a0"
"""A range is not broken into lines."""


@dataclass(frozen=True)
class Comparison:
    """What a sweep asks and what came out: a sentence, a table of its variants, and notes."""

    question: str
    verdict: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def compared(sweep: Sweep, found: Sequence[Summary]) -> Comparison:
    """Return what a sweep came to so far."""
    head, lines = table(found, sweep.bar)
    rows = [row for each in found for row in each.rows]
    notes = []
    if asked := {row.examples for row in rows if row.examples}:
        notes.append(f"reach and exact match: {max(asked):,} prompts each, members' mean, after the last round")
    if any(each.place and each.place[0] != each.place[1] for each in found):
        notes.append("a place such as 2 to 4 is not ranked further: the ranges overlap")
    if still_open := sum(row.status == "open" for row in rows):
        notes.append(f"{still_open} of {len(rows)} runs are not begun, or interrupted")
    for row in rows:
        if row.status not in ("finished", "open"):
            notes.append(": ".join(filter(None, (row.run, row.status, row.reason))))
    return Comparison(sweep.description, verdict(found), head, lines, notes)


def render(laboratory: "Laboratory", found: Sequence[Summary], comparison: Comparison) -> str:
    """Return the page."""
    sweep, name = laboratory.sweep, laboratory.out.resolve().name
    first = {run.variant: run for run in reversed(laboratory.runs)}
    flat = [settings_text(first[each.variant].settings) for each in found]
    marked = [f"{each.variant}: {signal}" for each in found for signal in each.rows[0].supervised_signals]
    return filled(
        "sweep.html",
        title=comparison.question or f"Sweep {name}",
        name=name,
        folder=laboratory.out,
        comparison=comparison,
        rows=[[each.replace(" to ", WHOLE) for each in line] for line in comparison.rows],
        gaps=[(each.variant, gap_text(each)) for each in found if each.values("gap_exact_match")],
        evaluation=(
            "Every figure and chart is of this one evaluation, on prompts that no run trained on, the same for all "
            "runs of a seed. Means, and ranges over seeds."
        ),
        notes=[f"{line} uses true answers beyond the supervised range: NOT self-improvement" for line in marked],
        sections=[section for section in sections(found, sweep.bar) if section.charts],
        runs=[_line(row) for each in found for row in each.rows],
        variants=[each.variant for each in found],
        differing=[[key, *values] for key, values in differing_texts(flat)],
    )


def _line(row: Row) -> list[str]:
    values = [row.reach, row.at_compared, row.rounds, row.steps, row.seconds]
    return [row.run, row.status, *("-" if value is None else f"{value:,}" for value in values)]


def sections(found: Sequence[Summary], bar: float) -> list[Section]:
    """Return the parts of the page with charts; those of a kind have the same axes."""
    return [
        Section("accuracy", "How far did it get?", "", _accuracy(found, bar)),
        Section(
            "labels",
            "Can the labels be trusted?",
            "What each round trained on, judged by the oracle afterwards.",
            [
                *_by_round(found, "Label precision", "label precision (share)", lambda row: row.precision, share=True),
                *_by_round(found, "Labels kept", "labels kept", lambda row: row.kept),
            ],
        ),
    ]


def _accuracy(found: Sequence[Summary], bar: float) -> list[Chart]:
    """Return exact match by difficulty, panel by panel; those of a task have the same axes."""

    def scores(row: Row) -> dict[float, float]:
        return by_greater_number(dict(zip(row.evaluated, row.exact_match, strict=True)))

    charts = []
    for task in dict.fromkeys(each.rows[0].task for each in found):
        own = [each for each in found if each.rows[0].task == task]
        places = [x for each in own for row in each.measured for x in scores(row)]
        at = max((at for each in own for at in each.values("compared_at")), default=0)
        for title, panel in _panels(own):
            charts.append(
                Chart(
                    f"Exact match by difficulty{title}",
                    f"After the last round; {at:g} is where all are compared.",
                    Axis(f"difficulty of {task}", min(places, default=0), max(places, default=1), integers=True),
                    Axis("exact match (share)", 0, 1),
                    _lines(panel, scores),
                    level=bar,
                    marks=[Mark(at, f"compared at {at:g}")],
                )
            )
    return [chart for chart in charts if not chart.empty]


def _by_round(
    found: Sequence[Summary],
    title: str,
    label: str,
    values: Callable[[Row], Sequence[float | None]],
    share: bool = False,
) -> list[Chart]:
    """Return a figure of each round, panel by panel, all with the same axes."""

    def by_round(row: Row) -> dict[float, float]:
        return {float(number): value for number, value in enumerate(values(row), start=1) if value is not None}

    panels = [(more, _lines(panel, by_round)) for more, panel in _panels(found)]
    lines = [line for _, each in panels for line in each]
    last = max((x for line in lines for x, _ in line.points), default=1)
    low = floor_of(lines) if share else 0
    high = 1 if share else max((high for line in lines for _, _, high in (line.band or _flat(line))), default=1)
    note = f"Of each round.{f' The axis begins at {low}.' if low else ''}"
    x, y = Axis(ROUND.label, 1, last, integers=True), Axis(label, low, high)
    charts = [Chart(f"{title}{more}", note, x, y, each) for more, each in panels]
    return [chart for chart in charts if not chart.empty]


def _flat(line: Line) -> list[tuple[float, float, float]]:
    return [(x, y, y) for x, y in line.points]


def _panels(found: Sequence[Summary]) -> Iterator[tuple[str, Mapping[str, Sequence[Row]]]]:
    """Yield what is drawn into one chart: all variants, or of too many those with one value of the last axis.

    Returns:
        What the title ends with, and the runs of each line by its name.
    """
    groups: dict[str, dict[str, Sequence[Row]]] = {}
    for each in found:
        row = each.rows[0]
        *before, (axis, value) = row.axes.items()
        if len(found) <= STYLES or not before:
            groups.setdefault("", {})[each.variant] = each.rows
        else:
            name = "-".join(value for _, value in before) + (" with the oracle" if row.reference else "")
            value = value.removesuffix("-oracle") if row.reference else value
            groups.setdefault(f": {axis} {value}", {})[name] = each.rows
    for title, lines in groups.items():
        named = list(lines.items())
        parts = [named[at : at + STYLES] for at in range(0, len(named), STYLES)]
        for number, part in enumerate(parts, start=1):
            yield title + (f" ({number} of {len(parts)})" if len(parts) > 1 else ""), dict(part)


def _lines(panel: Mapping[str, Sequence[Row]], values: Callable[[Row], Mapping[float, float]]) -> list[Line]:
    """Return the mean and the range of the seeds of each line."""
    return [
        spread_line(name, style, [values(row) for row in rows if row.reach is not None])
        for style, (name, rows) in enumerate(panel.items())
    ]
