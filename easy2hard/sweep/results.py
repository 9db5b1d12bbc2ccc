"""What the runs of a sweep came to: a row for each run, and of all rows the table, the figures and the page."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from easy2hard.errors import UserError
from easy2hard.evaluation.exact_match import baseline_accuracy
from easy2hard.files import write_file
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.final_evaluation import Outcome, outcome
from easy2hard.runs.frames import as_frame
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.runs.preflight import planned_frontier
from easy2hard.settings.schema import Settings
from easy2hard.sweep.execute import Laboratory
from easy2hard.sweep.page import Comparison, compared, render
from easy2hard.sweep.row import Row, parquet, results_table
from easy2hard.sweep.trial import Trial
from easy2hard.sweep.verdict import summaries
from easy2hard.tasks.base import hardest, parse_difficulty

if TYPE_CHECKING:
    import pandas as pd

WRITTEN = ("results.parquet", "results.json", "report.html")
"""What a sweep writes beside its runs."""


@dataclass(frozen=True)
class SweepResults:
    """What a sweep came to so far."""

    rows: list[Row]
    """One for each run."""
    comparison: Comparison
    """The question, the verdict, and a line for each variant."""
    written: list[Path]
    """``results.parquet``, ``results.json`` and ``report.html``."""
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
    if processes < 1:
        raise UserError(f"processes = {processes}: at least 1")
    laboratory.check()
    if jobs is None:
        laboratory.bring_to_end(processes, say, ray)
    else:
        lines, waiting = laboratory.write_jobs(jobs)
        more = f"; {waiting} more once the supervised phases among them have ended" if waiting else ""
        say(f"{jobs}: {lines} command lines{more}")
    return collect(laboratory)


def collect(laboratory: Laboratory) -> SweepResults:
    """Measure what has ended, and write ``results.parquet``, ``results.json`` and the page ``report.html``."""
    common = common_difficulties(run.settings for run in laboratory.runs)
    rows = with_gaps([row_of(laboratory, run, common[task_of(run.settings)]) for run in laboratory.runs])
    sweep, out = laboratory.sweep, laboratory.out
    found = summaries(rows)
    comparison = compared(sweep, found)
    whole = {
        "question": comparison.question,
        "verdict": comparison.verdict,
        "examples": sweep.examples,
        "bar": sweep.bar,
        "variants": [each.as_json() for each in found],
        "runs": [asdict(row) for row in rows],
    }
    out.mkdir(parents=True, exist_ok=True)
    page = render(laboratory, found, comparison)
    contents = (parquet(rows), (json.dumps(whole, indent=1) + "\n").encode(), page.encode(errors="replace"))
    for name, content in zip(WRITTEN, contents, strict=True):
        write_file(out / name, content)
    begun = [path for path in map(laboratory.path, laboratory.runs) if (path / "manifest.json").exists()]
    left = sum(isinstance(work, Trial) for work in laboratory.left())
    return SweepResults(rows, comparison, [out / name for name in WRITTEN], begun, left)


def common_difficulties(settings: Iterable[Settings]) -> dict[str, int]:
    """Return for each task the difficulty at which its runs are compared: the hardest that one of them sets out for."""
    found: dict[str, int] = {}
    for each in settings:
        found[task_of(each)] = max(found.get(task_of(each), 0), planned_frontier(Experiment(each)))
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
        task=task_of(run.settings),
        recipe=run.recipe,
        overrides=list(run.overrides),
        status=state.status,
        reason=state.reason,
        supervised_signals=run.settings.supervised_signals,
        oracle=run.oracle,
        reference=run.reference,
        rests_on=run.base.name if run.base else None,
    )
    if not state.ended:
        return row
    try:
        directory = RunDirectory(laboratory.path(run))
        manifest = directory.manifest
        found = outcome(directory, laboratory.sweep.examples, laboratory.sweep.bar, common)
        baseline = _baseline(run.settings, laboratory.sweep.examples, common)
    except Exception as error:  # a third party's oracle, a damaged file
        return replace(row, status="failed", reason=f"{type(error).__name__}: {error}")
    return _measured(replace(row, baseline=baseline), manifest, found, common)


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


def _baseline(settings: Settings, examples: int, common: int) -> float | None:
    """Return the exact match of the task's baseline where the runs on this task are compared; None without one."""
    experiment = Experiment(settings)
    task = experiment.task
    there = [each for each in task.evaluated_difficulties(task.capped(common)) if hardest(each) == common]
    found = baseline_accuracy(task, experiment.oracle, settings.seed, there, examples)
    return sum(found.values()) / len(found) if found else None


def with_gaps(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their gaps: two runs of a seed begin alike and are asked the same evaluation prompts."""
    of = {(row.variant, row.seed): row for row in rows if row.reach is not None}
    found = []
    for row in rows:
        oracle = of.get((row.oracle, row.seed)) if row.oracle else None
        if oracle and oracle.reach is not None and row.reach is not None:
            row = replace(row, gap_reach=oracle.reach - row.reach)
            if oracle.at_compared is not None and row.at_compared is not None:
                row = replace(row, gap_exact_match=oracle.at_compared - row.at_compared)
        found.append(row)
    return found


def task_of(settings: Settings) -> str:
    """Return the task and its options: runs on others are not compared."""
    options = "".join(f" {name}={value}" for name, value in settings.task.options.items())
    return settings.task.name + options
