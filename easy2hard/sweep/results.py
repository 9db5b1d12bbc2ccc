"""What the runs of a sweep came to: a row for each run, a line for each variant, a ranking where ranges allow it."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from easy2hard.files import write_file
from easy2hard.report.compare import range_text
from easy2hard.report.page import Comparison, write_report
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.final_evaluation import Outcome, outcome
from easy2hard.runs.frames import as_frame
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.runs.preflight import planned_frontier
from easy2hard.settings.schema import Settings
from easy2hard.sweep.execute import Laboratory
from easy2hard.sweep.plan import Trial
from easy2hard.tasks.base import hardest, parse_difficulty

if TYPE_CHECKING:
    import pandas as pd

LEAST = 3
"""Seeds without which a variant is not ranked: of two equal variants, three seeds each come apart by chance once in ten
times, two seeds each once in three."""

Place = tuple[int, int] | None
"""The first and the last place that a variant may have; None where it is not ranked."""


@dataclass(frozen=True)
class Row:
    """One run. Without a result, what depends on one is None or empty."""

    run: str
    variant: str
    axes: dict[str, str]
    seed: int
    recipe: str
    overrides: list[str]
    status: str
    """As ``execute.State`` has it."""
    reason: str
    """Why it failed, or was stopped."""
    supervised_signals: list[str]
    """Settings that use true answers beyond the supervised range: with any of them this is not self-improvement."""
    reach: int | None = None
    examples: int | None = None
    """Evaluation prompts of each difficulty."""
    frontier: int | None = None
    """The hardest difficulty trained on."""
    at_frontier: float | None = None
    """Exact match there."""
    compared_at: int | None = None
    """The hardest difficulty that any run of the sweep on this task sets out for."""
    at_compared: float | None = None
    """Exact match there."""
    lowest_precision: float | None = None
    precision: list[float | None] = field(default_factory=list)
    """Of each round's labels."""
    kept: list[int] = field(default_factory=list)
    difficulties: list[str] = field(default_factory=list)
    """What each round labelled."""
    evaluated: list[str] = field(default_factory=list)
    """Difficulties of ``exact_match``."""
    exact_match: list[float] = field(default_factory=list)
    rounds: int | None = None
    steps: int | None = None
    """Of a member."""
    tokens: int | None = None
    """Read in training, by all members."""
    seconds: float | None = None
    """Of all rounds, as the manifest has them."""


_TYPES = {
    **dict.fromkeys(("overrides", "supervised_signals", "difficulties", "evaluated"), pa.list_(pa.string())),
    **dict.fromkeys(("precision", "exact_match"), pa.list_(pa.float64())),
    **dict.fromkeys(("seed", "reach", "examples", "frontier", "compared_at", "rounds", "steps", "tokens"), pa.int64()),
    **dict.fromkeys(("at_frontier", "at_compared", "lowest_precision", "seconds"), pa.float64()),
    "kept": pa.list_(pa.int64()),
}
"""Columns of the Parquet file that are not texts."""


@dataclass(frozen=True)
class SweepResults:
    """What a sweep came to so far."""

    rows: list[Row]
    """One for each run."""
    comparison: Comparison
    """A line for each variant."""
    written: list[Path]
    """``results.parquet`` and, where a run has begun, ``report.html``."""
    paths: list[Path]
    """The run directories that there are."""
    left: int
    """Runs that have not ended and that no process is at."""

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(row.status == "failed" for row in self.rows)

    @property
    def frame(self) -> "pd.DataFrame":
        """A row for each run, with the columns of ``results.parquet`` (docs/sweeps.md)."""
        return as_frame(results_table(self.rows))


def bring_to_end(
    laboratory: Laboratory, processes: int, jobs: Path | None, say: Callable[[str], None], ray: str | None = None
) -> SweepResults:
    """Run what is left of a sweep, or write its command lines, and return what it came to.

    Args:
        laboratory: the sweep.
        processes: runs at a time.
        jobs: the file for command lines; None runs them.
        say: is told a line when a run begins or ends.
        ray: the address of a Ray cluster that runs them, as for :meth:`Laboratory.bring_to_end`.

    Raises:
        UserError: a setting does not fit, runs that are there were begun with others, or another process is at it.
        KeyboardInterrupt: the user interrupted; every run has been asked to keep its state, and has ended.
    """
    laboratory.check()
    if jobs is None:
        laboratory.bring_to_end(processes, say, ray)
    else:
        say(f"{jobs}: {laboratory.write_jobs(jobs)} command lines")
    return collect(laboratory)


def collect(laboratory: Laboratory) -> SweepResults:
    """Measure what has ended, write ``results.parquet`` and, where a run has begun, ``report.html``."""
    common = common_difficulties(run.settings for run in laboratory.runs)
    rows = [row_of(laboratory, run, common[_task(run.settings)]) for run in laboratory.runs]
    found = compared(laboratory.runs, rows, laboratory.sweep.bar)
    laboratory.out.mkdir(parents=True, exist_ok=True)
    written = [laboratory.out / "results.parquet"]
    write_file(written[0], parquet(rows))
    begun = [path for path in map(laboratory.path, laboratory.runs) if (path / "manifest.json").exists()]
    if begun:
        written.append(write_report(begun, laboratory.out / "report.html", found))
    return SweepResults(rows, found, written, begun, len(laboratory.left()))


def common_difficulties(settings: Iterable[Settings]) -> dict[str, int]:
    """Return for each task the difficulty at which its runs are compared: the hardest that one of them sets out for."""
    found: dict[str, int] = {}
    for each in settings:
        found[_task(each)] = max(found.get(_task(each), 0), planned_frontier(Experiment(each)))
    return found


def row_of(laboratory: Laboratory, run: Trial, common: int) -> Row:
    """Return what a run came to; a run that cannot be measured has failed, and stops nothing else.

    Args:
        laboratory: the sweep.
        run: one of its runs.
        common: the difficulty at which the runs on this task are compared.
    """
    state = laboratory.state(run)
    row = Row(
        run=run.name,
        variant=run.variant,
        axes=run.axes,
        seed=run.seed,
        recipe=run.recipe,
        overrides=list(run.overrides),
        status=state.status,
        reason=state.reason,
        supervised_signals=run.settings.supervised_signals,
    )
    if not state.ended:
        return row
    try:
        directory = RunDirectory(laboratory.path(run))
        manifest = directory.manifest
        found = outcome(directory, laboratory.sweep.examples, laboratory.sweep.bar, common)
    except Exception as error:  # a third party's oracle, a damaged file
        return replace(row, status="failed", reason=f"{type(error).__name__}: {error}")
    return _measured(row, manifest, found, common)


def _measured(row: Row, manifest: Manifest, found: Outcome, common: int) -> Row:
    def at(difficulty: int) -> float | None:
        there = [each for name, each in found.exact_match.items() if hardest(parse_difficulty(name)) == difficulty]
        return sum(there) / len(there) if there else None

    return replace(
        row,
        reach=found.reach,
        examples=found.examples,
        frontier=manifest.frontier,
        at_frontier=at(manifest.frontier),
        compared_at=common,
        at_compared=at(common),
        lowest_precision=found.lowest_precision,
        precision=found.precision,
        kept=found.kept,
        difficulties=found.difficulties,
        evaluated=list(found.exact_match),
        exact_match=list(found.exact_match.values()),
        rounds=len(manifest.rounds) - 1,
        steps=sum(record.steps for record in manifest.rounds),
        tokens=sum(record.tokens for record in manifest.rounds),
        seconds=round(sum(record.seconds for record in manifest.rounds), 1),
    )


def results_table(rows: Sequence[Row]) -> pa.Table:
    """Return the rows as a table; each axis is a column of its own, ``axis_NAME``."""
    flat = [{**asdict(row), **{f"axis_{axis}": variant for axis, variant in row.axes.items()}} for row in rows]
    schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in flat[0] if name != "axes"])
    return pa.Table.from_pylist(flat, schema)


def parquet(rows: Sequence[Row]) -> bytes:
    """Return the rows as a Parquet file."""
    content = io.BytesIO()
    pq.write_table(results_table(rows), content)
    return content.getvalue()


def places(values: Mapping[str, Sequence[float]]) -> dict[str, Place]:
    """Return for each name the first and the last place it may have, best first, by ranges alone.

    One comes before another where the least of its values is greater than the greatest of the other's. A name with
    fewer than ``LEAST`` values has no place and does not count for others; places that overlap are not ranked.

    Args:
        values: of each name, greater is better.
    """
    ranked = {name: each for name, each in values.items() if len(each) >= LEAST}
    return {
        name: (
            1 + sum(min(other) > max(each) for other in ranked.values()),
            len(ranked) - sum(max(other) < min(each) for other in ranked.values()),
        )
        if name in ranked
        else None
        for name, each in values.items()
    }


def compared(runs: Sequence[Trial], rows: Sequence[Row], bar: float) -> Comparison:
    """Return a line for each variant: mean and range of its seeds; those of one task are ranked among themselves."""
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row.variant, []).append(row)
    at = {row.compared_at for row in rows if row.compared_at is not None}
    reach, exact = f"reach at {bar:g}", f"exact match at {min(at)}" if len(at) == 1 else "exact match at the hardest"
    ranks = {
        reach: _ranks(runs, [row.reach for row in rows]),
        exact: _ranks(runs, [row.at_compared for row in rows]),
    }
    place = {
        name: {variant: each for found in tasks.values() for variant, each in found.items()}
        for name, tasks in ranks.items()
    }
    head = ["variant", "seeds", reach, "place", exact, "place", "frontier", "lowest label precision", "seconds"]
    lines = []
    for variant, own in by_variant.items():
        measured = [row for row in own if row.reach is not None]
        lines.append(
            [
                variant + (" (SUPERVISED)" if own[0].supervised_signals else ""),
                str(len(measured)) if len(measured) == len(own) else f"{len(measured)} of {len(own)}",
                range_text([row.reach for row in measured if row.reach is not None], digits=1),
                _place_text(place[reach][variant]),
                range_text([row.at_compared for row in measured if row.at_compared is not None], digits=3),
                _place_text(place[exact][variant]),
                range_text([row.frontier for row in measured if row.frontier is not None], digits=1),
                range_text([row.lowest_precision for row in measured if row.lowest_precision is not None]),
                range_text([row.seconds for row in measured if row.seconds is not None], digits=0),
            ]
        )
    notes = [
        ": ".join(filter(None, (task if len(tasks) > 1 else "", name, said)))
        for name, tasks in ranks.items()
        for task, found in tasks.items()
        if len(found) > 1 and (said := _ranking(found))
    ]
    if asked := {row.examples for row in rows if row.examples}:
        notes.append(f"reach and exact match: {max(asked):,} prompts each, members' mean, after the last round")
    if still_open := sum(row.status == "open" for row in rows):
        notes.append(f"{still_open} of {len(rows)} runs are not begun, or interrupted")
    for row in rows:
        if row.status not in ("finished", "open"):
            notes.append(": ".join(filter(None, (row.run, row.status, row.reason))))
    return Comparison(head, lines, notes)


def _ranks(runs: Sequence[Trial], values: Sequence[float | None]) -> dict[str, dict[str, Place]]:
    """Return the places of the variants of each task by a value that each run has, or has not."""
    tasks: dict[str, dict[str, list[float]]] = {}
    for run, value in zip(runs, values, strict=True):
        own = tasks.setdefault(_task(run.settings), {}).setdefault(run.variant, [])
        if value is not None:
            own.append(value)
    return {task: places(each) for task, each in tasks.items()}


def _place_text(place: Place) -> str:
    if place is None:
        return "-"
    return str(place[0]) if place[0] == place[1] else f"{place[0]} to {place[1]}"


def _task(settings: Settings) -> str:
    options = "".join(f" {name}={value}" for name, value in settings.task.options.items())
    return settings.task.name + options


def _ranking(found: Mapping[str, Place]) -> str:
    """Return what the ranking is worth where it is not a full one."""
    ranked = [place for place in found.values() if place is not None]
    if len(ranked) < 2:
        return f"no ranking: it takes {LEAST} seeds of two variants"
    if all(place == (1, len(ranked)) for place in ranked):
        return "ranking not supported by the ranges: those of all variants overlap"
    if any(first != last for first, last in ranked):
        return "a place such as 2 to 4 is not ranked further: the ranges overlap"
    return ""
