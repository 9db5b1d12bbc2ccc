"""What stays of a run: one small JSON in docs/results/data. `make results` makes tables of it (studies/tables.py).

    python -m studies.record runs/ra runs/ra-b --name reverse-addition-100 --machine "EPYC, one core, shared"

Several runs are pieces of one: each of them branched off a round of the one before. The last one has all rounds; the
others tell which settings a round was made with. Rounds that no later piece went on from are left out.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easy2hard.errors import UserError
from easy2hard.evaluation.reach import reach_of
from easy2hard.report.tables import audit_rows
from easy2hard.runs.evaluations import Evaluation, chosen, kept
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RoundRecord, RunDirectory, refuse_twice
from easy2hard.runs.origins import restore
from easy2hard.runs.records import Count, DifficultyText, Number, Record, Seconds, Share
from easy2hard.settings.docs import flat
from easy2hard.settings.recipes import load_recipe, recipe_names
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import difficulty_text

DATA = Path(__file__).parents[1] / "docs" / "results" / "data"
DIGITS = 6
"""Of a share, behind the point."""


class Piece(Record):
    """Rounds made with one set of settings."""

    first: Number
    last: Number
    easy2hard: str
    commit: str
    """Of the code; empty where it is not known."""
    settings: dict[str, Any]
    """By ``section.key``: those other than the recipe's, as it was when the run was recorded."""


class Round(Record):
    """What a round came to."""

    round: Number
    difficulties: list[DifficultyText]
    proposed: Count
    kept: Count
    precision: Share | None
    """Share of the kept labels that are right; None without labels, as of the supervised phase."""
    recall: Share | None
    """Share of the right labels that were kept."""
    held: bool
    """The collapse watch turned labels down."""
    seconds: Seconds
    exact_match: dict[DifficultyText, Share]
    """At its own difficulties and at those that no round has trained on yet."""
    lowest: Share | None
    """Exact match where it is lowest, of the difficulties trained on so far; None where none was asked."""


class Study(Record):
    """What ``docs/results/data/NAME.json`` holds."""

    recipe: str
    task: str
    unit: str
    """What the difficulty counts."""
    seed: int
    machine: str
    status: str
    """Of the last piece."""
    reach: int
    """By the first evaluation (``evaluation.reach``)."""
    phase_seconds: dict[str, Seconds]
    pieces: list[Piece]
    rounds: list[Round]
    evaluations: list[Evaluation]
    """First the one that figures are taken from (``runs.evaluations.chosen``). The last round's own is one of them."""


def studied(runs: Sequence[RunDirectory], recipe: str | None, machine: str, commits: Sequence[str] = ()) -> Study:
    """Return what stays of a run.

    Args:
        runs: its pieces, in their order.
        recipe: a recipe's name or file; None for the shipped one that has the run's description.
        machine: that it ran on, and what else ran there.
        commits: of the code, one for each piece, or none.

    Raises:
        UserError: a run is no piece of the last one, has no round or a damaged file, or its recipe is not known.
    """
    refuse_twice(run.path for run in runs)
    last = runs[-1]
    restore(last)
    manifest, experiment = last.manifest, Experiment(last.settings)
    if not manifest.rounds:
        raise UserError(f"{last.path}: no round is committed yet")
    recipe = recipe or recipe_of(last)
    audits = {row["round"]: row for row in audit_rows(last, experiment.oracle)}
    newest, others = manifest.rounds[-1], kept(last)
    own = Evaluation(
        **newest.model_dump(include={"accuracy", "baseline", "round", "weights_sha256"}),
        examples=newest.examples or last.settings.evaluation.examples,  # version 0.1 did not write them down
        seed=manifest.seed,
    )
    figures = chosen(manifest, others) or own
    evaluations = [figures, *(each for each in [*others, own] if each != figures)]
    return Study(
        recipe=recipe,
        task=manifest.task,
        unit=experiment.task.unit,
        seed=manifest.seed,
        machine=machine,
        status=manifest.status,
        reach=reach_of(figures.accuracy, figures.examples),
        phase_seconds=summed(manifest.rounds),
        pieces=pieces_of(runs, load_recipe(recipe), commits),
        rounds=rounds_of(manifest.rounds, audits),
        evaluations=[Evaluation.model_validate(short(each.model_dump())) for each in evaluations],
    )


def recipe_of(run: RunDirectory) -> str:
    """Return the shipped recipe that a run was begun with, by its description."""
    for name in recipe_names():
        if load_recipe(name).description == run.settings.description:
            return name
    raise UserError(f"{run.path}: no shipped recipe has its description; --recipe RECIPE names the one to compare with")


def summed(records: Sequence[RoundRecord]) -> dict[str, float]:
    """Return the seconds of each phase, of all rounds together."""
    phases = dict.fromkeys(phase for record in records for phase in record.phase_seconds)
    return {phase: round(sum(record.phase_seconds.get(phase, 0) for record in records), 1) for phase in phases}


def pieces_of(runs: Sequence[RunDirectory], recipe: Settings, commits: Sequence[str]) -> list[Piece]:
    """Return which rounds of the last run each run made, and with which settings."""
    maker: dict[tuple[int, str], RunDirectory] = {}
    for run in runs:
        for record in run.manifest.rounds:
            maker.setdefault((record.round, record.weights_sha256), run)
    pieces = []
    for run, commit in zip(runs, commits or [""] * len(runs), strict=True):
        made = [each.round for each in runs[-1].manifest.rounds if maker[each.round, each.weights_sha256] is run]
        if not made:
            raise UserError(f"{run.path}: made no round of {runs[-1].path}, so it is no piece of it")
        version, settings = run.manifest.easy2hard, differing(run.settings, recipe)
        pieces.append(Piece(first=made[0], last=made[-1], easy2hard=version, commit=commit, settings=settings))
    return pieces


def differing(settings: Settings, recipe: Settings) -> dict[str, Any]:
    """Return the settings other than the recipe's, by ``section.key``; None where the recipe alone has one."""
    ours, its = (
        {key: _given(value) for key, value in flat(each.model_dump(mode="json", exclude={"description", "seed"}))}
        for each in (settings, recipe)
    )
    return {key: ours.get(key) for key in ours | its if ours.get(key) != its.get(key)}


def _given(value: Any) -> Any:
    """Return a value without what is not given in the tables within: a list of filters has only what was written."""
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value


def rounds_of(records: Sequence[RoundRecord], audits: Mapping[int, Mapping[str, Any]]) -> list[Round]:
    """Return what each round came to; ``audits`` has those with labels."""
    trained: set[str] = set()
    found = []
    for record in records:
        difficulties = [difficulty_text(each) for each in record.difficulties]
        own = set(difficulties) | record.accuracy.keys() - trained
        trained |= set(difficulties)
        known = [score for text, score in record.accuracy.items() if text in trained]
        values: dict[str, Any] = {
            **record.model_dump(include={"round", "proposed", "kept"}),
            "difficulties": difficulties,
            "precision": audits.get(record.round, {}).get("precision"),
            "recall": audits.get(record.round, {}).get("recall"),
            "held": record.watch is not None,
            "seconds": round(record.seconds, 1),
            "exact_match": {text: score for text, score in record.accuracy.items() if text in own},
            "lowest": min(known, default=None),
        }
        found.append(Round.model_validate(short(values)))
    return found


def short(value: Any) -> Any:
    """Return a value with no more digits than anyone reads, and so all that is in it."""
    if isinstance(value, dict):
        return {key: short(each) for key, each in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value


def json_text(study: Study) -> str:
    """Return a study as JSON with a line for each piece, round and evaluation."""
    parts = []
    for key, value in study.model_dump(mode="json").items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the record of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the run, or its pieces in their order")
    parser.add_argument("--name", required=True, help="the file's, without .json; tables name it")
    parser.add_argument("--machine", required=True, help="as RESULTS.md calls it, and what else ran on it")
    parser.add_argument("--recipe", help="to compare settings with; default: the shipped one of this description")
    parser.add_argument("--commit", nargs="*", default=[], help="of the code, one for each RUN")
    parser.add_argument("--out", type=Path, default=DATA, help="folder; default: docs/results/data")
    options = parser.parse_args()
    if len(options.commit) not in (0, len(options.runs)):
        parser.error(f"--commit: {len(options.commit)} of them for {len(options.runs)} runs; one for each, or none")
    study = studied([RunDirectory(path) for path in options.runs], options.recipe, options.machine, options.commit)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.name}.json"
    path.write_text(json_text(study))
    print(f"{path}: {len(study.rounds)} rounds, reach {study.reach}")


if __name__ == "__main__":
    main()
